"""EOPatches on disk in eo-learn's layout, array by array and block by block, without eo-learn.

A folder holds `bbox.geojson`, `timestamps.json` and `<feature type>/<NAME>.zarr` (Zarr v2, Blosc). `EOPatch.load`
opens it. Reflectance that is a whole number times a factor is stored as its digital numbers behind a scaling filter:
other readers see float32, we can read the digital numbers themselves. Axis order is (time, y, x, band), or
(y, x, band).
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray

from eo_assets.core.tile import Tile
from eo_assets.errors import StoreError, TileError
from resources.object_folder import FolderChunks, ObjectFolder

ROWS = 64
"""Rows of a block: what a stage holds in memory at a time, and the height of a stored chunk.

Twice as many make files half as many, and a worker take over 1 GB at 36 dates of 854 pixels: a block is there as
columns, as a chunk and compressed. Arrays with higher chunks, of older versions, are read all the same."""

WHOLE_WIDTH_DATES = 40
"""Up to so many dates a block is as wide as its tile. With more of them it has fewer columns, so that what a stage
holds does not grow with the number of acquisitions."""

COLUMNS = 256
"""Columns of a block with more dates than that: of one block of a delivered tiff, so that it is decoded once."""

LIST_CHUNK = 16 << 20

PACKED_AT_ONCE = 512 << 10
"""Bytes that Blosc compresses at a time. Left to itself it takes more of a large chunk: slower, and larger files."""

DATA, DATA_TIMELESS, MASK, MASK_TIMELESS = "data", "data_timeless", "mask", "mask_timeless"


@dataclass(frozen=True, slots=True)
class Scaling:
    """Digital numbers (uint16) times `factor` give the float32 values that readers see."""

    factor: float

    @property
    def divisor(self) -> int | None:
        """The whole number whose reciprocal the factor is, or None: then values are stored as they are."""
        divisor = round(1 / self.factor)
        return divisor if divisor > 1 and 1 / divisor == self.factor else None


def write_header(folder: Path, tile: Tile, timestamps: Sequence[dt.datetime] | None = None) -> None:
    """The tile's box, and its sensing times (ascending) where the EOPatch has a time axis."""
    left, bottom, right, top = tile.bounds
    ring = [[left, bottom], [left, top], [right, top], [right, bottom], [left, bottom]]
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{tile.epsg}"}}
    box = {"type": "Polygon", "crs": crs, "coordinates": [ring]}
    (folder / "bbox.geojson").write_text(json.dumps(box))
    if timestamps is not None:
        (folder / "timestamps.json").write_text(json.dumps([t.replace(tzinfo=None).isoformat() for t in timestamps]))


def read_timestamps(folder: Path | ObjectFolder) -> list[dt.datetime]:
    """The sensing times of an EOPatch, ascending, without time zone (UTC)."""
    return parse_timestamps((folder / "timestamps.json").read_text())


def parse_timestamps(text: str | bytes) -> list[dt.datetime]:
    """The sensing times that such a file says."""
    return [dt.datetime.fromisoformat(time) for time in json.loads(text)]


def create_array(
    folder: Path,
    kind: str,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    scaling: Scaling | None = None,
    chunks: tuple[int, ...] | None = None,
    fast: bool = False,
) -> zarr.Array:
    """A new array, to be filled by blocks of rows.

    `shape` is (time, y, x, band) or (y, x, band); unless `chunks` are given they hold all dates and bands of `ROWS`
    rows, and as many columns as `column_blocks` says. With a `scaling` whose divisor is whole, the array stores uint16
    digital numbers and reads as float32. `fast` packs at two to three times the speed and
    reads at four times, for a twentieth to an eighth more bytes: for what is large and soon read again.
    """
    _on_one_thread()
    divisor = scaling.divisor if scaling else None
    filters = [numcodecs.FixedScaleOffset(offset=0, scale=divisor, dtype="<f4", astype="<u2")] if divisor else None
    return zarr.create(
        shape,
        chunks=chunks or chunks_of(shape),
        dtype=dtype,
        compressor=_codec(numbers=bool(divisor), fast=fast),
        filters=filters,
        fill_value=0,
        store=zarr.DirectoryStore(_array_path(folder, kind, name)),
        write_empty_chunks=True,
    )


