"""Vector files as the driver uses them: the area of interest, and the grids of grid_files.py. Driver only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from eo_assets.core.cells import clip, polygons
from eo_assets.errors import AreaError
from resources.grid_files import read_custom_grid, read_grid, write_grid
from resources.object_store import checksum
from resources.vector_layers import CRS84, KINDS, WGS84, Layer, read_layers

__all__ = [
    "Area",
    "AreaFile",
    "area_digest",
    "area_of",
    "content_of",
    "parts_of",
    "read_area",
    "read_area_file",
    "read_custom_grid",
    "read_grid",
    "without_sidecars",
    "write_grid",
]

_SIDECARS = (".shx", ".prj", ".dbf", ".cpg", ".qix", ".sbn", ".sbx", ".qmd", ".shp.xml")
_CHORD_M = 500.0  # edges are straight in their own CRS: a chord of this length stays within 3 cm of them in lon/lat


@dataclass(frozen=True)
class Area:
    """An area of interest.

    `geometry`: the union of all files, a valid polygon or multipolygon in EPSG:4326. `digest`: sha256 over the files'
    contents, whatever their names, order and number of copies. `area_km2`: on the WGS 84 ellipsoid.
    """

    geometry: BaseGeometry
    digest: str
    area_km2: float


@dataclass(frozen=True)
class AreaFile:
    """What one file gives to an area: the sha256 of its content, its polygons in EPSG:4326 as one valid geometry."""

    content: str
    geometry: BaseGeometry


def read_area(paths: Sequence[Path]) -> Area:
    """The union of the polygons of the files' layers, in any CRS; points and lines among them are left out.

    A polygon that is not valid is made valid. Raises AreaError, naming the file and the remedy, for what can't be read,
    placed on the globe or mapped.
    """
    files = without_sidecars(paths)
    if not files:
        raise AreaError(f"no vector file matches area.files: put one under the project's input-data folder: {KINDS}")
    return area_of([read_area_file(path) for path in files])


def read_area_file(path: Path) -> AreaFile:
    """One file of an area. Raises AreaError as `read_area` does."""
    return AreaFile(content_of(path), shapely.union_all(_lonlat_polygons(path)).normalize())


def area_of(files: Sequence[AreaFile]) -> Area:
    """The area that files make together, at least one."""
    union = shapely.union_all([file.geometry for file in files]).normalize()
    return Area(geometry=union, digest=area_digest(file.content for file in files), area_km2=_area_km2(union))


def area_digest(contents: Iterable[str]) -> str:
    """The digest of an area whose files have these contents."""
    return hashlib.sha256("\n".join(sorted(set(contents))).encode()).hexdigest()


def content_of(path: Path) -> str:
    """sha256 of a file's bytes, of a shapefile's together with those beside it that its geometry depends on."""
    found = [checksum(part) for part in parts_of(path)]
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def parts_of(path: Path) -> list[Path]:
    """The files that make the geometry: a shapefile's coordinates are nothing without its .prj."""
    beside = [path.with_suffix(suffix) for suffix in (".prj", ".shx")] if path.suffix.lower() == ".shp" else []
    return [path, *(part for part in beside if part.is_file())]


def without_sidecars(paths: Sequence[Path]) -> list[Path]:
    """The files, once each; `*` also matches what belongs to a shapefile, which GDAL finds by itself."""
    shapes = {path.with_suffix("") for path in paths if path.suffix.lower() == ".shp"}
    extra = {Path(f"{shape}{suffix}") for shape in shapes for suffix in _SIDECARS}
    return [path for path in dict.fromkeys(paths) if path not in extra]


def _lonlat_polygons(path: Path) -> list[BaseGeometry]:
    """The valid lon/lat polygons of a file, at least one."""
    layers = list(read_layers(path, AreaError))
    present = [(layer, n, geometry) for layer in layers for n, geometry in enumerate(layer.geometries, start=1)]
    given = [item for item in present if item[2] is not None and not item[2].is_empty]
    if not given:
        what = "every feature's geometry is null or empty" if present else "it has no features"
        raise AreaError(f"{path}: {what}: draw at least one polygon and save again")
    parts = [part for layer, n, geometry in given for part in _place(layer, n, geometry)]
    if not parts:
        kinds = ", ".join(sorted({geometry.geom_type for _, _, geometry in given}))
        raise AreaError(f"{path}: it holds no polygons, only {kinds}: an area needs polygons; buffer or close them")
    return parts


