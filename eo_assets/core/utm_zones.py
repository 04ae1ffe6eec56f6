"""The UTM zones of WGS 84 by EPSG code, 32601-32660 north and 32701-32760 south, and what each owns of the globe."""

from __future__ import annotations

from eo_assets.core.tile import Bounds

UTM_EPSG = tuple(range(32601, 32661)) + tuple(range(32701, 32761))
UTM_SOUTH, UTM_NORTH = -80.0, 84.0

# The zones that MGRS widens or drops: (zone, south): (west, east), or None where the zone has nothing.
_V, _W, _X = 56.0, 64.0, 72.0
_MGRS_EXCEPTIONS: dict[tuple[int, float], tuple[float, float] | None] = {
    (31, _V): (0, 3),
    (32, _V): (3, 12),
    (31, _X): (0, 9),
    (32, _X): None,
    (33, _X): (9, 21),
    (34, _X): None,
    (35, _X): (21, 33),
    (36, _X): None,
    (37, _X): (33, 42),
}


def zone_strip(epsg: int) -> Bounds:
    """The strip of six degrees, in longitude and latitude, of a UTM zone and hemisphere."""
    west = central_meridian(epsg) - 3
    return Bounds(west, 0.0, west + 6, UTM_NORTH) if epsg < 32700 else Bounds(west, UTM_SOUTH, west + 6, 0.0)


def central_meridian(epsg: int) -> float:
    """Longitude in degrees."""
    return epsg % 100 * 6.0 - 183


def mgrs_zone(epsg: int) -> list[Bounds]:
    """The zone as the Military Grid Reference System has it, with the exceptions of Norway and Svalbard, in lon/lat.

    Source: NGA.SIG.0012, The Universal Grids and the Transverse Mercator Map Projection, section 7.
    """
    strip, zone = zone_strip(epsg), epsg % 100
    if epsg > 32700 or not 31 <= zone <= 37:
        return [strip]
    bounds = []
    for south, north in ((0.0, _V), (_V, _W), (_W, _X), (_X, UTM_NORTH)):
        span = _MGRS_EXCEPTIONS.get((zone, south), (strip.left, strip.right))
        if span is not None:
            bounds.append(Bounds(span[0], south, span[1], north))
    return bounds