def _on_one_thread() -> None:
    """A stage has the CPUs that it asked Ray for, and Blosc takes all.

    It also lays its blocks down as its threads are ready: equal arrays would have other bytes and other digests.
    """
    numcodecs.blosc.use_threads = False


def _codec(*, numbers: bool, fast: bool) -> numcodecs.Blosc:
    """Of what was tried on noisy and on smooth scenes, what packs well at little cost: digital numbers bit by bit."""
    packer, level = ("lz4", 9) if fast else ("zstd", 1)
    shuffle = numcodecs.Blosc.BITSHUFFLE if numbers else numcodecs.Blosc.SHUFFLE
    return numcodecs.Blosc(packer, clevel=level, shuffle=shuffle, blocksize=PACKED_AT_ONCE)


def open_array(folder: Path | ObjectFolder, kind: str, name: str) -> zarr.Array:
    """An array for reading by blocks, as every other reader sees it: of a bucket, each block is one get."""
    _on_one_thread()
    path = folder / kind / f"{name}.zarr"
    try:
        store = path.chunks() if isinstance(path, ObjectFolder) else FolderChunks(str(path))
        array = zarr.open_array(store, mode="r")
    except zarr.errors.ArrayNotFoundError:
        raise StoreError(f"{path} does not exist; the EOPatch in {folder} has no {kind}/{name}") from None
    codecs = {codec.codec_id for codec in (array.compressor, *(array.filters or ())) if codec is not None}
    if "pickle" in codecs:
        # Reading it would run whatever its writer, who may be anybody with access to the folder, put there.
        raise StoreError(f"{path} is stored with pickle, which is never read; write it with another codec")
    return array


