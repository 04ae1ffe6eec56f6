"""How many acquisitions each tile has: a catalogue's footprints against the boxes of tiles, in lon/lat."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from eo_assets.core.tile import Tile


def days_a_tile(
    tiles: Sequence[Tile], days: Sequence[dt.date], footprints: Sequence[shapely.Geometry]
) -> NDArray[np.int64]:
    """(tile,) number of different days on which any footprint meets the tile; `days` and `footprints` go together."""
    tree = shapely.STRtree([lonlat_box(tile) for tile in tiles])
    which_footprint, which_tile = tree.query(np.asarray(footprints, dtype=object), predicate="intersects")
    met = {(int(tile), days[footprint]) for footprint, tile in zip(which_footprint, which_tile)}
    counts = np.zeros(len(tiles), dtype=np.int64)
    for tile, _ in met:
        counts[tile] += 1
    return counts


def lonlat_box(tile: Tile) -> shapely.Geometry:
    """A tile's box with its buffer, in longitude and latitude; in two parts where it crosses the antimeridian."""
    box = shapely.segmentize(shapely.box(*tile.bounds), (tile.bounds.right - tile.bounds.left) / 8)
    lonlat = shapely.transform(box, _to_lonlat(tile.epsg).transform, interleaved=False)
    west, _, east, _ = lonlat.bounds
    return _cut_at_antimeridian(lonlat) if east - west > 180 else lonlat


@functools.lru_cache(maxsize=128)
def _to_lonlat(epsg: int) -> Transformer:
    """Made once a zone: for thousands of tiles that is most of the time."""
    return Transformer.from_crs(epsg, "OGC:CRS84", always_xy=True)


def _cut_at_antimeridian(box: shapely.Geometry) -> shapely.Geometry:
    """A box some of whose corners lie near 180 and some near -180 degrees, as one part on each side."""
    joined = shapely.transform(box, lambda lon, lat: (lon % 360, lat), interleaved=False)
    east_end = shapely.intersection(joined, shapely.box(0, -90, 180, 90))
    west_end = shapely.intersection(joined, shapely.box(180, -90, 360, 90))
    return shapely.union(east_end, shapely.transform(west_end, lambda lonlat: lonlat - [360, 0]))
