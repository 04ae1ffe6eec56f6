"""Stage 2, eopatches: tiffs to an EOPatch, dates ascending, streamed by blocks of rows."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from eo_assets.core.dark_targets import Darkness, DarkTargets, joined
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
from resources.heap import give_back
from resources.tile_store import OutputRecord

Frames = NDArray[Any]
STANDS_FOR = "stands_for"
"""A number of tiffs that are not there: the stage whose adopted output they stand before."""

GDAL_CACHE = 256 << 20
"""Bytes of decoded blocks that GDAL keeps. Unless told, it takes a twentieth of the machine and keeps whole tiles; less
than one row of blocks of all bands has every block decoded again for each block of rows."""

BASE = 350 << 20
"""Bytes of a worker that has done nothing yet: Ray, rasterio, LightGBM and what they bring."""


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
        """GDAL's cache, and of the largest data feature one block as read, as stored, and compressed."""
        pixels = self.imagery.expected_dates * ROWS * tile.shape[1]
        blocks = max((len(bands.source) * _bytes_a_value(bands) for bands in self.eopatches.data.values()), default=0)
        delivered = 2 * self.imagery.expected_dates * tile.shape[0] * tile.shape[1] * len(self.imagery.tiff_outputs)
        return BASE + min(GDAL_CACHE, delivered) + pixels * blocks

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
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE))
            tiffs = _Tiffs(folder, order, stack)
            dark = [
                _write_bands(output, name, bands, tiffs, tile, timestamps)
                for name, bands in self.eopatches.data.items()
            ]
            shares = {name: _write_mask(output, name, mask, tiffs, tile) for name, mask in self.eopatches.masks.items()}
        give_back()
        return _result(timestamps, shares, joined(dark))

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

    @property
    def dates(self) -> int:
        """How many dates each read has."""
        return len(self._order)

    def stack(self, outputs: Sequence[str], rows: slice) -> Frames:
        """(time, rows, x, band) of several tiffs, in the type that holds them all; one band's copy at a time."""
        first = self.read(outputs[0], rows)
        dtype = np.result_type(*(self._opened(output).dtypes[0] for output in outputs))
        block = np.empty((*first.shape, len(outputs)), dtype=dtype)
        for band, output in enumerate(outputs):
            block[..., band] = self.read(output, rows) if band else first
        return block

    def read(self, output: str, rows: slice) -> Frames:
        """(time, rows, x) in the tiff's own type."""
        tiff = self._opened(output)
        window = Window(0, rows.start, tiff.width, rows.stop - rows.start)
        try:
            return np.asarray(tiff.read([band + 1 for band in self._order], window=window))
        except rasterio.errors.RasterioIOError as error:
            raise TileError(
                f"{tiff.name}: rows {rows.start}-{rows.stop} can't be read: {error}; it was damaged after its "
                "delivery: delete the tile's record under _commits in the folder of the tiffs to have it delivered anew"
            ) from None

    def _opened(self, output: str) -> Any:
        if output not in self._open:
            self._open[output] = self._stack.enter_context(rasterio.open(tiff_path(self._folder, output)))
        return self._open[output]


def _as_numbers(bands: BandStack) -> bool:
    """Are the bands stored as the digital numbers that they were delivered as?"""
    return Scaling(bands.factor).divisor is not None and bands.dtype == "float32"


def _bytes_a_value(bands: BandStack) -> int:
    """What a value of a block takes while it is read, turned and compressed, with some to spare."""
    return 8 if _as_numbers(bands) else 4 + 3 * np.dtype(bands.dtype).itemsize


def _write_bands(
    output: Path, name: str, bands: BandStack, tiffs: _Tiffs, tile: Tile, timestamps: Sequence[dt.datetime]
) -> Darkness:
    """Store a data feature; returns how dark its digital numbers are, which are known where bands have a factor."""
    picture = Thumbnail(tile.shape)
    dark = DarkTargets(bands.source, timestamps if bands.factor != 1 else ())
    shape = (tiffs.dates, *tile.shape, len(bands.source))
    array = create_array(output, DATA, name, shape, bands.dtype, Scaling(bands.factor) if _as_numbers(bands) else None)
    for rows in row_blocks(tile.shape[0]):
        last_date = _write_block(array, rows, bands, tiffs, dark, f"{name} of {tile.name}")
        picture.add(rows, last_date)
    write_true_colour(output, picture.values() * bands.factor, bands.source)
    return dark.darkness()


def _write_block(array: Any, rows: slice, bands: BandStack, tiffs: _Tiffs, dark: DarkTargets, told: str) -> Frames:
    """Store one block of rows; returns its last date, (rows, x, band). What it holds is gone before the next block."""
    block = tiffs.stack(bands.source, rows)
    if block.dtype == np.uint16:
        dark.add(block)
    if _as_numbers(bands):
        DigitalNumbers(array).write(rows, to_digital_numbers(block, told))
    else:
        values = np.empty(block.shape, dtype=bands.dtype)
        for date, numbers in enumerate(block):  # float64 of one date at a time
            values[date] = numbers.astype(np.float64) * bands.factor
        array[:, rows] = values
    last_date: Frames = block[-1].copy()
    return last_date


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
    dark = [_write_bands(output, name, bands, frames[name], tile, timestamps) for name, bands in eopatches.data.items()]
    shares = {name: _write_mask(output, name, mask, frames[name], tile) for name, mask in eopatches.masks.items()}
    return _result(timestamps, shares, joined(dark))


def _result(timestamps: list[dt.datetime], shares: Mapping[str, float], dark: Darkness) -> StageResult:
    rounded = {f"valid_share_{name}": round(share, 4) for name, share in shares.items()}
    numbers = {"dates": len(timestamps), **rounded, **({"dark": dark} if any(dark.values()) else {})}
    if shares and not any(shares.values()):
        return StageResult(numbers, empty="no pixel of any date is valid")
    return StageResult(numbers)
