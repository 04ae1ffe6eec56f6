"""From an area in longitude and latitude to the cells of a grid that it claims.

An area is a valid polygon or multipolygon in EPSG:4326, x = longitude in [-180, 180], y = latitude, edges straight in
longitude and latitude. A far UTM zone bends such an area out of shape, so it is always clipped to the cells'
neighbourhood first, and densified before it is projected.

A cell is claimed when the area reaches more than a twentieth of a pixel into it. A mere touch is no claim: an area
that ends on a cell's edge, give or take what a reprojection or seven decimals do to it, must not buy the neighbour.
Every pixel whose centre lies in the area is in a claimed cell all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import AreaError, GridError

LONLAT = 4326
NEXT_TO_NOTHING_DEG = 1e-12  # a tenth of a micrometre
EDGE_SHARE_OF_PIXEL = 1 / 20
EXISTENCE_SHARE_OF_PIXEL = EDGE_SHARE_OF_PIXEL / 2  # of a zone in a cell: whatever can be claimed must exist
SEGMENT_DEG = 0.01  # a chord of this length leaves the true curve by less than 2 cm in any UTM zone

METRES_A_DEGREE = 111_320.0  # along a meridian or the equator

Boxes = NDArray[np.float64]  # (n, 4): left, bottom, right, top


@cache
def to_crs(epsg: int) -> Transformer:
    """Longitude, latitude to the CRS's x, y."""
    return Transformer.from_crs(LONLAT, epsg, always_xy=True)


@cache
def to_lonlat(epsg: int) -> Transformer:
    """The CRS's x, y to longitude, latitude."""
    return Transformer.from_crs(epsg, LONLAT, always_xy=True)


def checked_area(area: BaseGeometry, south: float = -90.0, north: float = 90.0) -> BaseGeometry:
    """The area, if it is a non-empty polygon in lon/lat between the latitudes that the grid covers; else AreaError.

    Coordinates that are next to nothing become 0: products of them underflow, and GEOS gives up or finds no area.
    """
    if area.is_empty or area.geom_type not in ("Polygon", "MultiPolygon"):
        raise AreaError(f"the area is an empty or non-polygonal geometry ({area.geom_type}): give it polygons")
    west, bottom, east, top = area.bounds
    if west < -180 or east > 180:
        raise AreaError(
            f"the area spans longitudes {west:g} to {east:g}, beyond -180 to 180: split it in two at the antimeridian"
        )
    if bottom < south or top > north:
        raise AreaError(
            f"the area spans latitudes {bottom:g} to {top:g}, but the grid covers {south:g} to {north:g}: "
            "clip the area, or choose a grid in another CRS (kind: custom)"
        )
    coordinates = shapely.get_coordinates(area)
    tiny = (coordinates != 0) & (np.abs(coordinates) < NEXT_TO_NOTHING_DEG)
    if not tiny.any():
        return area
    return shapely.transform(area, lambda xy: np.where(np.abs(xy) < NEXT_TO_NOTHING_DEG, 0.0, xy))


def check_pixels(resolution: float, buffer_px: tuple[int, int]) -> None:
    """Raise GridError unless the resolution is positive and the buffer (y, x) is of whole pixels, none negative."""
    if not (math.isfinite(resolution) and resolution > 0):
        raise GridError(f"resolution {resolution!r} is not a positive number: give the size of a pixel in CRS units")
    if len(buffer_px) != 2 or any(not isinstance(px, int) or isinstance(px, bool) or px < 0 for px in buffer_px):
        raise GridError(f"buffer {buffer_px!r} is not (y, x) in whole pixels, 0 or more")


def polygons(geometries: Iterable[BaseGeometry]) -> list[BaseGeometry]:
    """The polygons among the geometries' parts, at any depth of nesting; what has no area is left out."""
    flat: list[BaseGeometry] = []
    for geometry in geometries:
        if geometry.geom_type == "Polygon":
            flat += [] if geometry.is_empty else [geometry]
        elif hasattr(geometry, "geoms"):
            flat += polygons(geometry.geoms)
    return flat


