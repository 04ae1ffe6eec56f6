"""Stage 5a, samples: random blocks of labelled, valid pixels of a tile, or its points, with all their features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import sampling as draw
from eo_assets.core.features import whole_pixels
from eo_assets.core.points import Points
from eo_assets.core.tile import Tile
from eo_assets.project import PointsReference, Reference, Sampling
from eo_assets.stages.features import COMPILER, FEATURES
from eo_assets.stages.stage import StageResult, TileInputs
from resources.eopatch_files import (
    DATA,
    DATA_TIMELESS,
    MASK_TIMELESS,
    ROWS,
    block_width,
    blocks,
    create_array,
    list_chunks,
    open_array,
    read_timestamps,
    write_header,
)
from resources.point_table import read_points, write_points

MASK_OF_SAMPLES = "MASK_OF_SAMPLES"
PIXELS = "SAMPLE_PIXELS"


@dataclass(frozen=True, slots=True)
class Samples:
    """FEATURES (time, n * y, x, feature), the reference (n * y, x, 1), where each pixel lies, and a mask of counts.

    Of a points reference every point on a valid pixel is a sample, (time, n, 1, feature), two in one pixel too; what
    each says lies beside the arrays as a table.
    """

    sampling: Sampling
    reference: Reference
    expected_dates: int
    features_a_date: int

    name: ClassVar[str] = "samples"
    inputs: ClassVar[tuple[str, ...]] = ("features", "reference")
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = False
    source: ClassVar[bool] = False
    cpus: ClassVar[float] = 1.0

    def memory_bytes(self, tile: Tile) -> int:
        """A few masks of the tile, one block of features as read and compressed, and what is taken, as it is stored."""
        pixels, values = tile.shape[0] * tile.shape[1], self.expected_dates * self.features_a_date
        block = values * ROWS * block_width(self.expected_dates, tile.shape[1])
        return (350 << 20) + COMPILER + 24 * pixels + 8 * block + 8 * values * self._most_taken(pixels)

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """How blocks are drawn (not which tiles are sampled) and what counts as unlabelled."""
        if self._points:
            return {"points": True, "reference": self.reference.name, "nodata": repr(self.reference.nodata)}
        drawn = self.sampling.model_dump(mode="json", exclude={"tiles"})
        return {"sampling": drawn, "reference": self.reference.name, "nodata": repr(self.reference.nodata)}

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Draw blocks among the labelled, valid pixels of the cell and read what lies under them."""
        features = open_array(inputs["features"], DATA, FEATURES)
        reference = np.asarray(open_array(inputs["reference"], DATA_TIMELESS, self.reference.name)[:])
        write_header(output, tile, read_timestamps(inputs["features"]))
        if self._points:
            return self._take_points(read_points(inputs["reference"]), tile, features, output)
        window, cell = draw.cell_window(tile), np.zeros(tile.shape, dtype=np.bool_)
        cell[window] = True
        labelled = cell & draw.labelled(reference[..., 0], self.reference.nodata)
        valid = _valid_somewhere(features, labelled)
        known, sampleable = (mask[window] for mask in (labelled, labelled & valid))
        corners = self._corners(sampleable, tile)
        numbers = {
            "labelled_pixels": int(known.sum()),
            "eligible_pixels": int(sampleable.sum()),
            "blocks": len(corners),
        }
        if not len(corners):
            return StageResult(numbers, empty=self._why_empty(sampleable))
        pixels = draw.block_pixels(corners, self.sampling.block_size)
        self._write(output, pixels, tile, features, reference[pixels[..., 0], pixels[..., 1]])
        return StageResult({**numbers, "samples": int(pixels.shape[0] * pixels.shape[1])})

    def _most_taken(self, pixels: int) -> int:
        """The most pixels that are drawn of a tile; of points, which nobody has counted yet, a few thousand."""
        if self._points:
            return 4096
        drawn = self.sampling.number or math.ceil((self.sampling.fraction or 0) * pixels)
        return min(pixels, drawn * math.prod(self.sampling.block_size))

    @property
    def _points(self) -> bool:
        return isinstance(self.reference.source, PointsReference)

    def _take_points(self, points: Points, tile: Tile, features: Any, output: Path) -> StageResult:
        """The points whose pixel has all features on any date, with their own labels."""
        asked = np.zeros(tile.shape, dtype=np.bool_)
        asked[points.pixels[:, 0], points.pixels[:, 1]] = True
        valid = _valid_somewhere(features, asked)[points.pixels[:, 0], points.pixels[:, 1]]
        taken = points.take(valid)
        numbers = {"points": len(points.ids), "points_on_invalid_pixels": int((~valid).sum())}
        if not len(taken.ids):
            return StageResult(numbers, empty="no point lies on a valid pixel")
        self._write(output, taken.pixels[:, None], tile, features, taken.labels[:, None, None])
        write_points(output, taken)
        return StageResult({**numbers, "samples": len(taken.ids)})

    def _corners(self, sampleable: NDArray[np.bool_], tile: Tile) -> NDArray[np.int32]:
        """Upper left corners of the drawn blocks, in pixels of the tile; `sampleable` is the cell's."""
        sampling = self.sampling
        eligible = draw.eligible_blocks(sampleable, sampling.block_size)
        rng = draw.generator(sampling.seed, tile.name)
        corners = draw.draw_blocks(eligible, sampling.number, sampling.fraction, rng)
        return corners + np.asarray(tile.buffer_px, dtype=np.int32)

    def _why_empty(self, sampleable: NDArray[np.bool_]) -> str:
        if not sampleable.any():
            return "no pixel is both labelled and valid"
        height, width = self.sampling.block_size
        rows, columns = sampleable.shape
        if height > rows or width > columns:
            return f"sampling.block_size {height} x {width} is larger than the cell of {rows} x {columns} pixels"
        return f"sampling.fraction {self.sampling.fraction} of the blocks is less than one block"

    def _write(self, output: Path, pixels: NDArray[np.int32], tile: Tile, features: Any, labels: NDArray[Any]) -> None:
        _store(output, DATA, FEATURES, _read_pixels(features, pixels))
        _store(output, DATA_TIMELESS, self.reference.name, labels)
        _store(output, DATA_TIMELESS, PIXELS, pixels)
        _store(output, MASK_TIMELESS, MASK_OF_SAMPLES, draw.sample_counts(pixels, tile.shape))


def _valid_somewhere(features: Any, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(y, x), True where any date has all features. Blocks without a pixel that is asked for are not read."""
    valid = np.zeros(asked.shape, dtype=np.bool_)
    for place in blocks(features.shape):
        if asked[place].any():
            valid[place] = whole_pixels(features[:, *place])
    return valid


def _read_pixels(features: Any, pixels: NDArray[np.int32]) -> NDArray[np.float32]:
    """(time, n, x, feature) of pixels (n, x, 2), reading each block once."""
    values = np.empty((features.shape[0], *pixels.shape[:2], features.shape[3]), dtype=np.float32)
    for place in blocks(features.shape):
        corner = [axis.start for axis in place]
        here = ((pixels >= corner) & (pixels < [axis.stop for axis in place])).all(axis=-1)
        if here.any():
            found = pixels[here] - corner
            values[:, here] = features[:, *place][:, found[:, 0], found[:, 1]]
    return values


def _store(folder: Path, kind: str, name: str, values: NDArray[Any]) -> None:
    chunks = list_chunks(values.shape, values.dtype.str)
    create_array(folder, kind, name, values.shape, values.dtype.str, chunks=chunks)[:] = values
