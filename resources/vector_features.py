"""Features of a vector file for one tile, or all of them: GeoPackage, GeoJSON, FlatGeobuf, shapefile and GeoParquet.

Runs on workers. pyogrio and pyarrow are imported only when a file is read: pyogrio imports geopandas where that is
installed, and few workers need either. The GDAL that pyogrio brings reads no Parquet.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from resources.vector_kinds import DRIVERS, may_be_opened

PARQUET = frozenset({".parquet", ".geoparquet", ".pq"})

MARGIN = 0.01
"""Share of a tile by which its box is widened: its edges are curves in another CRS, and bulge out of the box."""


@dataclass(frozen=True, slots=True)
class Features:
    """Features in the order of their file: `numbers` (n,) that the file knows them by, shapes (n,), columns by name.

    A shape is None where a feature has no geometry. Shapes are flat and in `crs`.
    """

    path: Path
    crs: CRS
    numbers: NDArray[np.int64]
    shapes: NDArray[np.object_]
    columns: dict[str, NDArray[Any]]

    def take(self, chosen: NDArray[Any]) -> Features:
        """The features that a mask or positions (n,) choose."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return Features(self.path, self.crs, self.numbers[chosen], self.shapes[chosen], columns)

    def placed(self, epsg: int) -> NDArray[np.object_]:
        """The shapes in another CRS, their long edges bent as that CRS has them."""
        to_crs = Transformer.from_crs(self.crs, epsg, always_xy=True)
        bent = shapely.segmentize(self.shapes, _step(self.crs))
        return np.asarray(shapely.transform(bent, to_crs.transform, interleaved=False), dtype=object)


def read_features(path: Path, layer: str | None, columns: Sequence[str], tile: Tile | None) -> Features:
    """The features whose boxes meet a tile (None: all), with these columns.

    Raises TileError, with the remedy, for a file, layer, column or CRS that is not there or can't be read.
    """
    read = _read_parquet if _is_parquet(path) else _read_gdal
    return read(path, layer, list(dict.fromkeys(columns)), tile)


def read_header(path: Path, layer: str | None, columns: Sequence[str]) -> None:
    """Raise TileError where `read_features` would, as far as the head of the file tells."""
    (_parquet_header if _is_parquet(path) else _gdal_header)(path, layer, columns)


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        raise TileError(f"{path} does not exist; put the reference there, or change reference.source.file")
    return path.suffix.lower() in PARQUET


def _read_gdal(path: Path, layer: str | None, columns: list[str], tile: Tile | None) -> Features:
    import pyogrio.raw

    crs = _gdal_header(path, layer, columns)
    box = None if tile is None else _window(crs, tile)
    with _told(path, *_gdal_errors()):
        found, numbers, wkb, values = pyogrio.raw.read(
            path, layer=layer, columns=columns, bbox=box, force_2d=True, return_fids=True
        )
    by_name = dict(zip(found["fields"], values))
    shapes = np.asarray(shapely.from_wkb(wkb), dtype=object)
    return Features(path, crs, np.asarray(numbers, np.int64), shapes, {name: by_name[name] for name in columns})


def _gdal_header(path: Path, layer: str | None, columns: Sequence[str]) -> CRS:
    import pyogrio

    if not may_be_opened(path):
        raise TileError(
            f"{path} can't be read as a vector file: it is no GeoPackage, GeoJSON, FlatGeobuf or shapefile; export it "
            "again as a GeoPackage"
        )
    with _told(path, *_gdal_errors()):
        meta = pyogrio.read_info(path, layer=_layer(path, layer))
        if meta["driver"] not in DRIVERS:
            raise TileError(f"{path} is a {meta['driver']} file, which is not read; export it as a GeoPackage")
        _require(path, columns, list(meta["fields"]))
        return _known(path, CRS(meta["crs"]) if meta["crs"] else None)


def _gdal_errors() -> tuple[type[Exception], ...]:
    from pyogrio.errors import DataLayerError, DataSourceError

    return DataLayerError, DataSourceError


def _layer(path: Path, layer: str | None) -> str:
    """The layer to read: the one that is named, or the only one."""
    import pyogrio

    names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and len(names) == 1:
        return names[0]
    if layer is None or layer not in names:
        raise TileError(
            f"{path}: reference.source.layer: {layer or 'none is named'}; the file has {', '.join(names) or 'none'}: "
            "name the one that holds the reference"
        )
    return layer


