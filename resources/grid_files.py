"""Grids as GeoPackages: the tile grid that the project writes, and the custom grids that users bring.

The tile grid's file has a layer for each CRS, `tiles_32633`, and is fit to be the features of a Sentinel Hub Batch V2
request as it stands: `identifier` names the tile, the geometry is its box WITH the buffer, `width` and `height` are its
pixels. The service takes width and height or `resolution`, never both, so the pixel's size is called `pixel_size`.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from eo_assets.core.custom_grid import Cell, CustomGrid
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import GridError
from resources.vector_layers import Layer, read_layers

_EDGES = ("cell_left", "cell_bottom", "cell_right", "cell_top")
_COLUMNS = ("identifier", "width", "height", "pixel_size", "buffer_y", "buffer_x", *_EDGES)
_LAST_CHANGE = "2000-01-01T00:00:00.000Z"  # a GeoPackage holds the time of writing; equal tiles must make equal bytes
_gdal_options = threading.Lock()


def write_grid(path: Path, tiles: Sequence[Tile]) -> None:
    """Write the tiles as a GeoPackage, replacing `path` in one step.

    Equal tiles make equal bytes, as long as GDAL and SQLite stay the same. The cell's edges are columns of their own:
    taken back from the buffered box they would lose their last digits.
    """
    if not tiles:
        raise GridError(f"{path}: there are no tiles to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".grid-", dir=path.parent) as folder:
        draft = Path(folder) / "grid.gpkg"
        with _fixed_time():
            for epsg, layer in groupby(sorted(tiles, key=lambda tile: tile.order), key=lambda tile: tile.epsg):
                _write_layer(draft, epsg, list(layer))
        draft.replace(path)


def read_grid(path: Path) -> list[Tile]:
    """The tiles that `write_grid` wrote, by (EPSG, name). Raises GridError for any other file."""
    tiles = [tile for layer in read_layers(path, GridError, columns=True) for tile in _tiles(layer)]
    return sorted(tiles, key=lambda tile: tile.order)


def read_custom_grid(
    path: Path, identifier_column: str, resolution: float, buffer_px: tuple[int, int] = (0, 0)
) -> CustomGrid:
    """The cells of all layers of a vector file: names from a column, boxes as given; the buffer (y, x) is put around.

    Raises GridError for a missing column, a feature without a name or whose geometry is no upright box, a layer without
    a CRS that has an EPSG code, and for what CustomGrid refuses.
    """
    layers = list(read_layers(path, GridError, columns=True))
    cells = tuple(cell for layer in layers for cell in _cells(layer, identifier_column))
    try:
        return CustomGrid(cells, resolution, buffer_px)
    except GridError as cause:
        raise GridError(f"{path}: {cause}") from None


def _write_layer(path: Path, epsg: int, tiles: Sequence[Tile]) -> None:
    cells = np.array([tile.cell for tile in tiles], dtype=np.float64)
    shapes = np.array([tile.shape for tile in tiles], dtype=np.int32)
    buffers = np.array([tile.buffer_px for tile in tiles], dtype=np.int32)
    names = np.array([tile.name for tile in tiles], dtype=object)
    sizes = np.array([tile.resolution for tile in tiles], dtype=np.float64)
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(shapely.box(*np.array([tile.bounds for tile in tiles]).T)),
        field_data=[names, shapes[:, 1], shapes[:, 0], sizes, buffers[:, 0], buffers[:, 1], *cells.T.copy()],
        fields=list(_COLUMNS),
        layer=f"tiles_{epsg}",
        driver="GPKG",
        geometry_type="Polygon",
        crs=f"EPSG:{epsg}",
    )


@contextmanager
def _fixed_time() -> Iterator[None]:
    """GDAL's clock for GeoPackages stands still inside. Its options are the process's, hence the lock."""
    with _gdal_options:
        before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _LAST_CHANGE})
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _tiles(layer: Layer) -> list[Tile]:
    missing = [column for column in _COLUMNS if column not in layer.columns]
    if missing:
        raise GridError(
            f"{layer.path}: layer {layer.name} lacks {', '.join(missing)}: it is no tile grid of this project; "
            "delete it and materialize tile_grid again"
        )
    epsg = _epsg(layer)
    rows = zip(*(layer.columns[column].tolist() for column in _COLUMNS))
    return [
        Tile(name, epsg, Bounds(*cell), size, (buffer_y, buffer_x))
        for name, _, _, size, buffer_y, buffer_x, *cell in rows
    ]


def _cells(layer: Layer, identifier_column: str) -> Iterator[Cell]:
    names = layer.columns.get(identifier_column)
    if names is None:
        columns = ", ".join(layer.columns) or "none"
        raise GridError(
            f"{layer.path}: layer {layer.name} has no column {identifier_column!r} (its columns: {columns}): "
            "name the column that holds the cells' names in area.grid.identifier"
        )
    epsg = _epsg(layer)
    for number, (name, geometry) in enumerate(zip(names.tolist(), layer.geometries), start=1):
        if name is None or name != name or name == "":
            raise GridError(f"{layer.path}: layer {layer.name}, feature {number} has no {identifier_column}: name it")
        if not _is_box(geometry):
            raise GridError(
                f"{layer.path}: layer {layer.name}, cell {name} is no upright box in its CRS: redraw it from its bounds"
            )
        yield str(name), epsg, Bounds(*geometry.bounds)


def _is_box(geometry: BaseGeometry | None) -> bool:
    """Is it one polygon that fills its bounds, but for what rounding takes?"""
    if geometry is None or geometry.is_empty or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        return False
    whole = shapely.box(*geometry.bounds)
    return bool(whole.area > 0 and geometry.area > 0.999999 * whole.area)


def _epsg(layer: Layer) -> int:
    code = layer.crs.to_epsg() if layer.crs is not None else None
    if code is None and layer.crs == CRS.from_user_input("OGC:CRS84"):
        code = 4326
    if code is None:
        crs = "has no CRS" if layer.crs is None else f"is in {layer.crs.name}, which has no EPSG code"
        raise GridError(f"{layer.path}: layer {layer.name} {crs}: assign or reproject to a CRS with an EPSG code")
    return code
