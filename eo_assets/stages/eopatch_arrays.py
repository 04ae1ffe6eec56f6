"""The arrays of an EOPatch, written window by window: what is held at a time does not grow with the dates of a tile."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.dark_targets import Darkness, DarkTargets
from eo_assets.core.masks import Mask, valid_pixels
from eo_assets.core.tile import Tile
from eo_assets.project import BandStack, ValidMask
from eo_assets.stages.delivered_frames import DeliveredFrames
from eo_assets.stages.quicklooks import Thumbnail, write_true_colour
from resources.eopatch_files import (
    DATA,
    MASK,
    ROWS,
    DigitalNumbers,
    Scaling,
    column_blocks,
    create_array,
    row_blocks,
    to_digital_numbers,
)

WINDOW = 256 << 20
"""Bytes of what is read at a time. At more dates windows are smaller, down to one stored block."""


class Frames(Protocol):
    """Where the dates of a tile come from, ascending: tiffs, or the arrays of somebody else's EOPatch."""

    rows_at_once: ClassVar[int]
    """Rows that are best read together, a multiple of those of a stored block."""

    @property
    def dates(self) -> int:
        """How many dates each read has."""

    def stack(self, outputs: Sequence[str], rows: slice, columns: slice) -> NDArray[Any]:
        """(time, rows, columns, band) of several outputs."""

    def read(self, output: str, rows: slice, columns: slice) -> NDArray[Any]:
        """(time, rows, columns) of one output."""


def as_numbers(bands: BandStack) -> bool:
    """Are the bands stored as the digital numbers that they were delivered as?"""
    return Scaling(bands.factor).divisor is not None and bands.dtype == "float32"


def write_bands(
    output: Path, name: str, bands: BandStack, frames: Frames, tile: Tile, timestamps: Sequence[dt.datetime] = ()
) -> Darkness:
    """Store a data feature, with its last date as a picture.

    Returns how dark its digital numbers are, which are known where bands have a factor. `timestamps` are of the frames.
    """
    picture = Thumbnail(tile.shape)
    dark = DarkTargets(bands.source, timestamps if bands.factor != 1 else ())
    shape = (frames.dates, *tile.shape, len(bands.source))
    scaling = Scaling(bands.factor) if as_numbers(bands) else None
    array = create_array(output, DATA, name, shape, bands.dtype, scaling, fast=True)
    for columns in column_blocks(frames.dates, tile.shape[1]):
        a_row = _window_bytes(frames.dates, columns, bands)
        for rows in windows(tile.shape[0], a_row, frames.rows_at_once):
            window = frames.stack(bands.source, rows, columns)
            if window.dtype == np.uint16:
                dark.add(window)
            _write_window(array, window, rows, columns, bands, f"{name} of {tile.name}")
            picture.add(rows, window[-1], columns)
            del window  # before the next one is read
    write_true_colour(output, picture.values() * bands.factor, bands.source)
    return dark.darkness()


def _write_window(array: Any, window: NDArray[Any], rows: slice, columns: slice, bands: BandStack, told: str) -> None:
    """Store the blocks of a window (time, rows, columns, band)."""
    for block in row_blocks(rows.stop - rows.start):
        stored = slice(rows.start + block.start, rows.start + block.stop)
        if as_numbers(bands):
            DigitalNumbers(array).write(stored, to_digital_numbers(window[:, block], told), columns)
        else:
            array[:, stored, columns] = _values(window[:, block], bands)


def _values(block: NDArray[Any], bands: BandStack) -> NDArray[Any]:
    """Digital numbers times their factor; in float64, of one date at a time."""
    values = np.empty(block.shape, dtype=bands.dtype)
    for date, numbers in enumerate(block):
        values[date] = numbers.astype(np.float64) * bands.factor
    return values