def _read_parquet(path: Path, layer: str | None, columns: list[str], tile: Tile | None) -> Features:
    """GeoParquet (https://geoparquet.org/releases/v1.1.0), batch by batch. Features are numbered from 0."""
    import pyarrow.parquet

    geometry, crs = _parquet_header(path, layer, columns)
    parts, first = [], 0
    with _told(path, *_parquet_errors()), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(dict.fromkeys([geometry, *columns]))):
            shapes = shapely.force_2d(shapely.from_wkb(batch.column(geometry).to_numpy(zero_copy_only=False)))
            values = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns}
            numbers = np.arange(first, first + len(shapes), dtype=np.int64)
            rows = Features(path, crs, numbers, np.asarray(shapes, dtype=object), values)
            parts.append(rows.take(_meets(rows, tile)))
            first += len(shapes)
    return _joined(path, crs, columns, parts)


def _parquet_header(path: Path, layer: str | None, columns: Sequence[str]) -> tuple[str, CRS]:
    """The geometry's column and CRS."""
    import pyarrow.parquet

    if layer is not None:
        raise TileError(f"{path}: reference.source.layer: {layer}; a Parquet file has no layers: remove the key")
    with _told(path, *_parquet_errors()):
        schema = pyarrow.parquet.read_schema(path)
        geometry, crs = _geoparquet(path, schema.metadata or {})
        _require(path, columns, [name for name in schema.names if name != geometry])
    return geometry, crs


def _parquet_errors() -> tuple[type[Exception], ...]:
    import pyarrow

    return pyarrow.ArrowException, OSError, LookupError, ValueError


def _geoparquet(path: Path, metadata: dict[bytes, bytes]) -> tuple[str, CRS]:
    """The geometry column and its CRS, which is longitude and latitude where the file says nothing of it."""
    if b"geo" not in metadata:
        raise TileError(f"{path} has no `geo` metadata, so it is no GeoParquet; write it with GeoPandas or GDAL")
    said = json.loads(metadata[b"geo"])
    name = str(said["primary_column"])
    column = said["columns"][name]
    if column["encoding"] != "WKB":
        raise TileError(f"{path}: column {name} is encoded as {column['encoding']}; write its geometry as WKB")
    named = column.get("crs", "OGC:CRS84")
    return name, _known(path, None if named is None else CRS.from_user_input(named))


def _meets(features: Features, tile: Tile | None) -> NDArray[np.bool_]:
    """Which features have a box that meets the tile's; without a tile all, also those without a geometry."""
    box = None if tile is None else _window(features.crs, tile)
    if tile is None:
        return np.ones(len(features.shapes), dtype=bool)
    left, bottom, right, top = shapely.bounds(features.shapes).T
    if box is None:
        return np.asarray(np.isfinite(left))
    return np.asarray((left <= box[2]) & (right >= box[0]) & (bottom <= box[3]) & (top >= box[1]))


def _joined(path: Path, crs: CRS, columns: Sequence[str], parts: Sequence[Features]) -> Features:
    if not parts:
        return Features(
            path, crs, np.empty(0, np.int64), np.empty(0, object), {name: np.empty(0, object) for name in columns}
        )
    values = {name: np.concatenate([part.columns[name] for part in parts]) for name in columns}
    numbers, shapes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("numbers", "shapes"))
    return Features(path, crs, numbers, shapes, values)


@contextlib.contextmanager
def _told(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """What a reader says of a file that it can't read, as a TileError with the remedy."""
    try:
        yield
    except (*errors, CRSError, shapely.errors.ShapelyError) as error:
        raise TileError(f"{path} can't be read as a vector file: {error}; export it again as a GeoPackage") from None


def _known(path: Path, crs: CRS | None) -> CRS:
    if crs is None:
        raise TileError(f"{path} has no CRS; set the one that its coordinates are in and save it again")
    return crs


def _require(path: Path, columns: Sequence[str], present: Sequence[str]) -> None:
    for name in columns:
        if name not in present:
            raise TileError(
                f"{path} has no column {name!r}; it has {', '.join(present) or 'none'}: name one of them in "
                "reference.source"
            )


def _window(crs: CRS, tile: Tile) -> tuple[float, ...] | None:
    """A box around the tile in the CRS of the file; None, everything, where that CRS does not reach the tile."""
    to_file = Transformer.from_crs(tile.epsg, crs, always_xy=True)
    left, bottom, right, top = tile.bounds
    x, y = MARGIN * (right - left), MARGIN * (top - bottom)
    window = to_file.transform_bounds(left - x, bottom - y, right + x, top + y, densify_pts=21)
    return window if all(map(math.isfinite, window)) and window[0] <= window[2] else None


def _step(crs: CRS) -> float:
    """How far apart vertices may lie before an edge bends visibly: about a kilometre."""
    return 0.01 if crs.is_geographic else 1000.0
