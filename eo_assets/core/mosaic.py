"""Tiles of one zone to one raster: a pixel lattice, where each tile lies on it, and which tile owns a pixel.

Rows and columns of a lattice count from its upper left corner. Arrays are (y, x). Whether a pixel belongs to this
zone's map at all, or to that of a neighbouring zone, is the business of `zones`; how values are rounded and cast, of
`encode`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import GridError, TileError

PIXEL_PARTS = 720
"""Positions are whole 720ths of a pixel: every phase of the tiling grids (60 m in 120, 240, 360 m) is exact, and so is
every distance, where float64 coordinates in degrees would decide ties by their rounding noise."""

ReadRows = Callable[[Tile, slice], "npt.NDArray[Any] | None"]
"""Rows of a tile, buffer included, as an array (rows, tile width); None for a tile that has no data."""


class Claims(Protocol):
    """What `mosaic_rows` asks about the other zones' maps; `zones.ForeignClaims` answers."""

    def mask(self, rows: slice) -> npt.NDArray[np.bool_] | None:
        """(rows, width), True where a pixel belongs to another zone's map; None if that holds nowhere in these rows."""
        ...


@dataclass(frozen=True, slots=True)
class Lattice:
    """The pixels of a zone's map: square, anchored at multiples of the resolution. Bounds are whole pixels.

    `resolution` is in the units of the CRS: metres, or degrees for EPSG:4326.
    """

    epsg: int
    resolution: float
    bounds: Bounds

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height = round((self.bounds.top - self.bounds.bottom) / self.resolution)
        return height, round((self.bounds.right - self.bounds.left) / self.resolution)

    @property
    def transform(self) -> Affine:
        """(column, row) to (x, y) of the upper left corner of a pixel."""
        return Affine(self.resolution, 0.0, self.bounds.left, 0.0, -self.resolution, self.bounds.top)

    def row_centres(self, rows: slice) -> npt.NDArray[np.float64]:
        """y of the pixel centres of these rows, north first."""
        return self.bounds.top - (np.arange(rows.start, rows.stop) + 0.5) * self.resolution

    def row_blocks(self, height: int) -> Iterable[slice]:
        """All rows, north to south, in blocks of `height` (the last may be lower)."""
        rows = self.shape[0]
        return (slice(start, min(start + height, rows)) for start in range(0, rows, height))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tile lies on a lattice, by nearest neighbour.

    `row` and `column` are the lattice pixel of the tile's upper left pixel. `shift` says how far the pixels were moved
    to get there, (y, x) in the units of the CRS, positive to the north and east, at most half a pixel; (0, 0) for a
    tile on the lattice. `centre` is the tile's true centre, (y, x) in 720ths of a pixel, rows to the south, from the
    lattice's upper left corner.
    """

    tile: Tile
    row: int
    column: int
    shift: tuple[float, float]
    centre: tuple[int, int]

    @property
    def rows(self) -> slice:
        """The lattice rows that the tile covers."""
        return slice(self.row, self.row + self.tile.shape[0])

    @property
    def columns(self) -> slice:
        """The lattice columns that the tile covers."""
        return slice(self.column, self.column + self.tile.shape[1])


def lattice_of(tiles: Sequence[Tile]) -> Lattice:
    """The smallest lattice that holds all tiles of a zone, buffers included.

    Raises GridError if there is no tile, if two have one name, or if they differ in CRS or resolution.
    """
    _check_one_zone(tiles)
    resolution = tiles[0].resolution
    corners = [(_nearest(row), _nearest(column), tile.shape) for tile in tiles for row, column in [_corner(tile)]]
    top, left = min(row for row, _, _ in corners), min(column for _, column, _ in corners)
    bottom = max(row + height for row, _, (height, _) in corners)
    right = max(column + width for _, column, (_, width) in corners)
    bounds = Bounds(left * resolution, -bottom * resolution, right * resolution, -top * resolution)
    return Lattice(tiles[0].epsg, resolution, bounds)


def place(tile: Tile, lattice: Lattice) -> Placement:
    """Where a tile lies on a lattice; one between pixels is placed by nearest neighbour, halves to the south and east.

    Raises GridError for a tile of another CRS or resolution.
    """
    if (tile.epsg, tile.resolution) != (lattice.epsg, lattice.resolution):
        raise GridError(
            f"Tile {tile.name} is in EPSG:{tile.epsg} at {tile.resolution}, its map in EPSG:{lattice.epsg} at "
            f"{lattice.resolution}. A map holds tiles of one CRS and resolution: make one map a zone."
        )
    top = round(-lattice.bounds.top / lattice.resolution)
    left = round(lattice.bounds.left / lattice.resolution)
    row_parts, column_parts = _corner(tile)
    row, column = _nearest(row_parts), _nearest(column_parts)
    shift = tuple(
        sign * (index * PIXEL_PARTS - parts) / PIXEL_PARTS * lattice.resolution
        for sign, index, parts in ((-1, row, row_parts), (1, column, column_parts))
    )
    height, width = tile.shape
    centre = (
        row_parts - top * PIXEL_PARTS + height * PIXEL_PARTS // 2,
        column_parts - left * PIXEL_PARTS + width * PIXEL_PARTS // 2,
    )
    return Placement(tile, row - top, column - left, (shift[0] + 0.0, shift[1] + 0.0), centre)


def map_bounds(tile: Tile) -> Bounds:
    """The box of a tile's pixels in its zone's map, buffer included: `tile.bounds`, moved by its `Placement.shift`."""
    row, column = (_nearest(parts) for parts in _corner(tile))
    left, top = column * tile.resolution, -row * tile.resolution
    height, width = tile.shape
    return Bounds(left, top - height * tile.resolution, left + width * tile.resolution, top)


def mosaic_rows(
    lattice: Lattice,
    tiles: Iterable[Tile],
    rows: slice,
    read: ReadRows,
    *,
    dtype: npt.DTypeLike,
    nodata: float,
    claims: Claims | None = None,
) -> npt.NDArray[Any]:
    """A block of a zone's map: (rows, width) of `dtype`.

    Give ALL tiles of the zone. Where tiles overlap the nearer tile centre owns the pixel, ties go to the first name. A
    tile without data (`read` returns None) owns its pixels too: they are `nodata`, a hole that no neighbour's buffer
    fills. Pixels that `claims` gives to another zone's map are `nodata`. Only tiles that own pixels of these rows are
    read, once each; memory is the block and one tile's rows of it.

    Raises TileError if `read` returns another shape or dtype, GridError for a tile that does not fit the lattice.
    """
    values = np.full((rows.stop - rows.start, lattice.shape[1]), nodata, dtype=dtype)
    touching = [placed for placed in (place(tile, lattice) for tile in tiles) if _common(placed.rows, rows)]
    for placed in touching:
        overlap = _overlap(placed.rows, rows)
        owned = owned_pixels(placed, touching, overlap)
        if not owned.any():
            continue
        source = read(placed.tile, slice(overlap.start - placed.row, overlap.stop - placed.row))
        if source is not None:
            _check_source(placed.tile, source, owned.shape, values.dtype)
            target = values[overlap.start - rows.start : overlap.stop - rows.start, placed.columns]
            np.copyto(target, source, where=owned)
    elsewhere = claims.mask(rows) if claims else None
    if elsewhere is not None:
        values[elsewhere] = nodata
    return values


def owned_pixels(placed: Placement, tiles: Iterable[Placement], rows: slice) -> npt.NDArray[np.bool_]:
    """Which pixels of a tile are its own, of the lattice rows `rows` (within the tile): (rows, tile width)."""
    owned = np.ones((rows.stop - rows.start, placed.tile.shape[1]), dtype=np.bool_)
    for rival in tiles:
        if rival.tile.name == placed.tile.name or not (
            _common(rival.rows, rows) and _common(rival.columns, placed.columns)
        ):
            continue
        shared_rows, shared_columns = _overlap(rival.rows, rows), _overlap(rival.columns, placed.columns)
        mine = _squared_distance(placed.centre, shared_rows, shared_columns)
        theirs = _squared_distance(rival.centre, shared_rows, shared_columns)
        owned[
            shared_rows.start - rows.start : shared_rows.stop - rows.start,
            shared_columns.start - placed.column : shared_columns.stop - placed.column,
        ] &= mine <= theirs if placed.tile.name < rival.tile.name else mine < theirs
    return owned


def _squared_distance(centre: tuple[int, int], rows: slice, columns: slice) -> npt.NDArray[np.int64]:
    """Exact squared distances of pixel centres to a tile centre, in 720ths of a pixel; int64 holds 2 million pixels."""
    half = PIXEL_PARTS // 2
    y = np.arange(rows.start, rows.stop, dtype=np.int64) * PIXEL_PARTS + half - centre[0]
    x = np.arange(columns.start, columns.stop, dtype=np.int64) * PIXEL_PARTS + half - centre[1]
    squares: npt.NDArray[np.int64] = (y * y)[:, np.newaxis] + x * x
    return squares


def _corner(tile: Tile) -> tuple[int, int]:
    """(row, column) of a tile's upper left corner in 720ths of a pixel from the CRS's origin, rows to the south."""
    scale = PIXEL_PARTS / tile.resolution
    return round(-tile.bounds.top * scale), round(tile.bounds.left * scale)


def _nearest(parts: int) -> int:
    """The nearest whole pixel, halves upwards: never `round`, whose halves to even would open gaps between tiles."""
    return (parts + PIXEL_PARTS // 2) // PIXEL_PARTS


def _common(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)


def _overlap(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _check_one_zone(tiles: Sequence[Tile]) -> None:
    if not tiles:
        raise GridError("A map needs at least one tile, and this zone has none. Ask for zones that the tile grid has.")
    kinds = {(tile.epsg, tile.resolution): tile.name for tile in tiles}
    if len(kinds) > 1:
        found = ", ".join(f"{name} in EPSG:{epsg} at {size}" for (epsg, size), name in sorted(kinds.items()))
        raise GridError(f"A map holds tiles of one CRS and resolution, these differ: {found}. Make one map a zone.")
    names = [tile.name for tile in tiles]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise GridError(f"Tiles named twice: {', '.join(twice)}. Names are unique in a zone: rename them in the grid.")


def _check_source(tile: Tile, source: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if source.shape != shape or source.dtype != dtype:
        raise TileError(
            f"Tile {tile.name}: rows read for the map are {source.shape} {source.dtype}, expected {shape} {dtype}. "
            "The stored output does not fit the tile grid or the map's settings: run the stage before it again."
        )
