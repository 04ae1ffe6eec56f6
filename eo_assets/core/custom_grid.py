"""A grid of given cells: names and boxes as they are, in one or more CRSs, so that existing data keep theirs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cells import (
    LONLAT,
    METRES_A_DEGREE,
    Boxes,
    box_union,
    check_pixels,
    checked_area,
    claimed,
    clip,
    in_order,
    make_tiles,
    project,
    to_lonlat,
)
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import AreaError, GridError

Cell = tuple[str, int, Bounds]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", re.ASCII)
_PIXEL_SLACK = 1e-4  # of a pixel: what a box loses when its edges were written as text


@dataclass(frozen=True)
class CustomGrid:
    """Cells (name, EPSG, bounds without buffer), at a resolution in units of their CRS; `buffer_px` is (y, x).

    A name is the key of a tile and the name of its folders. Raises GridError for a name used twice or unfit for that,
    an unknown EPSG code, and a box that is not a whole number of pixels.
    """

    cells: tuple[Cell, ...]
    resolution: float
    buffer_px: tuple[int, int] = (0, 0)
    kind: ClassVar[str] = "custom"

    def __post_init__(self) -> None:
        check_pixels(self.resolution, self.buffer_px)
        if not self.cells:
            raise GridError("the custom grid has no cells: give it at least one")
        for epsg in {epsg for _, epsg, _ in self.cells}:
            _check_crs(epsg)
        for cell in self.cells:
            self._check_cell(*cell)
        name, uses = Counter(name for name, _, _ in self.cells).most_common(1)[0]
        if uses > 1:
            raise GridError(f"the custom grid has {uses} cells called {name!r}: give every cell a name of its own")

    def tiles(self, area: BaseGeometry) -> list[Tile]:
        """The tiles that a lon/lat area claims, by (EPSG, name). Raises AreaError where no cell covers the area."""
        area = checked_area(area)
        tiles = in_order(tile for group in self._groups for tile in self._group_tiles(area, *group))
        self._check_covered(area, tiles)
        return tiles

    def tile(self, name: str) -> Tile:
        """The tile of that name. Raises GridError if the grid has none."""
        try:
            return self._by_name[name]
        except KeyError:
            example = self.cells[0][0]
            raise GridError(f"the custom grid has no tile {name!r}: its names look like {example!r}") from None

    @cached_property
    def _by_name(self) -> dict[str, Tile]:
        return {tile.name: tile for epsg, names, boxes in self._groups for tile in self._make(epsg, names, boxes)}

    @cached_property
    def _groups(self) -> tuple[tuple[int, list[str], Boxes], ...]:
        """The cells by CRS: (EPSG, names, boxes (n, 4))."""
        epsgs = sorted({epsg for _, epsg, _ in self.cells})
        cells = {epsg: [(name, bounds) for name, code, bounds in self.cells if code == epsg] for epsg in epsgs}
        return tuple(
            (epsg, [name for name, _ in found], np.array([bounds for _, bounds in found], dtype=np.float64))
            for epsg, found in cells.items()
        )

    def _make(self, epsg: int, names: list[str], boxes: Boxes) -> list[Tile]:
        return make_tiles(names, epsg, boxes, self.resolution, self.buffer_px)

    def _group_tiles(self, area: BaseGeometry, epsg: int, names: list[str], boxes: Boxes) -> list[Tile]:
        local = project(clip(area, *_neighbourhood(epsg, boxes)), epsg)
        mask = claimed(local, boxes, self.resolution)
        return self._make(epsg, [name for name, hit in zip(names, mask) if hit], boxes[mask])

    def _check_cell(self, name: str, epsg: int, bounds: Bounds) -> None:
        if not _NAME.fullmatch(name):
            raise GridError(
                f"the custom grid's cell {name!r} can't be a folder's name: use letters, digits, '_', '-' and '.', "
                "no '.' first, at most 100"
            )
        left, bottom, right, top = bounds
        for side, size in (("wide", right - left), ("high", top - bottom)):
            pixels = size / self.resolution
            if not pixels > 0.5 or not np.isfinite(pixels) or abs(pixels - round(pixels)) > _PIXEL_SLACK:
                raise GridError(
                    f"the custom grid's cell {name} (EPSG:{epsg}) is {size:.10g} {side}, no whole number of pixels of "
                    f"{self.resolution:g}: mend the cell or choose another resolution"
                )

    def _check_covered(self, area: BaseGeometry, tiles: list[Tile]) -> None:
        """Raise AreaError, naming a place, if part of the area more than a pixel thick is in no tile."""
        rest = area
        for epsg in sorted({tile.epsg for tile in tiles}):
            for footprint in _footprints(epsg, [tile.cell for tile in tiles if tile.epsg == epsg]):
                rest = shapely.difference(rest, footprint)
        pixel = self.resolution if all(_is_lonlat(tile.epsg) for tile in tiles) else self.resolution / METRES_A_DEGREE
        bare = rest.buffer(-pixel)
        if not bare.is_empty:
            place = bare.representative_point()
            raise AreaError(
                f"the area reaches beyond the custom grid, for example at longitude {place.x:.5f}, latitude "
                f"{place.y:.5f}: add the missing cells, or clip the area to the grid"
            )


def _check_crs(epsg: int) -> None:
    try:
        CRS.from_epsg(epsg)
    except CRSError as error:
        raise GridError(f"the custom grid's EPSG:{epsg} is not known: {error}") from None


def _is_lonlat(epsg: int) -> bool:
    return bool(CRS.from_epsg(epsg).is_geographic)


def _neighbourhood(epsg: int, boxes: Boxes) -> tuple[float, float, float, float]:
    """The cells' box in lon/lat, a little too large; east passes 180 if the cells lie across the antimeridian."""
    west, south = boxes[:, :2].min(axis=0).tolist()
    east, north = boxes[:, 2:].max(axis=0).tolist()
    if epsg != LONLAT:
        west, south, east, north = to_lonlat(epsg).transform_bounds(west, south, east, north, densify_pts=101)
    pad = 0.1
    return west - pad, max(south - pad, -90.0), (east if east > west else east + 360) + pad, min(north + pad, 90.0)


def _footprints(epsg: int, cells: list[Bounds]) -> Iterator[BaseGeometry]:
    """The cells' union in lon/lat, and its copies one turn of the globe to either side."""
    boxes = np.array(cells)
    meridian = boxes[:, (0, 2)].mean() if epsg == LONLAT else to_lonlat(epsg).transform(*_centre(boxes))[0]
    union = box_union(epsg, boxes, meridian)
    for turn in (-360.0, 0.0, 360.0):
        yield affinity.translate(union, turn)


def _centre(boxes: Boxes) -> tuple[float, float]:
    return float(boxes[:, (0, 2)].mean()), float(boxes[:, (1, 3)].mean())