class DigitalNumbers:
    """The stored uint16 digital numbers of a scaled array, past its filter: exact, and without a float on the way."""

    def __init__(self, array: zarr.Array) -> None:
        """`array` comes from `create_array` or `open_array`."""
        self.scaled = bool(array.filters)
        self._codec = array.compressor
        self._array = array

    @property
    def factor(self) -> float:
        """What a digital number is multiplied by to give the value."""
        return 1.0 / self._array.filters[0].scale if self.scaled else 1.0

    def write(self, rows: slice, values: NDArray[np.uint16], columns: slice | None = None) -> None:
        """Store digital numbers (time, rows, columns, band) of one whole block; `columns` are all unless told.

        Without dates there is nothing to store.
        """
        dates, _, width, bands = self._array.shape
        first, last = _ends(columns, width)
        wide = self._array.chunks[2]
        if first % wide or last != min(first + wide, width):
            raise TileError(f"columns {first}-{last} are not one stored block of {wide} columns")
        key = self._key(rows, first // wide)
        if values.shape != (dates, rows.stop - rows.start, last - first, bands):
            raise TileError(
                f"a block of shape {values.shape} does not fill rows {rows.start}-{rows.stop} and columns "
                f"{first}-{last} of {self._array}"
            )
        if not dates:
            return
        if values.shape == self._array.chunks:
            chunk = np.ascontiguousarray(values, dtype="<u2")
        else:
            chunk = np.zeros(self._array.chunks, dtype="<u2")
            chunk[:, : values.shape[1], : values.shape[2]] = values
        self._array.chunk_store[key] = self._codec.encode(chunk)

    def read(self, rows: slice, columns: slice | None = None) -> NDArray[Any]:
        """Digital numbers (time, rows, columns, band) of whole rows of a block, of all columns or of any of them.

        The values themselves where nothing is scaled. What lies in one stored block is read without a copy.
        """
        width = self._array.shape[2]
        first, last = _ends(columns, width)
        if not self.scaled or not self._array.shape[0]:
            return np.asarray(self._array[:, rows, first:last])
        wide = self._array.chunks[2]
        parts = []
        for start in range(first // wide * wide, last, wide):
            chunk = self._chunk(rows, start // wide)
            parts.append(chunk[:, :, max(first - start, 0) : last - start])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _chunk(self, rows: slice, column: int) -> NDArray[Any]:
        """The rows of one stored block, with all the columns that it has room for."""
        key = self._key(rows, column)
        if key not in self._array.chunk_store:
            raise StoreError(f"{self._array.chunk_store.path}/{key} is missing: the array is not whole; make it anew")
        raw = self._codec.decode(self._array.chunk_store[key])
        chunk = np.frombuffer(raw, dtype="<u2").reshape(self._array.chunks)
        first = rows.start % self._array.chunks[1]
        return chunk[:, first : first + rows.stop - rows.start]

    def _key(self, rows: slice, column: int) -> str:
        if rows.start % ROWS or rows.stop != min(rows.start + ROWS, self._array.shape[1]):
            raise TileError(f"rows {rows.start}-{rows.stop} are not one stored block of {ROWS} rows")
        return f"0.{rows.start // self._array.chunks[1]}.{column}.0"


def to_digital_numbers(values: NDArray[Any], source: str) -> NDArray[np.uint16]:
    """Values as uint16, refused where they don't fit: the scaling filter would wrap them in silence."""
    if values.dtype == np.uint16:
        return values
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.uint16)
    if not np.array_equal(whole, values):
        wrong = values[~(whole == values)].flat[0]
        raise TileError(
            f"{source}: value {wrong} ({values.dtype}) is not a whole number in 0..65535, so it can't be stored as a "
            "digital number; let the evalscript return UINT16, or set the feature's factor to 1"
        )
    return whole


def row_blocks(height: int) -> list[slice]:
    """The blocks of rows that arrays are stored and processed in."""
    return [slice(start, min(start + ROWS, height)) for start in range(0, height, ROWS)]


def column_blocks(dates: int, width: int) -> list[slice]:
    """The columns of the blocks that arrays with so many dates are stored and processed in."""
    wide = block_width(dates, width)
    return [slice(start, min(start + wide, width)) for start in range(0, width, wide)]


def blocks(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """(rows, columns) of every block of an array (time, y, x, band), row by row."""
    return [(rows, columns) for rows in row_blocks(shape[1]) for columns in column_blocks(shape[0], shape[2])]


def block_width(dates: int, width: int) -> int:
    """Columns of such a block: all, or `COLUMNS`; half of that for every doubling beyond four times as many dates."""
    if dates <= WHOLE_WIDTH_DATES:
        return max(1, width)
    columns = COLUMNS
    while columns > 1 and dates * columns > 4 * WHOLE_WIDTH_DATES * COLUMNS:
        columns //= 2
    return max(1, min(columns, width))


def _ends(columns: slice | None, width: int) -> tuple[int, int]:
    first, last, _ = (columns or slice(None)).indices(width)
    return first, last


def _array_path(folder: Path, kind: str, name: str) -> str:
    return str(folder / kind / f"{name}.zarr")


def list_chunks(shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    """The chunks of an array (time, n, x, band) or (n, x, band) that is no picture but a list, read as a whole.

    As few as keep below `LIST_CHUNK` bytes: of thousands of small files each is an object with a price in a bucket.
    """
    *dates, length, width, bands = (max(1, size) for size in shape)
    fits = LIST_CHUNK // (math.prod(dates) * width * bands * np.dtype(dtype).itemsize)
    return (*dates, max(1, min(length, max(ROWS, fits))), width, bands)


def chunks_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The chunks that an array of this shape, (time, y, x, band) or (y, x, band), is stored in."""
    *dates, height, width, bands = shape
    columns = block_width(dates[0], width) if dates else max(1, width)
    return (*(max(1, size) for size in dates), max(1, min(height, ROWS)), columns, max(1, bands))
