"""How many acquisitions each tile has: a catalogue's footprints against the boxes of tiles, in lon/lat."""

from __future__ import annotations

import datetime as dt
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
    """A tile's box with its buffer, in longitude and latitude."""
    box = shapely.segmentize(shapely.box(*tile.bounds), (tile.bounds.right - tile.bounds.left) / 8)
    to_lonlat = Transformer.from_crs(tile.epsg, "OGC:CRS84", always_xy=True)
    return shapely.transform(box, to_lonlat.transform, interleaved=False)
