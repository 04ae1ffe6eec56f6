"""The tiling grids of Sentinel Hub's batch processing, offline: the same names, the same boxes.

| id | cell | pixels | CRS |
|---|---|---|---|
| 0 | 20,040 m, 5 x 5 a square | 10, 20, 30, 60 m | UTM |
| 1 | 10,000 m, 10 x 10 a square | 10, 20 m | UTM |
| 2 | 100,080 m, 1 a square | 30, 60, 120, 240, 360 m | UTM |
| 3 | 1 degree | 0.0001, 0.0002 degrees | EPSG:4326 |

UTM cells are called square_i_j, such as 33UUU_3_7: i counts from the west and j from the NORTH of the 100 km square.
Grid 1 starts at the square's exact corner. Grids 0 and 2 start at that corner moved out, west and north, to multiples
of 60 m from the zone's false easting and from the equator, so that their cells overlap; in the south, where northings
count down from 10,000,000 m, their tops are multiples of 60 m plus 40. Degree cells are called by their lower left
corner: N05W003.

Squares reach over the edge of their UTM zone. In grid 2 a square is claimed wherever the area meets it: the list of
squares is what limits the overlap of zones. Of the many cells of a square in grids 0 and 1, only those exist that
touch their square's territory (sentinel2_squares.py), so that zones overlap there by a cell and not by ten.

Assumed, for want of the service's own list: the 60 m rule (it is that of Sentinel-2's own tiles: T33UUU's corner is
300000, 5900040, that of T20HNH 499980, 6300040), which cells of a
square grids 0 and 1 have along zone edges, and the names of grid 3. A request's manifest shows any difference.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cells import (
    EXISTENCE_SHARE_OF_PIXEL,
    LONLAT,
    Boxes,
    check_pixels,
    checked_area,
    claimed,
    clip,
    in_order,
    intersection,
    make_tiles,
    polygons,
    project,
)
from eo_assets.core.sentinel2_squares import SQUARE_M, may_reach, square_corner, territory, zone_squares
from eo_assets.core.tile import Tile
from eo_assets.core.utm_zones import UTM_EPSG, UTM_NORTH, UTM_SOUTH
from eo_assets.errors import GridError


@dataclass(frozen=True)
class _UtmDefinition:
    cell_m: int
    cells_a_side: int
    snap_m: int
    only_in_territory: bool
    resolutions: tuple[float, ...]


_UTM_GRIDS = {
    0: _UtmDefinition(20_040, 5, 60, True, (10, 20, 30, 60)),
    1: _UtmDefinition(10_000, 10, SQUARE_M, True, (10, 20)),
    2: _UtmDefinition(100_080, 1, 60, False, (30, 60, 120, 240, 360)),
}
_RESOLUTIONS = {grid_id: grid.resolutions for grid_id, grid in _UTM_GRIDS.items()} | {3: (0.0001, 0.0002)}
_UTM_NAME = re.compile(r"(\d\d[C-X][A-Z]{2})_(\d)_(\d)", re.ASCII)
_DEGREE_NAME = re.compile(r"([NS])(\d\d)([EW])(\d\d\d)", re.ASCII)


@dataclass(frozen=True)
class SentinelHubGrid:
    """A tiling grid of Sentinel Hub by its id, 0 to 3, at one of its resolutions; `buffer_px` is (y, x).

    Raises GridError for an id or a resolution that the service does not offer.
    """

    grid_id: int
    resolution: float
    buffer_px: tuple[int, int] = (0, 0)
    kind: ClassVar[str] = "sentinel_hub"

    def __post_init__(self) -> None:
        if self.grid_id not in _RESOLUTIONS:
            raise GridError(f"Sentinel Hub tiling grid {self.grid_id!r} is not known here: choose one of 0, 1, 2, 3")
        allowed = _RESOLUTIONS[self.grid_id]
        if self.resolution not in allowed:
            offer = ", ".join(f"{resolution:g}" for resolution in allowed)
            raise GridError(
                f"Sentinel Hub tiling grid {self.grid_id} has no resolution {self.resolution!r}: choose one of {offer}"
            )
        check_pixels(self.resolution, self.buffer_px)

    def tiles(self, area: BaseGeometry) -> list[Tile]:
        """The tiles that a lon/lat area claims, by (EPSG, name). Tiles of two zones overlap near the zones' edge.

        Raises AreaError for an area outside of the grid (UTM grids: 80 S to 84 N).
        """
        if self.grid_id not in _UTM_GRIDS:
            area = checked_area(area)
            return in_order(self._degree_tiles(area))
        area = checked_area(area, UTM_SOUTH, UTM_NORTH)
        return in_order(tile for epsg in UTM_EPSG for tile in self._zone_tiles(area, epsg))

    def tile(self, name: str) -> Tile:
        """The tile of that name. Raises GridError if the grid has none."""
        found = self._utm_tile(name) if self.grid_id in _UTM_GRIDS else self._degree_tile(name)
        if found is None:
            cell = "a square of the Sentinel-2 tile list, then column from west and row from north, such as 33UVU_0_0"
            corner = "the lower left corner of a cell of one degree, such as N05W003"
            raise GridError(
                f"Sentinel Hub tiling grid {self.grid_id} has no tile {name!r}: a name is "
                f"{cell if self.grid_id in _UTM_GRIDS else corner}"
            )
        return found

    def _zone_tiles(self, area: BaseGeometry, epsg: int) -> list[Tile]:
        if not may_reach(epsg, area.bounds):
            return []
        grid, squares = _UTM_GRIDS[self.grid_id], zone_squares(epsg)
        _, south, _, north = area.bounds
        near = squares.between(south, north)
        parts = clip(area, *squares.window(near)) if len(near) else []
        if grid.only_in_territory:
            parts = polygons(intersection(part, territory(epsg)) for part in parts)
        local = project(parts, epsg)
        if local.is_empty:
            return []
        names, boxes = _cells(grid, epsg, near, local)
        mask = claimed(local, boxes, self.resolution)
        return make_tiles(names[mask].tolist(), epsg, boxes[mask], self.resolution, self.buffer_px)

    def _utm_tile(self, name: str) -> Tile | None:
        grid, match = _UTM_GRIDS[self.grid_id], _UTM_NAME.fullmatch(name)
        corner = square_corner(match[1]) if match else None
        if match is None or corner is None or max(int(match[2]), int(match[3])) >= grid.cells_a_side:
            return None
        epsg, left, top = corner
        i, j = (np.array([int(match[group])]) for group in (2, 3))
        box = _boxes(grid, epsg, np.array([left]), np.array([top]), i, j)
        if grid.only_in_territory:
            exists = claimed(_territory_in_metres(epsg), box, self.resolution, EXISTENCE_SHARE_OF_PIXEL)[0]
            if not exists:
                return None
        return make_tiles([name], epsg, box, self.resolution, self.buffer_px)[0]

    def _degree_tiles(self, area: BaseGeometry) -> list[Tile]:
        west, south, east, north = area.bounds
        lon, lat = (
            grid.ravel()
            for grid in np.meshgrid(
                np.arange(math.floor(west), math.ceil(east)), np.arange(math.floor(south), math.ceil(north))
            )
        )
        boxes = np.column_stack([lon, lat, lon + 1, lat + 1]).astype(np.float64)
        boxes = boxes[claimed(area, boxes, self.resolution)]
        names = [_degree_name(int(box[0]), int(box[1])) for box in boxes.tolist()]
        return make_tiles(names, LONLAT, boxes, self.resolution, self.buffer_px)

    def _degree_tile(self, name: str) -> Tile | None:
        match = _DEGREE_NAME.fullmatch(name)
        if match is None:
            return None
        lat, lon = (int(match[2]) * (-1 if match[1] == "S" else 1)), (int(match[4]) * (-1 if match[3] == "W" else 1))
        # The name must be the cell's own: S00W000 is no other spelling of N00E000.
        if not (-90 <= lat < 90 and -180 <= lon < 180 and name == _degree_name(lon, lat)):
            return None
        box = np.array([[lon, lat, lon + 1, lat + 1]], dtype=np.float64)
        return make_tiles([name], LONLAT, box, self.resolution, self.buffer_px)[0]


def _degree_name(lon: int, lat: int) -> str:
    return f"{'S' if lat < 0 else 'N'}{abs(lat):02d}{'W' if lon < 0 else 'E'}{abs(lon):03d}"


@cache
def _territory_in_metres(epsg: int) -> BaseGeometry:
    return project(polygons([territory(epsg)]), epsg)


def _cells(
    grid: _UtmDefinition, epsg: int, near: NDArray[np.intp], local: BaseGeometry
) -> tuple[NDArray[np.str_], Boxes]:
    """The cells of the squares `near` whose boxes meet the bounds of `local`: names (n,) and boxes (n, 4)."""
    squares, (left, bottom, right, top) = zone_squares(epsg), local.bounds
    reach = SQUARE_M + 2 * grid.snap_m + grid.cell_m  # a square's cells overhang it by less than that
    x, y = squares.left[near], squares.top[near]
    near = near[(x < right + reach) & (x > left - reach) & (y > bottom - reach) & (y < top + reach)]
    side = np.arange(grid.cells_a_side)
    index, i, j = (axis.ravel() for axis in np.meshgrid(near, side, side, indexing="ij"))
    boxes = _boxes(grid, epsg, squares.left[index], squares.top[index], i, j)
    meet = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < top) & (boxes[:, 3] > bottom)
    names = [f"{squares.names[k]}_{a}_{b}" for k, a, b in zip(index[meet].tolist(), i[meet].tolist(), j[meet].tolist())]
    return np.array(names, dtype="U9"), boxes[meet]


def _boxes(
    grid: _UtmDefinition,
    epsg: int,
    square_left: NDArray[np.float64],
    square_top: NDArray[np.float64],
    i: NDArray[np.int_],
    j: NDArray[np.int_],
) -> Boxes:
    """Boxes (n, 4) of cells (i, j) of squares with those upper left corners, moved out to the grid's anchor."""
    equator = 0 if epsg < 32700 else 10_000_000
    left = np.floor(square_left / grid.snap_m) * grid.snap_m + i * grid.cell_m
    top = equator + np.ceil((square_top - equator) / grid.snap_m) * grid.snap_m - j * grid.cell_m
    return np.column_stack([left, top - grid.cell_m, left + grid.cell_m, top]).astype(np.float64)
