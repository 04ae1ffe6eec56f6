"""The darkest pixels of a band before and since the offset of 2022-01-25: a check whether it was taken out, and once.

Deep water and shadow reflect next to nothing in any year, so the lowest percentile of a band hardly moves. Digital
numbers of Sentinel-2 that hold the offset of processing baseline 04.00 are 1000 higher:
https://sentinels.copernicus.eu/web/sentinel/-/copernicus-sentinel-2-major-products-upgrade-upcoming
An offset that was taken out twice shows less: what is below 0 has become 0, which is no data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSET_FROM = dt.datetime(2022, 1, 25)
"""From this day on new products have the offset (UTC, without time zone)."""

WITH_OFFSET = ("sentinel-2-l1c", "sentinel-2-l2a")
"""Collections whose digital numbers have had the offset since."""

OFFSET = 1000.0
"""What processing baseline 04.00 adds to digital numbers."""

FACTOR = 1e-4
"""From such digital numbers to reflectance."""

STEP = 8
"""Every so many pixels are looked at, down and across."""

PERCENTILE = 0.01
LEVELS = 1 << 16
SIDES = ("before", "after")
Darkness = Mapping[str, Mapping[str, float]]
"""By `before` and `after`, by band: the first percentile of the digital numbers. What is not known is not there."""


class DarkTargets:
    """Counts digital numbers (uint16) of one data feature, block after block. Memory: 65,536 counts a band and side.

    0 is no data, as in Sentinel-2's products, and not counted; whatever else is there is, clouds among it: they are
    bright. `times` are those of the frames, UTC without time zone.
    """

    def __init__(self, bands: Sequence[str], times: Sequence[dt.datetime]) -> None:
        since = np.array([time >= OFFSET_FROM for time in times], dtype=np.bool_)
        self._bands = tuple(bands)
        self._frames = {"before": np.flatnonzero(~since), "after": np.flatnonzero(since)}
        self._counts = {
            side: np.zeros((len(bands), LEVELS), np.int64) for side, frames in self._frames.items() if len(frames)
        }

    def add(self, block: NDArray[np.uint16]) -> None:
        """A block (time, rows, x, band) of which every 8th row and column counts."""
        thinned = block[:, ::STEP, ::STEP]
        for side, counts in self._counts.items():
            chosen = thinned[self._frames[side]]
            for band in range(len(self._bands)):
                counts[band] += np.bincount(chosen[..., band].reshape(-1), minlength=LEVELS)

    def darkness(self) -> dict[str, dict[str, float]]:
        """The first percentile by side and band; a band without data on a side is left out."""
        return {
            side: {band: value for band, row in zip(self._bands, counts) if (value := _percentile(row)) is not None}
            for side, counts in self._counts.items()
        }


def _percentile(counts: NDArray[np.int64]) -> float | None:
    """The lowest number that at least 1 % of all above 0 do not exceed."""
    above = counts[1:].cumsum()
    return None if above[-1] == 0 else float(np.searchsorted(above, PERCENTILE * above[-1]) + 1)


def joined(darknesses: Iterable[Darkness]) -> dict[str, dict[str, float]]:
    """Several data features of one tile as one; bands of one name are the same tiff."""
    found: dict[str, dict[str, float]] = {}
    for darkness in darknesses:
        for side, bands in darkness.items():
            found.setdefault(side, {}).update(bands)
    return found


def median_of(tiles: Iterable[Darkness]) -> dict[str, dict[str, float]]:
    """By side and band the median over tiles."""
    values: dict[str, dict[str, list[float]]] = {}
    for darkness in tiles:
        for side, bands in darkness.items():
            for band, value in bands.items():
                values.setdefault(side, {}).setdefault(band, []).append(value)
    return {
        side: {band: float(np.median(each)) for band, each in bands.items()} for side, bands in sorted(values.items())
    }


def of_bands(darkness: Darkness, wanted: Collection[str]) -> dict[str, dict[str, float]]:
    """Of these bands alone."""
    return {side: {band: value for band, value in bands.items() if band in wanted} for side, bands in darkness.items()}


@dataclass(frozen=True, slots=True)
class OffsetVerdict:
    """What dark targets say of the offset: whether all is well, in words, and a row a band for a table."""

    passed: bool
    told: str
    rows: tuple[tuple[str, float | None, float | None, float | None], ...] = field(default=())

    def table(self) -> str:
        """Markdown: band, before, after, training."""
        lines = ["| band | before 2022-01-25 | since | training |", "|---|---|---|---|"]
        for band, *values in self.rows:
            cells = ("-" if value is None else f"{value:.0f}" for value in values)
            lines.append(f"| {band} | {' | '.join(cells)} |")
        return "\n".join(lines)


def judge(own: Darkness, training: Darkness | None = None) -> OffsetVerdict:
    """Compare what a project has before and since 2022-01-25, and either with what its model was trained on.

    Most bands that are more than half the offset apart are the sign of an offset that was left in, or taken out twice.
    """
    trained = training or {}
    bands = dict.fromkeys(band for sides in (own, trained) for side in SIDES for band in sides.get(side, {}))
    rows = tuple((band, _of(own, "before", band), _of(own, "after", band), _any(trained, band)) for band in bands)
    compared = (
        ("imagery since 2022-01-25 against imagery before", [(after, before) for _, before, after, _ in rows]),
        ("this imagery against the model's training tiles", [(_any(own, band), value) for band, _, _, value in rows]),
    )
    faults, fine, unknown = [], [], []
    for what, pairs in compared:
        known = [mine - other for mine, other in pairs if mine is not None and other is not None]
        if not known:
            unknown.append(what)
        elif 2 * sum(abs(apart) > OFFSET / 2 for apart in known) > len(known):
            faults.append(_told_fault(what, known))
        else:
            fine.append(f"{what}: {float(np.median(known)):+.0f} in the median of {len(known)} bands")
    return OffsetVerdict(not faults, _told(faults, fine, unknown), rows)


def _of(darkness: Darkness, side: str, band: str) -> float | None:
    return darkness.get(side, {}).get(band)


def _any(darkness: Darkness, band: str) -> float | None:
    """Of a band the newer side, since that is the one that an offset may be in."""
    after = _of(darkness, "after", band)
    return _of(darkness, "before", band) if after is None else after


def _told_fault(what: str, apart: Sequence[float]) -> str:
    middle = float(np.median(apart))
    return (
        f"{what}: dark pixels differ by {middle:+.0f} digital numbers in the median of {len(apart)} bands; the offset "
        "of processing baseline 04.00 is 1000: look at harmonize_values of imagery.collections, and whether the "
        "evalscript or the source takes it out as well"
    )


def _told(faults: Sequence[Any], fine: Sequence[str], unknown: Sequence[str]) -> str:
    not_known = [f"{what}: not known, one of the two has no dark pixels on record" for what in unknown]
    return "; ".join([*faults, *fine, *not_known])
