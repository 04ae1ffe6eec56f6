"""Labelled points on a tile's pixels: a table of what each says, and which pixel of which tile it lies in."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.tile import Tile


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one tile, a row each.

    `pixels` (n, 2) int32 as (row, column) of the tile, buffer included; `ids` (n,) texts; `labels` (n,);
    `dates` (n,) datetime64[D], NaT where none is known; `weights` (n,) float32, above 0.
    """

    pixels: NDArray[np.int32]
    ids: NDArray[np.str_]
    labels: NDArray[Any]
    dates: NDArray[np.datetime64]
    weights: NDArray[np.float32]

    def take(self, chosen: NDArray[Any]) -> Points:
        """The points that a mask or positions (n,) choose."""
        return Points(*(getattr(self, column.name)[chosen] for column in fields(self)))


def in_cell(x: NDArray[np.float64], y: NDArray[np.float64], tile: Tile) -> NDArray[np.bool_]:
    """Which coordinates (n,) lie in the tile's cell, without its buffer: its left and upper edge belong to it.

    Neighbouring cells share their edges, so a point on one lies in one cell only. A point that is not finite lies in
    none.
    """
    left, bottom, right, top = tile.cell
    return (left <= x) & (x < right) & (bottom < y) & (y <= top)


def pixels_of(x: NDArray[np.float64], y: NDArray[np.float64], tile: Tile) -> NDArray[np.int32]:
    """(n, 2) row and column, in the tile with its buffer, of coordinates (n,) in its cell.

    A pixel owns its left and upper edge. Where a rounding error would put a point into the buffer it stays in the cell.
    """
    buffer_y, buffer_x = tile.buffer_px
    height, width = tile.shape
    rows = np.floor((tile.cell.top - y) / tile.resolution) + buffer_y
    columns = np.floor((x - tile.cell.left) / tile.resolution) + buffer_x
    inside_y, inside_x = height - buffer_y - 1, width - buffer_x - 1
    pixels = [np.clip(rows, buffer_y, inside_y), np.clip(columns, buffer_x, inside_x)]
    return np.stack(pixels, axis=-1).astype(np.int32)


def label_raster(points: Points, rows: slice, width: int, nodata: float) -> NDArray[Any]:
    """(rows, x) labels of points that lie in a block of rows, `nodata` elsewhere; the last one of a pixel wins."""
    block = np.full((rows.stop - rows.start, width), nodata, dtype=points.labels.dtype)
    block[points.pixels[:, 0] - rows.start, points.pixels[:, 1]] = points.labels  # numpy keeps the last of several
    return block


def once(ids: NDArray[np.str_]) -> NDArray[np.intp]:
    """Positions of the first of each id, ascending."""
    return np.sort(np.unique(ids, return_index=True)[1])


def outside(dates: NDArray[np.datetime64], first: dt.date, last: dt.date) -> NDArray[np.bool_]:
    """Which dates (n,) are known and lie outside of an interval whose two days belong to it."""
    return np.asarray((dates < np.datetime64(first)) | (dates > np.datetime64(last)))
