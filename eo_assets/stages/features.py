"""Stage 3, features: the model's columns of a tile, (time, y, x, feature) float32, NaN where nothing is known.

Of the acquisitions as they are, or of their composites: one value a period, the same periods in every tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.features import FeaturePlan, feature_block
from eo_assets.core.periods import Period
from eo_assets.core.tile import Tile
from eo_assets.project import Composite, EOPatches, Features
from eo_assets.stages.composites import CompositeBlock, Compositor
from eo_assets.stages.quicklooks import Thumbnail, write_feature, write_observations
from eo_assets.stages.stage import StageResult, TileInputs
from resources.eopatch_files import (
    DATA,
    MASK,
    ROWS,
    DigitalNumbers,
    block_width,
    blocks,
    create_array,
    open_array,
    read_timestamps,
    row_blocks,
    write_header,
)

FEATURES, OBSERVATIONS = "FEATURES", "OBSERVATIONS"
COMPILER = 110 << 20
"""Bytes that numba brings into a worker."""


@dataclass(frozen=True, slots=True)
class FeaturesStage:
    """Indices, then bands, of every valid pixel and date.

    With a composite the dates are its periods, and mask/OBSERVATIONS (period, y, x, 1) uint16 counts the clear
    observations that a value was made of: 0 where there is none, also where a gap was filled.
    """

    features: Features
    eopatches: EOPatches
    expected_dates: int
    periods: tuple[Period, ...] = ()

    name: ClassVar[str] = "features"
    inputs: ClassVar[tuple[str, ...]] = ("eopatches",)
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = False
    source: ClassVar[bool] = False
    cpus: ClassVar[float] = 1.0

    def memory_bytes(self, tile: Tile) -> int:
        """Of one block: the float32 columns and their compressed copy, the bands they are made of, the composites."""
        bands, periods = len(self.band_names), len(self.periods)
        read = self.expected_dates * ROWS * block_width(self.expected_dates, tile.shape[1])
        composited = periods * ROWS * tile.shape[1]
        columns = 8 * len(self.plan.names) * (composited or read)
        worker = (350 << 20) + COMPILER
        return worker + columns + 12 * bands * composited + 4 * bands * read

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands of the data feature that the columns are made of, in stored order."""
        return self.eopatches.data[self.features.bands].source

    @property
    def plan(self) -> FeaturePlan:
        """Column names and the band positions that they are made of."""
        return feature_plan(self.features, self.band_names)

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """The features section, the order of the bands that it counts on, and the order of the columns.

        A recipe sorts the keys of a mapping, and the order of the indices is the order of the columns.
        """
        said = self.features.model_dump(mode="json")
        periods = [[period.label, period.start.isoformat(), period.end.isoformat()] for period in self.periods]
        settings = {"features": said, "bands": list(self.band_names), "columns": list(self.plan.names)}
        return settings | ({"periods": periods} if periods else {})

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Stream blocks of rows: digital numbers in, columns out."""
        folder = inputs["eopatches"]
        if isinstance(self.features.composite, Composite):
            compositor = Compositor(folder, self.features, self.features.composite, self.periods, self.band_names)
            return self._composited(compositor, tile, output)
        return self._acquired(folder, tile, output)

    def _acquired(self, folder: Path, tile: Tile, output: Path) -> StageResult:
        """The dates as they are."""
        bands = open_array(folder, DATA, self.features.bands)
        mask = open_array(folder, MASK, self.features.mask) if self.features.mask else None
        write_header(output, tile, read_timestamps(folder))
        numbers, columns = DigitalNumbers(bands), _Columns(output, tile, bands.shape[0], self.plan)
        for rows, across in blocks(bands.shape):
            valid = None if mask is None else mask[:, rows, across, 0]
            columns.write(rows, across, *feature_block(numbers.read(rows, across), numbers.factor, valid, self.plan))
        return columns.finish()

    def _composited(self, compositor: Compositor, tile: Tile, output: Path) -> StageResult:
        """One date a period, and how many observations it has."""
        write_header(output, tile, compositor.timestamps)
        columns = _Columns(output, tile, len(self.periods), self.plan)
        observations = _Observations(output, tile, len(self.periods))
        for rows in row_blocks(tile.shape[0]):
            block = compositor.block(rows)
            columns.write(rows, slice(None), *feature_block(block.values, compositor.factor, None, self.plan))
            observations.write(rows, block)
        told = {**columns.finish().numbers, **compositor.told, **observations.finish()}
        return StageResult(told, empty=None if observations.clear else compositor.why_empty())


class _Columns:
    """Writes FEATURES block by block and counts its valid values; a block is gone before the next one is made."""

    def __init__(self, output: Path, tile: Tile, dates: int, plan: FeaturePlan) -> None:
        self._output, self._plan = output, plan
        self._shape = (dates, *tile.shape, len(plan.names))
        self._array = create_array(output, DATA, FEATURES, self._shape, "float32", fast=True)
        self._picture = Thumbnail(tile.shape)
        self._valid = 0

    def write(self, rows: slice, across: slice, block: NDArray[np.float32], complete: int) -> None:
        """Columns (time, rows, across, feature), and how many pixels of all dates have every one."""
        self._array[:, rows, across] = block
        self._picture.add(rows, block[-1, ..., :1], slice(across.start or 0, None))
        self._valid += complete

    def finish(self) -> StageResult:
        """The picture of the last date's first column, and what to tell."""
        write_feature(self._output, self._picture.values()[..., 0], is_index=bool(self._plan.indices))
        share = self._valid / max(1, int(np.prod(self._shape[:3])))
        return StageResult(
            {"dates": self._shape[0], "features": list(self._plan.names), "valid_share": round(share, 4)}
        )


class _Observations:
    """Writes the counts of clear observations (period, y, x, 1), and what they come to: `clear` are all of them."""

    def __init__(self, output: Path, tile: Tile, periods: int) -> None:
        self._output, self._picture = output, Thumbnail(tile.shape)
        self._array = create_array(output, MASK, OBSERVATIONS, (periods, *tile.shape, 1), "uint16")
        self._filled = self._gaps = self.clear = 0
        self._totals: list[tuple[int, int]] = []

    def write(self, rows: slice, block: CompositeBlock) -> None:
        """One block of rows."""
        self._array[:, rows] = block.counts[..., None]
        totals = block.counts.sum(axis=0, dtype=np.int64)
        self._picture.add(rows, totals[..., None])
        self._totals.append((int(totals.min()), int(totals.max())))
        self.clear += int(totals.sum())
        self._filled += block.filled
        self._gaps += int((block.counts == 0).sum())

    def finish(self) -> dict[str, Any]:
        """Least, mean and most of a pixel over all periods; the share of values that had no observation, and filled."""
        write_observations(self._output, self._picture.values()[..., 0])
        periods, height, width, _ = self._array.shape
        values = max(1, periods * height * width)
        return {
            "observations": {
                "least": min(low for low, _ in self._totals),
                "mean": round(self.clear / (height * width), 2),
                "most": max(high for _, high in self._totals),
            },
            "unobserved_share": round(self._gaps / values, 4),
            "filled_share": round(self._filled / values, 4),
        }


def feature_plan(features: Features, band_names: tuple[str, ...]) -> FeaturePlan:
    """Which columns the project asks for: indices in the order of the file, then the included bands."""
    keep = features.include_bands
    included = band_names if keep is True else () if keep is False else keep
    return FeaturePlan(
        names=(*features.indices, *included),
        indices=tuple((band_names.index(a), band_names.index(b)) for a, b in features.indices.values()),
        bands=tuple(band_names.index(band) for band in included),
    )
