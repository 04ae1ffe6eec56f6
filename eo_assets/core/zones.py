"""Which UTM zone's map a place belongs to, where the tiles of several zones cover it.

A place belongs to the map whose zone it lies in: of the zones with tiles over it, the one of its own hemisphere whose
central meridian is nearest. Wherever the 6-degree strip's own zone has a tile, that is the strip's zone. Where it has
none, the neighbour that covers the place keeps it. That is common: the Sentinel-2 tile list drops slivers of squares
along zone edges where the neighbour's squares reach over, and whole zones around Norway and Svalbard, so that the plain
strip rule would tear holes tens of kilometres wide into maps made on the service's tiling grids.

Zones are EPSG 32601-32660 (north) and 32701-32760 (south); zones 60 and 1 are neighbours. Every other CRS is alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.features import rasterize

from eo_assets.core.mosaic import Lattice, map_bounds
from eo_assets.core.tile import Tile

EQUATOR_Y = {326: 0.0, 327: 10_000_000.0}
"""Northing of the equator, by hemisphere."""

MAX_ZONES_APART = 5
"""A 100 km square at 84 degrees of latitude spans two zones; beyond five, no tile reaches."""

EDGE_STEP_M = 250.0
"""Vertices along a tile's edge: what is straight in one zone bends in the next, by less than a millimetre in 250 m."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A UTM zone: `number` 1 to 60, and its hemisphere."""

    number: int
    north: bool

    @classmethod
    def of(cls, epsg: int) -> Zone | None:
        """The UTM zone of an EPSG code, None for a CRS that is not WGS 84 / UTM."""
        hemisphere, number = divmod(epsg, 100)
        return cls(number, hemisphere == 326) if hemisphere in EQUATOR_Y and 1 <= number <= 60 else None

    @property
    def central_meridian(self) -> float:
        """Longitude in degrees."""
        return self.number * 6.0 - 183.0

    def zones_east(self, other: Zone) -> int:
        """How many zones `other` lies to the east, -30 to 29, the short way round."""
        return (other.number - self.number + 30) % 60 - 30


