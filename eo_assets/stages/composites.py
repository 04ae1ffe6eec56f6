"""The acquisitions of a tile as one value a period, read and composited by blocks of rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.composite import composite
from eo_assets.core.gaps import fill_gaps
from eo_assets.core.masks import kept_frames
from eo_assets.core.periods import Period, are_centres, centres_of, days_of, frames_of
from eo_assets.errors import TileError
from eo_assets.project import Composite, Features
from resources.eopatch_files import DATA, MASK, DigitalNumbers, column_blocks, open_array, read_timestamps, row_blocks


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
        self._settings, self._periods, self._days = settings, periods, np.asarray(days_of(periods))
        self._index = _index_bands(features, settings, band_names)
        bands = open_array(folder, DATA, features.bands)
        self._numbers, self._columns = DigitalNumbers(bands), column_blocks(bands.shape[0], bands.shape[2])
        self._mask = open_array(folder, MASK, features.mask) if features.mask else None
        self._observations = open_array(folder, DATA, settings.observations) if settings.observations else None
        times = read_timestamps(folder)
        if settings.observations is not None:
            _check_frames(times, periods)
        kept = self._kept(len(times), features.validity_threshold)
        frames = [[frame for frame in held if frame in kept] for held in frames_of(periods, times)]
        self._frames = frames
        self.told = {
            "acquisitions": len(times),
            "acquisitions_below_threshold": len(times) - len(kept),
            "acquisitions_a_period": {period.label: len(held) for period, held in zip(periods, frames)},
            "composite": f"{settings.method}, {settings.gaps.in_words}",
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
        """Composite whole rows, as many columns at a time as are stored together."""
        parts = [self._part(rows, columns) for columns in self._columns]
        if len(parts) == 1:
            return parts[0]
        values, counts = (np.concatenate(arrays, axis=2) for arrays in zip(*((p.values, p.counts) for p in parts)))
        return CompositeBlock(values, counts, sum(part.filled for part in parts))

    def why_empty(self) -> str:
        """Why no pixel has a clear observation, for a person."""
        if self.told["acquisitions"] == self.told["acquisitions_below_threshold"]:
            return f"none of {self.told['acquisitions']} acquisitions is clear enough (features.validity_threshold)"
        if not any(self._frames):
            return f"none of {self.told['acquisitions']} acquisitions lies in a period of features.composite"
        return "no pixel has a clear observation in any period"

    def _part(self, rows: slice, columns: slice) -> CompositeBlock:
        """Composite a block of rows and columns and fill its gaps."""
        numbers, clear = self._numbers.read(rows, columns), self._clear(rows, columns)
        values, counts = composite(numbers, clear, self._frames, self._settings.method, self._index)
        if self._observations is not None:
            counts = self._counted(self._observations[:, rows, columns, 0], counts)
        gaps = self._settings.gaps
        values, filled = fill_gaps(values, self._days, gaps.method, gaps.max_days)
        return CompositeBlock(values, counts, int(filled.sum()))

    def _kept(self, dates: int, threshold: float | None) -> frozenset[int]:
        """The acquisitions that are clear in more than the threshold's share of the tile."""
        if threshold is None or self._mask is None:
            return frozenset(range(dates))
        height, width = self._mask.shape[1:3]
        clear = sum(self._mask[:, rows, :, 0].sum(axis=(1, 2), dtype=np.int64) for rows in row_blocks(height))
        return frozenset(kept_frames(clear, height * width, threshold))

    def _clear(self, rows: slice, columns: slice) -> NDArray[np.bool_] | None:
        """(time, rows, columns), True where an observation is clear; None where nothing says so."""
        said = [] if self._mask is None else [np.asarray(self._mask[:, rows, columns, 0], np.bool_)]
        if self._observations is not None:
            said.append(np.asarray(self._observations[:, rows, columns, 0] > 0))
        return np.logical_and.reduce(said) if said else None

    def _counted(self, observations: NDArray[Any], counts: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """What the evalscript counted (time, rows, columns), in the periods and pixels that are clear."""
        counted = [observations[frames].sum(axis=0) for frames in self._frames]
        return np.where(counts > 0, np.asarray(counted), 0).astype(np.uint16)


def _check_frames(times: Sequence[dt.datetime], periods: Sequence[Period]) -> None:
    """Frames that the evalscript composited by other periods would be composited again, and their counts added up."""
    if are_centres(times, periods):
        return
    raise TileError(
        f"its imagery holds {len(times)} frames that are not the {len(periods)} periods of features.composite: the "
        "evalscript composited by others; buy it again (--rebuy), or give features.composite the periods that it was "
        "bought with"
    )


def _index_bands(features: Features, settings: Composite, band_names: Sequence[str]) -> tuple[int, int] | None:
    """The positions of the two bands whose index decides for max_index."""
    if settings.index is None:
        return None
    first, second = features.bands_of(settings.index)
    return band_names.index(first), band_names.index(second)
