"""The 100 km squares of the Sentinel-2 tile list: their names, and where they lie in their UTM zone.

A name such as 33UUU is zone, latitude band, column letter, row letter of the Military Grid Reference System (MGRS).
Column letters run through three alphabets over the zones, row letters repeat every 2,000 km and start five later in
even zones. The band is that of the latitude of the square's centre. The list is ESA's: it drops the squares that
neighbours in the next zone make redundant, and knows the wide zones of Norway and Svalbard. Squares reach over the
edges of their zones, by up to a hundred kilometres; `territory` says which places a zone's squares are there for.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cells import box_union, to_lonlat
from eo_assets.core.tile import Bounds
from eo_assets.core.utm_zones import UTM_EPSG, central_meridian, mgrs_zone

SQUARE_M = 100_000

_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # 8 degrees each from 80 S; X goes on to the end
_TURNS = (-360.0, 0.0, 360.0)
_REACH_DEG = 14.0  # no square reaches further from its central meridian, Svalbard at 84 N included
_CORNER_PAD_DEG = 0.1  # the edges of a square bulge beyond its corners, and grids 0 and 2 overhang it by 240 m


@dataclass(frozen=True, eq=False)
class ZoneSquares:
    """The listed squares of one zone and hemisphere, all arrays (n,): corners in metres, extents in degrees.

    `west` and `east` are not wrapped: zone 1 has squares that begin at -184.
    """

    names: tuple[str, ...]
    left: NDArray[np.float64]
    top: NDArray[np.float64]
    west: NDArray[np.float64]
    east: NDArray[np.float64]
    south: NDArray[np.float64]
    north: NDArray[np.float64]

    def between(self, south: float, north: float) -> NDArray[np.intp]:
        """Indices of the squares that reach into the latitudes."""
        return np.flatnonzero((self.south < north) & (self.north > south))

    def window(self, indices: NDArray[np.intp]) -> Bounds:
        """The lon/lat box around some squares, not wrapped."""
        west, south, east, north = (array[indices] for array in (self.west, self.south, self.east, self.north))
        return Bounds(float(west.min()), float(south.min()), float(east.max()), float(north.max()))


@cache
def listed_squares() -> frozenset[str]:
    """The names of the Sentinel-2 tile list, some 56,700."""
    packed = resources.files("eo_assets.core").joinpath("data/sentinel2_squares.txt.xz").read_bytes()
    return frozenset(lzma.decompress(packed).decode("ascii").split())


@cache
def zone_squares(epsg: int) -> ZoneSquares:
    """The listed squares of a UTM zone: 326xx in the north, 327xx in the south."""
    columns, rows = (grid.ravel() for grid in np.meshgrid(np.arange(1, 9), np.arange(0, 100)))
    _, lat = to_lonlat(epsg).transform((columns + 0.5) * SQUARE_M, (rows + 0.5) * SQUARE_M)
    zone = epsg % 100
    own = (lat >= 0) == (epsg < 32700)
    names = [_name(zone, *square) for square in zip(columns.tolist(), rows.tolist(), lat.tolist())]
    keep = own & np.array([name in listed_squares() for name in names])
    left, bottom = columns[keep] * float(SQUARE_M), rows[keep] * float(SQUARE_M)
    return ZoneSquares(
        names=tuple(name for name, kept in zip(names, keep) if kept),
        left=left,
        top=bottom + SQUARE_M,
        **_extents(epsg, left, bottom),
    )


def may_reach(epsg: int, bounds: tuple[float, float, float, float]) -> bool:
    """Whether squares of the zone may meet a lon/lat box: a cheap test before its squares are worked out."""
    west, south, east, north = bounds
    meridian = central_meridian(epsg)
    level = north > -_REACH_DEG if epsg < 32700 else south < _REACH_DEG
    return level and any(west < meridian + _REACH_DEG + turn and east > meridian - _REACH_DEG + turn for turn in _TURNS)


@cache
def square_corner(name: str) -> tuple[int, float, float] | None:
    """(EPSG, left, top) in metres of the square of that name, or None if the list does not have it."""
    if name not in listed_squares():
        return None
    epsg = (32600 if name[2] >= "N" else 32700) + int(name[:2])
    squares = zone_squares(epsg)
    index = squares.names.index(name)
    return epsg, float(squares.left[index]), float(squares.top[index])


@cache
def territory(epsg: int) -> BaseGeometry:
    """The places that a zone's squares serve, in lon/lat: the zone of MGRS, and those of its neighbours that they lack.

    A neighbour lacks the slivers along its edges whose squares the list drops, since this zone's squares reach there.
    """
    side = [code for code in UTM_EPSG if code // 100 == epsg // 100 and 0 < abs((code - epsg + 30) % 60 - 30) <= 2]
    own = [shapely.box(*bounds) for bounds in mgrs_zone(epsg)]
    return shapely.union_all([*own, *(_bare(code) for code in side)])


@cache
def _bare(epsg: int) -> BaseGeometry:
    """The part of an MGRS zone that none of the zone's listed squares covers, in lon/lat."""
    squares = zone_squares(epsg)
    corners = np.column_stack([squares.left, squares.top - SQUARE_M, squares.left + SQUARE_M, squares.top])
    covered = box_union(epsg, corners, central_meridian(epsg))
    zone = shapely.union_all([shapely.box(*bounds) for bounds in mgrs_zone(epsg)])
    return shapely.difference(zone, covered)


def _name(zone: int, column: int, row: int, centre_lat: float) -> str:
    band = _BANDS[int(np.clip((centre_lat + 80) // 8, 0, len(_BANDS) - 1))]
    letter = _ROWS[(row + (0 if zone % 2 else 5)) % len(_ROWS)]
    return f"{zone:02d}{band}{_COLUMNS[(zone - 1) % 3][column - 1]}{letter}"


def _extents(epsg: int, left: NDArray[np.float64], bottom: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The squares' boxes in lon/lat, a little too large, from their corners and the middles of their edges."""
    across, up = (grid.ravel() * SQUARE_M / 2 for grid in np.meshgrid(np.arange(3), np.arange(3)))
    lon, lat = to_lonlat(epsg).transform(left[:, None] + across, bottom[:, None] + up)
    meridian = central_meridian(epsg)
    unwrapped = (lon - meridian + 180) % 360 - 180 + meridian
    pad = _CORNER_PAD_DEG / np.cos(np.radians(np.abs(lat).max(axis=1)))
    return {
        "west": unwrapped.min(axis=1) - pad,
        "east": unwrapped.max(axis=1) + pad,
        "south": lat.min(axis=1) - pad,
        "north": lat.max(axis=1) + pad,
    }