def write_masks(
    output: Path, masks: Mapping[str, ValidMask], frames: Mapping[str, Frames], tile: Tile
) -> dict[str, float]:
    """Every mask, (time, y, x, 1), with the share of its pixels that are valid. `frames` are the sources by mask."""
    if not masks:
        return {}
    dates = next(iter(frames.values())).dates
    shape = (dates, *tile.shape, 1)
    arrays = {name: create_array(output, MASK, name, shape, "bool") for name in masks}
    valid = dict.fromkeys(masks, 0)
    tall = min(source.rows_at_once for source in frames.values())
    for rows in windows(tile.shape[0], _mask_bytes(dates, tile.shape[1], len(masks)), tall):
        for name, pixels in _window_of_masks(masks, frames, rows, tile.shape).items():
            arrays[name][:, rows] = pixels[..., None]
            valid[name] += int(pixels.sum())
    return {name: count / max(1, int(np.prod(shape))) for name, count in valid.items()}


def _window_of_masks(
    masks: Mapping[str, ValidMask], frames: Mapping[str, Frames], rows: slice, shape: tuple[int, int]
) -> dict[str, Mask]:
    """(time, rows, x) of every mask. What others join is made once."""
    made: dict[str, Mask] = {}

    def make(name: str) -> Mask:
        if name not in made:
            joined = masks[name].all_of
            if joined is None:
                made[name] = _valid(masks[name], frames[name], rows, shape)
            else:
                made[name] = np.logical_and.reduce([make(part) for part in joined])
        return made[name]

    return {name: make(name) for name in masks}


def _valid(mask: ValidMask, frames: Frames, rows: slice, shape: tuple[int, int]) -> Mask:
    """(time, rows, x) of a mask of its own; what lies above and below the rows is looked at as far as it grows."""
    assert mask.source is not None and mask.rule is not None
    reach = mask.dilate_px or 0
    seen = slice(max(0, rows.start - reach), min(shape[0], rows.stop + reach))
    values = frames.read(mask.source, seen, slice(0, shape[1]))
    valid = valid_pixels(values, mask.rule, reach)
    return valid[:, rows.start - seen.start : rows.stop - seen.start]


def windows(height: int, bytes_a_row: int, at_once: int) -> Iterator[slice]:
    """Rows to read together: as many blocks as fit, their number halved until they do, and one at least."""
    tall = at_once
    while tall > ROWS and tall * bytes_a_row > WINDOW:
        tall = max(ROWS, tall // 2)
    for start in range(0, height, tall):
        yield slice(start, min(start + tall, height))


def held_by_bands(dates: int, shape: tuple[int, int], bands: BandStack) -> int:
    """Bytes of a window of bands, one band of it once more, and a block as stored and compressed."""
    columns = column_blocks(dates, shape[1])[0]
    a_row = _window_bytes(dates, columns, bands)
    rows = _tallest(shape[0], a_row)
    block = 2 * ROWS * a_row * (1 if as_numbers(bands) else np.dtype(bands.dtype).itemsize // 2)
    return rows * a_row + rows * a_row // len(bands.source) + block


def held_by_masks(dates: int, shape: tuple[int, int], masks: Mapping[str, ValidMask]) -> int:
    """Bytes of a window of all masks, with the rows above and below it that the widest dilation looks at."""
    a_row = _mask_bytes(dates, shape[1], len(masks))
    reach = max((mask.dilate_px or 0 for mask in masks.values()), default=0)
    return min(shape[0], _tallest(shape[0], a_row) + 2 * reach) * a_row


def _tallest(height: int, bytes_a_row: int) -> int:
    """Rows of the first window of tiffs."""
    return int(next(windows(height, bytes_a_row, DeliveredFrames.rows_at_once)).stop)


def _window_bytes(dates: int, columns: slice, bands: BandStack) -> int:
    """Bytes a row of a window: 16 bits a digital number, or 32 where they are fractions."""
    return dates * int(columns.stop - columns.start) * len(bands.source) * (2 if as_numbers(bands) else 4)


def _mask_bytes(dates: int, width: int, masks: int) -> int:
    """Bytes a row of a window of masks: each of them, and of one its values and what they are taken apart into."""
    return dates * width * (masks + 6)
