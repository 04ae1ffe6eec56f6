"""Checks of features.composite, and of the keys that mean something with a composite only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise

from eo_assets.project import Composite, EOPatches, Features, Imagery, Maps
from eo_assets.project_problems import Finding, KeyPath, did_you_mean, listed

COMPOSITE: KeyPath = ("features", "composite")


def check_validity_threshold(features: Features) -> Iterator[Finding]:
    """Leaving out poor dates of a tile leaves tiles with different dates, and so with different model columns."""
    if features.validity_threshold is None:
        return
    key: KeyPath = ("features", "validity_threshold")
    if features.composite == "none":
        what = "a validity threshold without a composite would leave tiles with different numbers of dates"
        yield Finding(key, features.validity_threshold, what, "remove it, or give features.composite")
    elif features.mask is None:
        yield Finding(key, features.validity_threshold, "nothing is ever invalid", "name a mask in features.mask")


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
    for day in (day for day in days if not first <= day <= end):
        what = f"outside of imagery.time_interval, {first.isoformat()} to {last.isoformat()}"
        yield Finding((*COMPOSITE, "periods"), day, what, f"choose days from {first} to {end}, or widen the interval")


def check_number_of_periods(imagery: Imagery, features: Features) -> Iterator[Finding]:
    """A period is a day at least."""
    composite = features.composite
    if not isinstance(composite, Composite) or not isinstance(composite.periods, int):
        return
    days = (imagery.time_interval[1] - imagery.time_interval[0]).days + 1
    if composite.periods > days:
        what = f"more periods than the {days} days of imagery.time_interval"
        yield Finding((*COMPOSITE, "periods"), composite.periods, what, "choose fewer")


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


def check_gaps(features: Features) -> Iterator[Finding]:
    """A longest gap is for gaps that are filled."""
    composite = features.composite
    if isinstance(composite, Composite) and composite.gaps.method == "none" and composite.gaps.max_days is not None:
        what, remedy = "no gap is filled", "remove it, or give gaps.method linear or nearest"
        yield Finding((*COMPOSITE, "gaps", "max_days"), composite.gaps.max_days, what, remedy)


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


def check_min_observations(features: Features, maps: Maps) -> Iterator[Finding]:
    """Observations are counted where there is a composite."""
    if maps.min_observations is not None and features.composite == "none":
        what = "observations are counted for composites only"
        yield Finding(
            ("maps", "min_observations"), maps.min_observations, what, "remove it, or give features.composite"
        )
