"""Checks of features.composite, and of the keys that mean something with a composite only."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from eo_assets.core.periods import Period, days_of, periods_of
from eo_assets.project import Composite, EOPatches, Features, Imagery, Maps
from eo_assets.project_problems import MISSING, Finding, KeyPath, did_you_mean, listed

COMPOSITE: KeyPath = ("features", "composite")
LEAP_DAYS = 2
"""By so many days the distance of two periods may differ between years."""


def check_validity_threshold(features: Features) -> Iterator[Finding]:
    """Leaving out poor dates of a tile leaves tiles with different dates, and so with different model columns."""
    if features.validity_threshold is None:
        return
    key: KeyPath = ("features", "validity_threshold")
    if features.composite == "none":
        what = "a validity threshold without a composite would leave tiles with different numbers of dates"
        yield Finding(key, features.validity_threshold, what, "remove it, or give features.composite")


def check_days(imagery: Imagery, features: Features) -> Iterator[Finding]:
    """The days between which periods lie ascend, within the imagery's interval."""
    composite = features.composite
    if not isinstance(composite, Composite) or not isinstance(composite.periods, tuple):
        return
    days, (first, last) = composite.periods, imagery.time_interval
    for day, following in pairwise(days):
        if following <= day:
            what = f"not after the day before it, {day.isoformat()}"
            yield Finding((*COMPOSITE, "periods"), following, what, "list the days in order, each once")
    end = last + dt.timedelta(days=1)
    if outside := [day for day in days if not first <= day <= end]:
        more = f" and {len(outside) - 1} more lie" if outside[1:] else " lies"
        what = f"it{more} outside of imagery.time_interval, {first} to {last}"
        remedy = f"choose days from {first} to {end}, or widen the interval"
        yield Finding((*COMPOSITE, "periods"), outside[0], what, remedy)


def check_number_of_periods(imagery: Imagery, features: Features) -> Iterator[Finding]:
    """A period is a day at least."""
    composite = features.composite
    if not isinstance(composite, Composite) or not isinstance(composite.periods, int):
        return
    days = (imagery.time_interval[1] - imagery.time_interval[0]).days + 1
    if composite.periods > days:
        what = f"more periods than the {days} days of imagery.time_interval"
        yield Finding((*COMPOSITE, "periods"), composite.periods, what, "choose fewer")


def check_mask(imagery: Imagery, features: Features) -> Iterator[Finding]:
    """Without a mask the zeros where an acquisition ends, and every cloud, would be composited as observations."""
    if isinstance(features.composite, Composite) and features.mask is None and not imagery.composite_in_evalscript:
        what = "a composite of acquisitions without a mask takes no data and clouds for observations"
        yield Finding(("features", "mask"), None, what, "name one of eopatches.masks")


def check_method(features: Features) -> Iterator[Finding]:
    """An index is what max_index goes by, and nothing else."""
    composite = features.composite
    if not isinstance(composite, Composite):
        return
    key: KeyPath = (*COMPOSITE, "index")
    if composite.method == "max_index" and composite.index is None:
        remedy = f"name one of features.indices ({listed(features.indices)}), or two bands"
        yield Finding(key, MISSING, "method max_index goes by an index", remedy)
    elif composite.method != "max_index" and composite.index is not None:
        what = f"method {composite.method} goes by no index"
        yield Finding(key, composite.index, what, "remove it, or set method to max_index")


def check_index(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """What max_index goes by is an index of the project, or one of two of its bands."""
    composite = features.composite
    if not isinstance(composite, Composite) or composite.index is None or features.bands not in eopatches.data:
        return
    key, bands = (*COMPOSITE, "index"), eopatches.data[features.bands].source
    if isinstance(composite.index, str):
        if composite.index not in features.indices:
            remedy = (
                f"{did_you_mean(composite.index, features.indices)}name one of them, or two bands, as in [B08, B04]"
            )
            yield Finding(key, composite.index, f"not one of features.indices ({listed(features.indices)})", remedy)
        return
    for band in (band for band in composite.index if band not in bands):
        remedy = f"{did_you_mean(band, bands)}bands: {listed(bands)}"
        yield Finding(key, band, f"no such band in eopatches.data.{features.bands}", remedy)
    if composite.index[0] == composite.index[1]:
        yield Finding(key, composite.index, "the index of a band with itself is 0", "name two bands")


def check_gaps(imagery: Imagery, features: Features) -> Iterator[Finding]:
    """A longest gap is for gaps that are filled, and fills the same ones in every year."""
    composite = features.composite
    if not isinstance(composite, Composite) or composite.gaps.max_days is None:
        return
    key, longest = (*COMPOSITE, "gaps", "max_days"), composite.gaps.max_days
    if composite.gaps.method == "none":
        yield Finding(key, longest, "no gap is filled", "remove it, or give gaps.method linear or nearest")
        return
    spans = _spans(periods_of(imagery.time_interval, composite.periods), composite.gaps.method)
    if spans and longest < spans[0]:
        what = f"no gap is as short: the shortest takes {spans[0]:g} days from centre to centre"
        yield Finding(key, longest, what, f"give at least {math.ceil(spans[0] + LEAP_DAYS)}, or gaps.method none")
    elif near := [span for span in spans if abs(span - longest) <= min(LEAP_DAYS, spans[0] / 4)]:
        what = f"gaps take {near[0]:g} days from centre to centre here, and a day more or less in another year"
        remedy = f"give {math.ceil(near[-1] + LEAP_DAYS)}, or less than {math.floor(near[0] - LEAP_DAYS)}"
        yield Finding(key, longest, what, f"{remedy}, so that every year's gaps are filled alike")


def _spans(periods: Sequence[Period], method: str) -> list[float]:
    """The days that filling may reach over, ascending: from before a gap to behind it, or to the nearest period."""
    days = days_of(periods)
    least = 2 if method == "linear" else 1
    spans = {b - a for i, a in enumerate(days) for b in days[i + least :]}
    return sorted({round(span, 2) for span in spans})


def check_counts(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """Counts of observations are one band of an EOPatch."""
    composite = features.composite
    if not isinstance(composite, Composite) or composite.observations is None:
        return
    key, named = (*COMPOSITE, "observations"), composite.observations
    if named not in eopatches.data:
        remedy = f"{did_you_mean(named, eopatches.data)}data features: {listed(eopatches.data)}"
        yield Finding(key, named, "not one of eopatches.data", remedy)
    elif len(eopatches.data[named].source) != 1:
        yield Finding(key, named, "counts have one band, this has several", "name a data feature of one tiff")


def check_min_observations(imagery: Imagery, features: Features, maps: Maps) -> Iterator[Finding]:
    """Observations are counted where there is a composite, and no pixel has more than there are acquisitions."""
    key, least = ("maps", "min_observations"), maps.min_observations
    if least is None:
        return
    if features.composite == "none":
        what = "observations are counted for composites only"
        yield Finding(key, least, what, "remove it, or give features.composite")
    elif least > imagery.expected_dates:
        what = f"more than the {imagery.expected_dates} acquisitions of imagery.expected_dates: no pixel would be shown"
        yield Finding(key, least, what, "choose less")
