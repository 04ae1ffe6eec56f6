"""Stage 2, eopatches: tiffs to an EOPatch, dates ascending, streamed by blocks of rows."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from eo_assets.core.tile import Tile
from eo_assets.core.time_axis import ascending
from eo_assets.errors import TileError
from eo_assets.project import BandStack, EOPatches, Imagery, ValidMask
from eo_assets.stages.quicklooks import Thumbnail, write_true_colour
from eo_assets.stages.stage import StageResult, TileInputs
from eo_assets.stages.tiffs import read_dates, tiff_path
from resources.eopatch_files import (
    DATA,
    MASK,
    ROWS,
    DigitalNumbers,
    Scaling,
    create_array,
    row_blocks,
    to_digital_numbers,
    write_header,
)
from resources.tile_store import OutputRecord

Frames = NDArray[Any]
STANDS_FOR = "stands_for"
"""A number of tiffs that are not there: the stage whose adopted output they stand before."""


@dataclass(frozen=True, slots=True)
class EOPatchesStage:
    """Data features (time, y, x, band) in physical units and boolean masks (time, y, x, 1)."""

    imagery: Imagery
    eopatches: EOPatches

    name: ClassVar[str] = "eopatches"
    inputs: ClassVar[tuple[str, ...]] = ("tiffs",)
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = False
    source: ClassVar[bool] = False
    cpus: ClassVar[float] = 1.0

    def memory_bytes(self, tile: Tile) -> int:
        """A few copies of one block: all dates and bands of `ROWS` rows."""
        values = self.imagery.expected_dates * ROWS * tile.shape[1] * len(self.imagery.tiff_outputs)
        return (350 << 20) + 12 * values

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """How tiffs become features."""
        return {"eopatches": self.eopatches.model_dump(mode="json", by_alias=True)}

    def input_settings(self, tile: Tile, inputs: Mapping[str, OutputRecord]) -> Mapping[str, Any]:
        """The excluded dates that this tile's imagery has: to exclude a date touches only the tiles that used it."""
        excluded = {date.isoformat() for date in self.imagery.excluded_dates(tile.name)}
        used = inputs["tiffs"].numbers.get("acquisitions", sorted(excluded))
        left_out = sorted(excluded.intersection(used))
        return {"excluded": left_out} if left_out else {}

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Write every data feature and mask; all-invalid tiles are empty."""
        folder = inputs["tiffs"]
        if STANDS_FOR in inputs.records["tiffs"].numbers:
            raise TileError(
                f"the tiffs of {tile.name} were never here, only its EOPatch was adopted, and what the project asks of "
                f"an EOPatch has changed since; delete {tile.name}.json under _commits in the folder of the tiffs to "
                "order them, or adopt an EOPatch that fits"
            )
        # A delivery that tells no date has the one that it was bought for, whatever the project asks for now.
        bought_for = dt.datetime.fromisoformat(inputs.records["tiffs"].numbers["first_date"]).date()
        order, timestamps = self._kept(tile, *ascending(read_dates(folder, bought_for)))
        write_header(output, tile, timestamps)
        if not timestamps:
            return StageResult({"dates": 0}, empty="every date is excluded (imagery.exclude)")
        with contextlib.ExitStack() as stack:
            tiffs = _Tiffs(folder, order, stack)
            for name, bands in self.eopatches.data.items():
                _write_bands(output, name, bands, tiffs, tile)
            shares = {name: _write_mask(output, name, mask, tiffs, tile) for name, mask in self.eopatches.masks.items()}
        return _result(timestamps, shares)

    def _kept(self, tile: Tile, order: list[int], timestamps: list[dt.datetime]) -> tuple[list[int], list[dt.datetime]]:
        """The frames of dates that are not excluded."""
        excluded = self.imagery.excluded_dates(tile.name)
        kept = [(frame, time) for frame, time in zip(order, timestamps) if time.date() not in excluded]
        return [frame for frame, _ in kept], [time for _, time in kept]


class _Tiffs:
    """The open tiffs of a delivery, read by blocks of rows with their dates ascending."""

    def __init__(self, folder: Path, order: list[int], stack: contextlib.ExitStack) -> None:
        self._folder, self._order, self._stack = folder, order, stack
        self._open: dict[str, Any] = {}

    def read(self, output: str, rows: slice) -> Frames:
        """(time, rows, x) in the tiff's own type."""
        if output not in self._open:
            self._open[output] = self._stack.enter_context(rasterio.open(tiff_path(self._folder, output)))
        tiff = self._open[output]
        window = Window(0, rows.start, tiff.width, rows.stop - rows.start)
        try:
            return np.asarray(tiff.read([band + 1 for band in self._order], window=window))
        except rasterio.errors.RasterioIOError as error:
            raise TileError(
                f"{tiff.name}: rows {rows.start}-{rows.stop} can't be read: {error}; it was damaged after its "
                "delivery: delete the tile's record under _commits in the folder of the tiffs to have it delivered anew"
            ) from None


def _write_bands(output: Path, name: str, bands: BandStack, tiffs: _Tiffs, tile: Tile) -> None:
    scaling = Scaling(bands.factor)
    stored_as_numbers = scaling.divisor is not None and bands.dtype == "float32"
    picture = Thumbnail(tile.shape)
    array = None
    for rows in row_blocks(tile.shape[0]):
        block = np.stack([tiffs.read(band, rows) for band in bands.source], axis=-1)
        if array is None:
            shape = (block.shape[0], *tile.shape, block.shape[-1])
            array = create_array(output, DATA, name, shape, bands.dtype, scaling if stored_as_numbers else None)
        if stored_as_numbers:
            DigitalNumbers(array).write(rows, to_digital_numbers(block, f"{name} of {tile.name}"))
        else:
            array[:, rows] = (block.astype(np.float64) * bands.factor).astype(bands.dtype)
        picture.add(rows, block[-1])
    write_true_colour(output, picture.values() * bands.factor, bands.source)


def _write_mask(output: Path, name: str, mask: ValidMask, tiffs: _Tiffs, tile: Tile) -> float:
    array, valid_pixels, pixels = None, 0, 0
    for rows in row_blocks(tile.shape[0]):
        values = tiffs.read(mask.source, rows)
        valid = values != 0 if mask.valid == "bool" else np.isin(values, mask.valid)
        if array is None:
            array = create_array(output, MASK, name, (valid.shape[0], *tile.shape, 1), "bool")
        array[:, rows] = valid[..., None]
        valid_pixels, pixels = valid_pixels + int(valid.sum()), pixels + valid.size
    return valid_pixels / max(1, pixels)


def write_eopatch(
    output: Path, eopatches: EOPatches, timestamps: list[dt.datetime], frames: Mapping[str, Any], tile: Tile
) -> StageResult:
    """Write an EOPatch whose features each have a source of their own, by name, that is read as tiffs are.

    `timestamps` ascend, and so do the frames of the sources.
    """
    write_header(output, tile, timestamps)
    for name, bands in eopatches.data.items():
        _write_bands(output, name, bands, frames[name], tile)
    shares = {name: _write_mask(output, name, mask, frames[name], tile) for name, mask in eopatches.masks.items()}
    return _result(timestamps, shares)


def _result(timestamps: list[dt.datetime], shares: Mapping[str, float]) -> StageResult:
    rounded = {f"valid_share_{name}": round(share, 4) for name, share in shares.items()}
    numbers = {"dates": len(timestamps), **rounded}
    if shares and not any(shares.values()):
        return StageResult(numbers, empty="no pixel of any date is valid")
    return StageResult(numbers)