def clip(area: BaseGeometry, west: float, south: float, east: float, north: float) -> list[BaseGeometry]:
    """The parts of `area` inside the box. A box that passes +-180 degrees goes on at the other side of the map."""
    parts = []
    for turn in (-360.0, 0.0, 360.0):
        window = (max(west + turn, -180.0), south, min(east + turn, 180.0), north)
        left, bottom, right, top = area.bounds
        if window[0] >= min(window[2], right) or left >= window[2] or top <= south or bottom >= north:
            continue
        inside = left >= window[0] and right <= window[2] and bottom >= south and top <= north
        parts.append(area if inside else intersection(area, shapely.box(*window)))
    return polygons(parts)


def intersection(area: BaseGeometry, other: BaseGeometry) -> BaseGeometry:
    """The common part of two lon/lat areas, to a tenth of a millimetre where exact arithmetic fails them."""
    try:
        return shapely.intersection(area, other)
    except GEOSException:
        return shapely.intersection(shapely.set_precision(area, 1e-9), other)


def project(parts: Sequence[BaseGeometry], epsg: int) -> BaseGeometry:
    """The union of lon/lat polygons in the CRS, densified on the way; EPSG:4326 is left as it is."""
    if not parts:
        return shapely.MultiPolygon()
    if epsg == LONLAT:
        return shapely.union_all(parts)
    dense = shapely.segmentize(np.asarray(parts, dtype=object), SEGMENT_DEG)
    projected = shapely.transform(dense, to_crs(epsg).transform, interleaved=False)
    # Projecting can fold a needle of a polygon over itself; parts from both sides of the antimeridian now touch.
    return shapely.union_all(polygons(shapely.make_valid(projected)))


def box_union(epsg: int, boxes: Boxes, meridian: float) -> BaseGeometry:
    """The union of boxes (n, 4) of the CRS in lon/lat, longitudes within half a turn of `meridian` (not wrapped)."""
    union = shapely.union_all(shapely.box(*boxes.T))
    if epsg == LONLAT:
        return union
    step = SEGMENT_DEG if CRS.from_epsg(epsg).is_geographic else SEGMENT_DEG * METRES_A_DEGREE

    def unwrap(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lon, lat = to_lonlat(epsg).transform(x, y)
        return (np.asarray(lon) - meridian + 180) % 360 - 180 + meridian, lat

    lonlat = shapely.transform(shapely.segmentize(union, step), unwrap, interleaved=False)
    return shapely.union_all(polygons([shapely.make_valid(lonlat)]))


def claimed(
    area: BaseGeometry, boxes: Boxes, resolution: float, edge_share: float = EDGE_SHARE_OF_PIXEL
) -> NDArray[np.bool_]:
    """Which boxes (n, 4) the area, in their CRS, reaches into by more than that share of a pixel: a mask (n,)."""
    mask = np.zeros(len(boxes), dtype=bool)
    if area.is_empty or not len(boxes):
        return mask
    edge = resolution * edge_share
    inner = boxes + np.array([edge, edge, -edge, -edge])
    left, bottom, right, top = area.bounds
    near = (inner[:, 0] < right) & (inner[:, 2] > left) & (inner[:, 1] < top) & (inner[:, 3] > bottom)
    shapely.prepare(area)
    mask[near] = shapely.intersects(area, shapely.box(*inner[near].T))
    return mask


def make_tiles(
    names: Iterable[str], epsg: int, boxes: Boxes, resolution: float, buffer_px: tuple[int, int]
) -> list[Tile]:
    """Tiles of the names and boxes (n, 4), in plain Python numbers."""
    resolution = float(resolution)
    return [Tile(name, epsg, Bounds(*box), resolution, buffer_px) for name, box in zip(names, boxes.tolist())]


def in_order(tiles: Iterable[Tile]) -> list[Tile]:
    """The tiles by (EPSG, name). Raises AreaError if there is none: an area that claims nothing can't be mapped."""
    ordered = sorted(tiles, key=lambda tile: tile.order)
    if not ordered:
        raise AreaError(
            "the area claims no cell of the grid: it lies outside of it, or is thinner than a twentieth of a pixel; "
            "check its coordinates and the grid's resolution"
        )
    return ordered