def _place(layer: Layer, number: int, geometry: BaseGeometry) -> list[BaseGeometry]:
    """A feature's polygons in lon/lat, valid and on the globe."""
    where = f"{layer.path}: layer {layer.name}, feature {number}"
    found = polygons([geometry])
    if not all(np.isfinite(shapely.get_coordinates(polygon)).all() for polygon in found):
        raise AreaError(f"{where}: a coordinate is NaN or infinite: mend the geometry and save again")
    placed = []
    for polygon in found:
        lonlat = _to_lonlat(polygon, layer.crs, where)
        _check_range(lonlat, layer.crs, where)
        placed += _make_valid(lonlat, where)
    return placed


def _to_lonlat(polygon: BaseGeometry, crs: CRS | None, where: str) -> BaseGeometry:
    if crs is None or crs in (WGS84, CRS84):
        return polygon
    if not crs.is_geographic:
        polygon = shapely.segmentize(polygon, _CHORD_M / crs.axis_info[0].unit_conversion_factor)
    try:
        to_lonlat = Transformer.from_crs(crs, 4326, always_xy=True).transform
        lonlat = shapely.transform(polygon, to_lonlat, interleaved=False)
    except (CRSError, ProjError) as cause:
        raise AreaError(f"{where}: {crs.name} can't be turned into longitude and latitude: {cause}") from cause
    if not np.isfinite(shapely.get_coordinates(lonlat)).all():
        raise AreaError(
            f"{where}: coordinates such as {_first(polygon)} lie outside of {crs.name}: the file names the wrong CRS; "
            "assign the one that it is in"
        )
    return lonlat


def _check_range(polygon: BaseGeometry, crs: CRS | None, where: str) -> None:
    """Raise AreaError unless the polygon lies within the globe's longitudes and latitudes and covers less than half."""
    west, south, east, north = polygon.bounds
    if south < -90 or north > 90 or west < -360 or east > 360:
        reason = "there is no CRS" if crs is None else "the CRS is EPSG:4326, as in every GeoJSON that names no other"
        raise AreaError(
            f"{where}: coordinates such as {_first(polygon)} are not longitude and latitude, and {reason}: "
            "name the CRS that they are in, or reproject the file to EPSG:4326"
        )
    if west < -180 or east > 180 or east - west > 180:
        raise AreaError(
            f"{where}: a polygon spans longitudes {west:g} to {east:g}: it crosses the antimeridian or covers half the "
            "globe; split it into polygons within -180 to 180, at the antimeridian and none wider than 180 degrees"
        )


def _make_valid(polygon: BaseGeometry, where: str) -> list[BaseGeometry]:
    if polygon.is_valid and polygon.area > 0:
        return [polygon]
    mended = [part for part in polygons([shapely.make_valid(polygon)]) if part.area > 0]
    if not mended:
        reason = shapely.is_valid_reason(polygon)
        raise AreaError(f"{where}: the polygon can't be made valid, no area is left of it ({reason}): draw it again")
    return mended


def _first(polygon: BaseGeometry) -> str:
    x, y = shapely.get_coordinates(polygon)[0]
    return f"({x:g}, {y:g})"


def _area_km2(geometry: BaseGeometry) -> float:
    # Edges are straight in lon/lat, geodesics are not: chords of a tenth of a degree make the difference vanish. Around
    # the whole globe a geodesic polygon's edges cancel out, hence the halves.
    halves = clip(geometry, -180, -90, 0, 90) + clip(geometry, 0, -90, 180, 90)
    parts = [shapely.segmentize(part, 0.1) for part in halves]
    geod = Geod(ellps="WGS84")
    return math.fsum(abs(geod.geometry_area_perimeter(orient(part))[0]) for part in parts) / 1e6
