"""What of a map is shown: its bounds cut by the area of interest, as GeoJSON in the map's CRS."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cells import LONLAT, METRES_A_DEGREE, SEGMENT_DEG, clip, polygons, project, to_lonlat
from eo_assets.core.tile import Bounds

STEP_OF_PIXEL = 1 / 1000
"""Coordinates are rounded to this share of a pixel, so that a digest of the cover does not follow the last bits."""

CHORD_OF_PIXEL = 1 / 20
"""Vertices that bend the outline by less than this share of a pixel are left out: an outline of a country has many."""

TO_A_CENTRE = 0.75
"""No place is farther from a pixel's centre than this share of a pixel: half its diagonal is 0.707."""


def cover_of(area: BaseGeometry | None, epsg: int, bounds: Bounds, pixel: float) -> BaseGeometry | None:
    """The part of a map's bounds that lies in the area, in the map's CRS; None where the two do not meet.

    `area` is a polygon or multipolygon in EPSG:4326 between -180 and 180 degrees, as every area of a project is; None
    stands for all of the map. `bounds` are the map's, `pixel` is the size of its pixels in the same units; a map may
    reach over the antimeridian. A part that is smaller than a pixel is widened so that it holds a pixel's centre: by
    their centres a service tells which pixels it shows, and would show nothing of it.
    """
    box = shapely.box(*bounds)
    if area is None:
        return box
    parts = clip(area, *_lonlat_bounds(epsg, bounds))
    common = polygons([shapely.intersection(project(parts, epsg), box)])
    seen = [part if part.area >= pixel**2 else part.buffer(pixel * TO_A_CENTRE, join_style="mitre") for part in common]
    inside = shapely.intersection(shapely.union_all(seen), box)
    found = polygons([shapely.set_precision(shapely.simplify(inside, pixel * CHORD_OF_PIXEL), pixel * STEP_OF_PIXEL)])
    return shapely.union_all(found) if found else None


def geojson(geometry: BaseGeometry, epsg: int) -> dict[str, Any]:
    """A GeoJSON geometry that names its CRS, as Sentinel Hub takes it."""
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}
    return {**shapely.geometry.mapping(geometry), "crs": crs}


def _lonlat_bounds(epsg: int, bounds: Bounds) -> Bounds:
    """A box in longitude and latitude around the bounds; past +-180 degrees rather than around the globe."""
    if epsg == LONLAT:
        return bounds
    edge = shapely.segmentize(shapely.box(*bounds).exterior, SEGMENT_DEG * METRES_A_DEGREE)
    x, y = shapely.get_coordinates(edge).T
    lon, lat = (np.asarray(values) for values in to_lonlat(epsg).transform(x, y))
    lon = (lon - lon[0] + 180) % 360 - 180 + lon[0]
    return Bounds(
        float(lon.min()) - SEGMENT_DEG,
        float(lat.min()) - SEGMENT_DEG,
        float(lon.max()) + SEGMENT_DEG,
        float(lat.max()) + SEGMENT_DEG,
    )