def edge_x(epsg: int, zones_east: int, ys: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """x, in a UTM zone's CRS, of the meridian halfway to the zone `zones_east` of it, where it crosses each of `ys`.

    `edge_x(epsg, 1, ys)` and `edge_x(epsg, -1, ys)` are the edges of the zone's own 6-degree strip. Good to a
    micrometre, at a few projections a row where pixel by pixel would cost one a pixel.
    """
    zone = Zone.of(epsg)
    if zone is None:
        raise ValueError(f"EPSG:{epsg} is no UTM zone and has no strip")
    meridian = np.full(ys.shape, zone.central_meridian + 3.0 * zones_east)
    project = _transformer(4326, epsg)
    latitude = np.asarray(_transformer(epsg, 4326).transform(np.full(ys.shape, 500_000.0), ys)[1])
    x = np.empty_like(latitude)
    for _ in range(20):
        x, y = project.transform(meridian, latitude)
        if np.max(np.abs(ys - y), initial=0.0) < 1e-6:
            break
        # Northing along a meridian grows almost as on the central one, 111 km a degree: each step gains two digits.
        latitude = latitude + (ys - y) / 111_200.0
    return np.asarray(x, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Cover:
    """The tiles of one other zone, as polygons in the CRS of this zone's map."""

    zone: Zone
    polygons: npt.NDArray[Any] = field(compare=False)

    def near(self, lattice: Lattice, rows: slice) -> list[Any]:
        """Those polygons that touch a block of rows."""
        ys = lattice.row_centres(rows)
        left, bottom, right, top = shapely.bounds(self.polygons).T
        touching = (bottom <= ys[0]) & (top >= ys[-1]) & (left < lattice.bounds.right) & (right > lattice.bounds.left)
        return list(self.polygons[touching])


@dataclass(frozen=True, slots=True)
class ForeignClaims:
    """What other zones' maps cover of one zone's lattice. Made by `foreign_claims`; `mosaic_rows` asks it."""

    lattice: Lattice
    covers: tuple[Cover, ...]

    def mask(self, rows: slice) -> npt.NDArray[np.bool_] | None:
        """(rows, width), True where a pixel belongs to another zone's map; None if that holds nowhere in these rows."""
        mask = np.zeros((rows.stop - rows.start, self.lattice.shape[1]), dtype=np.bool_)
        for cover in self.covers:
            polygons = cover.near(self.lattice, rows)
            if polygons:
                mask |= _nearer(cover.zone, self.lattice, rows) & _covered(polygons, self.lattice, rows)
        return mask if mask.any() else None


def foreign_claims(lattice: Lattice, tiles: Iterable[Tile]) -> ForeignClaims:
    """What the tiles of other zones claim of a zone's map. Give all tiles of the zones that have a map, and no others.

    Tiles far from this zone, of the zone itself and in other CRSs are passed over, so the whole tile grid can be given.
    """
    own = Zone.of(lattice.epsg)
    polygons: dict[Zone, list[Any]] = {}
    for tile in tiles:
        zone = Zone.of(tile.epsg)
        if own and zone and zone != own and abs(own.zones_east(zone)) <= MAX_ZONES_APART:
            polygon = _outline(tile, lattice)
            if polygon is not None:
                polygons.setdefault(zone, []).append(polygon)
    return ForeignClaims(lattice, tuple(Cover(zone, np.array(members)) for zone, members in polygons.items()))


def _outline(tile: Tile, lattice: Lattice) -> Any | None:
    """A tile's pixels in its own map, as a polygon in a lattice's CRS; None if it is beyond the lattice."""
    project = _transformer(tile.epsg, lattice.epsg)
    box = map_bounds(tile)
    # Bounds first: most of a grid's tiles are far away, and projecting a whole outline costs a hundred times more.
    left, bottom, right, top = project.transform_bounds(*box, densify_pts=2)
    here = lattice.bounds
    margin = 1_000.0  # an edge bows by less than that between three points
    if not (left - margin < here.right and right + margin > here.left):
        return None
    if not (bottom - margin < here.top and top + margin > here.bottom):
        return None
    ring = shapely.segmentize(shapely.box(*box), EDGE_STEP_M)
    x, y = project.transform(*shapely.get_coordinates(ring).T)
    return shapely.polygons(np.column_stack([x, y]))


def _nearer(zone: Zone, lattice: Lattice, rows: slice) -> npt.NDArray[np.bool_]:
    """(rows, width): where another zone comes before the lattice's own, if both have a tile there."""
    own = Zone.of(lattice.epsg)
    assert own is not None, "only UTM zones have covers"
    ys = lattice.row_centres(rows)
    shape = (ys.size, lattice.shape[1])
    if zone.north != own.north:
        return np.broadcast_to(~_own_hemisphere(lattice.epsg, ys)[:, np.newaxis], shape)
    zones_east = own.zones_east(zone)
    first = _first_column_from(edge_x(lattice.epsg, zones_east, ys), lattice.bounds.left, lattice.resolution)
    columns = np.arange(shape[1])
    return columns >= first[:, np.newaxis] if zones_east > 0 else columns < first[:, np.newaxis]


def _covered(polygons: list[Any], lattice: Lattice, rows: slice) -> npt.NDArray[np.bool_]:
    """(rows, width): pixels whose centre lies in one of the polygons."""
    shape = (rows.stop - rows.start, lattice.shape[1])
    transform = lattice.transform @ Affine.translation(0, rows.start)
    return np.asarray(rasterize(polygons, out_shape=shape, transform=transform, dtype="uint8"), dtype=np.bool_)


def _own_hemisphere(epsg: int, ys: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    hemisphere = epsg // 100
    north = ys >= EQUATOR_Y[hemisphere]
    return north if hemisphere == 326 else ~north


def _first_column_from(xs: npt.NDArray[np.float64], left: float, resolution: float) -> npt.NDArray[np.int64]:
    """The first column whose pixel centre is at x or east of it."""
    return np.ceil((xs - left) / resolution - 0.5).astype(np.int64)


@lru_cache(maxsize=256)
def _transformer(source: int, target: int) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
