"""The layers of a vector file, through GDAL: GeoJSON, GeoPackage, FlatGeobuf, shapefile.

Driver only: pyogrio imports geopandas where it is installed.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.errors import ShapelyError

from eo_assets.errors import EoAssetsError
from resources.vector_kinds import may_be_opened

FORMATS = {".geojson": "GeoJSON", ".json": "GeoJSON", ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile"}
KINDS = "GeoJSON (.geojson, .json), GeoPackage (.gpkg), FlatGeobuf (.fgb) or shapefile (.shp)"
WGS84 = CRS.from_epsg(4326)
CRS84 = CRS.from_user_input("OGC:CRS84")


@dataclass(frozen=True)
class Layer:
    """A layer of a vector file: geometries (n,), None where a feature has none, its CRS, and its columns, each (n,)."""

    path: Path
    name: str
    crs: CRS | None
    geometries: NDArray[np.object_]
    columns: dict[str, NDArray[np.generic]]


def read_layers(path: Path, error: type[EoAssetsError], columns: bool = False) -> list[Layer]:
    """The layers of a vector file that have geometries, in the file's order.

    `columns`: with their columns. Raises `error`, naming the file and the remedy, if it can't be read.
    """
    driver = FORMATS.get(path.suffix.lower())
    if driver is None:
        raise error(f"{path}: files of the kind {path.suffix!r} are not read: save it as {KINDS}")
    if not path.is_file():
        raise error(f"{path}: there is no such file: check the path")
    if path.stat().st_size == 0:
        raise error(f"{path}: the file is empty (0 bytes): copy or export it again")
    if not may_be_opened(path):
        raise error(f"{path}: can't be read as {driver}: its content is something else: export it again as {KINDS}")
    # GDAL warns of what the checks on the geometries refuse by name; as an error inside its handler a warning is lost.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")
        try:
            names = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
            return [_read_layer(path, name, driver, columns) for name in names]
        except (DataSourceError, DataLayerError, ShapelyError, CRSError, ValueError, RecursionError) as cause:
            reason = str(cause).split("; It might")[0].strip().rstrip(".")
            raise error(f"{path}: can't be read as {driver}: {reason}: export it again as {KINDS}") from cause


def _read_layer(path: Path, name: str, driver: str, columns: bool) -> Layer:
    found = pyogrio.read_info(path, layer=name)["driver"]
    if found != driver:
        raise ValueError(f"its content is {found}, which its suffix {path.suffix} belies")
    meta, _, wkb, values = pyogrio.raw.read(path, layer=name, columns=None if columns else [], force_2d=True)
    named = CRS.from_user_input(meta["crs"]) if meta["crs"] and driver != "GeoJSON" else None
    crs = _geojson_crs(path) if driver == "GeoJSON" else named
    return Layer(path, name, crs, shapely.from_wkb(wkb), dict(zip(meta["fields"], values)))


def _geojson_crs(path: Path) -> CRS | None:
    """The CRS that a GeoJSON names, EPSG:4326 if it names none: GDAL takes one that it does not know for EPSG:4326."""
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if "crs" not in content:
        return WGS84
    if content["crs"] is None:
        return None
    try:
        return CRS.from_user_input(content["crs"]["properties"]["name"])
    except (KeyError, TypeError, CRSError) as cause:
        raise ValueError(f"its crs {json.dumps(content['crs'])[:200]} is not known") from cause
