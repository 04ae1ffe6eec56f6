"""A lattice of square cells of any size in metres, one for each UTM zone, the same for every area.

Cell (x, y) of zone 326xx or 327xx spans eastings x * size to (x + 1) * size and northings likewise, so its name,
32633_x0050_y0513, says where it lies. Indices count from the zone's false origin: in its own strip a zone has eastings
above 166 km and northings from 0, so none is negative.

The rule at the edges: a zone owns its strip of six degrees, the northern zones from the equator to 84 N, the southern
ones from 80 S to the equator, without the exceptions of Norway and Svalbard. A zone's cells are claimed by the part of
the area in its strip, so every point of the area is in a cell of its own zone, and a cell that only reaches over into
another zone's strip is not claimed there. Cells that straddle an edge do overlap the neighbour's cells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cells import (
    EXISTENCE_SHARE_OF_PIXEL,
    Boxes,
    check_pixels,
    checked_area,
    claimed,
    clip,
    in_order,
    make_tiles,
    project,
)
from eo_assets.core.tile import Tile
from eo_assets.core.utm_zones import UTM_EPSG, UTM_NORTH, UTM_SOUTH, zone_strip
from eo_assets.errors import GridError

Indices = NDArray[np.int_]

_NAME = re.compile(r"(\d{5})_x(\d+)_y(\d+)", re.ASCII)
_CELLS_AT_A_TIME = 100_000  # bounds the memory that a large area on a fine lattice takes


@dataclass(frozen=True)
class UtmGrid:
    """A lattice of cells of `tile_size_m` in every UTM zone, at `resolution` metres; `buffer_px` is (y, x).

    Raises GridError if the cell is not a whole number of pixels.
    """

    tile_size_m: float
    resolution: float
    buffer_px: tuple[int, int] = (0, 0)
    kind: ClassVar[str] = "utm"

    def __post_init__(self) -> None:
        check_pixels(self.resolution, self.buffer_px)
        if not (math.isfinite(self.tile_size_m) and 0 < self.tile_size_m <= 1_000_000):
            raise GridError(f"tile size {self.tile_size_m!r} m is not between 0 and 1,000,000 m (a zone is no wider)")
        pixels = self.tile_size_m / self.resolution
        if round(pixels) < 1 or abs(pixels - round(pixels)) > 1e-9 * pixels:
            whole = max(round(pixels), 1) * self.resolution
            raise GridError(
                f"tile size {self.tile_size_m:g} m is not a multiple of the resolution {self.resolution:g} m: "
                f"the nearest is {whole:g} m"
            )

    def tiles(self, area: BaseGeometry) -> list[Tile]:
        """The tiles that a lon/lat area claims, by (EPSG, name). Raises AreaError beyond 80 S or 84 N."""
        area = checked_area(area, UTM_SOUTH, UTM_NORTH)
        return in_order(tile for epsg in UTM_EPSG for tile in self._zone_tiles(area, epsg))

    def tile(self, name: str) -> Tile:
        """The tile of that name. Raises GridError for a cell that does not touch its own zone's strip."""
        match = _NAME.fullmatch(name)
        if match and int(match[1]) in UTM_EPSG:
            epsg, x, y = (int(group) for group in match.groups())
            box = self._boxes(np.array([x]), np.array([y]))
            # The name must be the cell's own, with as many zeros as this lattice writes.
            exists = claimed(_strip_in_metres(epsg), box, self.resolution, EXISTENCE_SHARE_OF_PIXEL)[0]
            if exists and name == self._name(epsg, x, y):
                return make_tiles([name], epsg, box, self.resolution, self.buffer_px)[0]
        raise GridError(
            f"the UTM grid of {self.tile_size_m:g} m has no tile {name!r}: a name is {self._name(32633, 50, 513)}, "
            "the EPSG code of a UTM zone and the cell's column and row in it, and the cell must touch the zone's strip"
        )

    def _zone_tiles(self, area: BaseGeometry, epsg: int) -> list[Tile]:
        local = project(clip(area, *zone_strip(epsg)), epsg)
        found: list[Tile] = []
        for x, y in self._candidates(local):
            boxes = self._boxes(x, y)
            mask = claimed(local, boxes, self.resolution)
            names = [self._name(epsg, *cell) for cell in zip(x[mask].tolist(), y[mask].tolist())]
            found += make_tiles(names, epsg, boxes[mask], self.resolution, self.buffer_px)
        return found

    def _candidates(self, local: BaseGeometry) -> Iterator[tuple[Indices, Indices]]:
        """Columns and rows, each (n,), of the lattice over the bounds of `local`, some rows at a time."""
        if local.is_empty:
            return
        left, bottom, right, top = (edge / self.tile_size_m for edge in local.bounds)
        # An area on the equator reaches northing -1e-9: there is no row -1.
        columns = np.arange(max(math.floor(left), 0), math.ceil(right))
        rows = np.arange(max(math.floor(bottom), 0), math.ceil(top))
        step = max(_CELLS_AT_A_TIME // max(len(columns), 1), 1)
        for start in range(0, len(rows), step):
            x, y = np.meshgrid(columns, rows[start : start + step])
            yield x.ravel(), y.ravel()

    def _boxes(self, x: Indices, y: Indices) -> Boxes:
        return np.column_stack([x, y, x + 1, y + 1]) * float(self.tile_size_m)

    def _name(self, epsg: int, x: int, y: int) -> str:
        """As many digits as the northernmost row needs, four at least, so that names sort as numbers do."""
        digits = max(4, len(str(math.ceil(10_000_000 / self.tile_size_m) - 1)))
        return f"{epsg}_x{x:0{digits}d}_y{y:0{digits}d}"


@cache
def _strip_in_metres(epsg: int) -> BaseGeometry:
    return project([shapely.box(*zone_strip(epsg))], epsg)
