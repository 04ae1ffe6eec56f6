"""Stage 3, features: the model's columns of a tile, (time, y, x, feature) float32, NaN where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eo_assets.core.features import FeaturePlan, feature_stack
from eo_assets.core.tile import Tile
from eo_assets.project import EOPatches, Features
from eo_assets.stages.quicklooks import Thumbnail, write_feature
from eo_assets.stages.stage import StageResult, TileInputs
from resources.eopatch_files import (
    DATA,
    MASK,
    ROWS,
    DigitalNumbers,
    create_array,
    open_array,
    read_timestamps,
    row_blocks,
    write_header,
)
from resources.heap import give_back

FEATURES, OBSERVATIONS = "FEATURES", "OBSERVATIONS"


@dataclass(frozen=True, slots=True)
class FeaturesStage:
    """Indices, then bands, of every valid pixel and date."""

    features: Features
    eopatches: EOPatches
    expected_dates: int

    name: ClassVar[str] = "features"
    inputs: ClassVar[tuple[str, ...]] = ("eopatches",)
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = False
    source: ClassVar[bool] = False
    cpus: ClassVar[float] = 1.0

    def memory_bytes(self, tile: Tile) -> int:
        """Of one block: the float32 columns and their compressed copy, and the bands they are made of."""
        pixels = self.expected_dates * ROWS * tile.shape[1]
        return (350 << 20) + pixels * (8 * len(self.plan.names) + 4 * len(self.band_names))

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
        return {"features": said, "bands": list(self.band_names), "columns": list(self.plan.names)}

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Stream blocks of rows: digital numbers in, columns out."""
        folder, plan = inputs["eopatches"], self.plan
        bands = open_array(folder, DATA, self.features.bands)
        mask = open_array(folder, MASK, self.features.mask) if self.features.mask else None
        write_header(output, tile, read_timestamps(folder))
        shape = (bands.shape[0], *tile.shape, len(plan.names))
        columns = create_array(output, DATA, FEATURES, shape, "float32")
        numbers, picture = DigitalNumbers(bands), Thumbnail(tile.shape)

        def make(rows: slice) -> int:
            """Store one block of rows and count its valid values; it is gone before the next one is made."""
            valid = None if mask is None else mask[:, rows, :, 0]
            block = feature_stack(numbers.read(rows), numbers.factor, valid, plan)
            columns[:, rows] = block
            picture.add(rows, block[-1, ..., :1])
            give_back()
            return sum(int((~np.isnan(date)).all(axis=-1).sum()) for date in block)

        valid_values = sum(make(rows) for rows in row_blocks(tile.shape[0]))
        write_feature(output, picture.values()[..., 0], is_index=bool(plan.indices))
        share = valid_values / max(1, int(np.prod(shape[:3])))
        return StageResult({"dates": shape[0], "features": list(plan.names), "valid_share": round(share, 4)})


def feature_plan(features: Features, band_names: tuple[str, ...]) -> FeaturePlan:
    """Which columns the project asks for: indices in the order of the file, then the included bands."""
    keep = features.include_bands
    included = band_names if keep is True else () if keep is False else keep
    return FeaturePlan(
        names=(*features.indices, *included),
        indices=tuple((band_names.index(a), band_names.index(b)) for a, b in features.indices.values()),
        bands=tuple(band_names.index(band) for band in included),
    )
