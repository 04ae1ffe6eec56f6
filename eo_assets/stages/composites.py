"""The acquisitions of a tile as one value a period, read and composited by blocks of rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.composite import composite
from eo_assets.core.gaps import fill_gaps
from eo_assets.core.masks import kept_frames
from eo_assets.core.periods import Period, centres_of, frames_of
from eo_assets.project import Composite, Features
from resources.eopatch_files import DATA, MASK, DigitalNumbers, open_array, read_timestamps, row_blocks

EPOCH, A_DAY = dt.datetime(1970, 1, 1), dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CompositeBlock:
    """Rows of a tile: (period, rows, x, band) float32 in the units of what is stored, NaN where nothing is known.

    `counts` (period, rows, x) uint16 are clear observations, 0 also where a gap was filled; `filled` counts those.
    """

    values: NDArray[np.float32]
    counts: NDArray[np.uint16]
    filled: int


class Compositor:
    """Composites one tile. Acquisitions that are clear in too small a share of the tile are left out."""

    def __init__(
        self,
        folder: Path,
        features: Features,
        settings: Composite,
        periods: tuple[Period, ...],
        band_names: tuple[str, ...],
    ) -> None:
        self._settings, self._periods = settings, periods
        self._index = _index_bands(features, settings, band_names)
        self._numbers = DigitalNumbers(open_array(folder, DATA, features.bands))
        self._mask = open_array(folder, MASK, features.mask) if features.mask else None
        self._observations = open_array(folder, DATA, settings.observations) if settings.observations else None
        times = read_timestamps(folder)
        kept = self._kept(len(times), features.validity_threshold)
        frames = [[frame for frame in held if frame in kept] for held in frames_of(periods, times)]
        self._frames = frames
        self.told = {
            "acquisitions": len(times),
            "acquisitions_below_threshold": len(times) - len(kept),
            "acquisitions_a_period": {period.label: len(held) for period, held in zip(periods, frames)},
        }

    @property
    def timestamps(self) -> tuple[dt.datetime, ...]:
        """The centres of the periods."""
        return centres_of(self._periods)

    @property
    def factor(self) -> float:
        """What a value of a block is multiplied by to give the physical one."""
        return self._numbers.factor

    def block(self, rows: slice) -> CompositeBlock:
        """Composite a block of rows and fill its gaps."""
        numbers = self._numbers.read(rows)
        values, counts = composite(numbers, self._clear(rows), self._frames, self._settings.method, self._index)
        if self._observations is not None:
            counts = self._counted(rows, counts)
        gaps = self._settings.gaps
        days = np.asarray([(time - EPOCH) / A_DAY for time in self.timestamps])
        values, filled = fill_gaps(values, days, gaps.method, gaps.max_days)
        return CompositeBlock(values, counts, int(filled.sum()))

    def _kept(self, dates: int, threshold: float | None) -> frozenset[int]:
        """The acquisitions that are clear in more than the threshold's share of the tile."""
        if threshold is None or self._mask is None:
            return frozenset(range(dates))
        height, width = self._mask.shape[1:3]
        clear = sum(self._mask[:, rows, :, 0].sum(axis=(1, 2), dtype=np.int64) for rows in row_blocks(height))
        return frozenset(kept_frames(clear, height * width, threshold))

    def _clear(self, rows: slice) -> NDArray[np.bool_] | None:
        clear = None if self._mask is None else self._mask[:, rows, :, 0]
        if self._observations is None:
            return clear
        seen = self._observations[:, rows, :, 0] > 0
        return seen if clear is None else seen & clear

    def _counted(self, rows: slice, counts: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """What the evalscript counted, in the periods and pixels that are clear."""
        counted = np.zeros_like(counts)
        for period, frames in enumerate(self._frames):
            for frame in frames:
                counted[period] += self._observations[frame, rows, :, 0].astype(np.uint16)
        return np.where(counts > 0, counted, np.uint16(0))


def _index_bands(features: Features, settings: Composite, band_names: Sequence[str]) -> tuple[int, int] | None:
    """The positions of the two bands whose index decides for max_index."""
    named = settings.index
    if named is None:
        return None
    first, second = features.indices[named] if isinstance(named, str) else named
    return band_names.index(first), band_names.index(second)
