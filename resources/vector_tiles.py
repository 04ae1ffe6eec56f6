"""Polygons of a vector file that touch one tile, ready to be burnt. Runs on workers.

pyogrio is imported only when polygons are read: it imports geopandas where that is installed, and few workers need it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from eo_assets.core.tile import Tile
from eo_assets.errors import TileError


def polygons_of(path: Path, layer: str | None, column: str | None, value: float, tile: Tile) -> list[tuple[Any, float]]:
    """(geometry in the tile's CRS, value) of every polygon that meets the tile, in the order of the file.

    The value is the column's, or `value` for all. Later polygons are burnt over earlier ones; points and lines are left
    out. Raises TileError for a file, layer or column that is not there, and for a polygon whose value is no number.
    """
    if not path.is_file():
        raise TileError(f"{path} does not exist; put the reference polygons there, or change reference.source.file")
    import pyogrio.raw

    with _told(path):
        meta = pyogrio.read_info(path, layer=_layer(path, layer))
        crs = _crs(path, meta)
        if column is not None and column not in meta["fields"]:
            raise TileError(f"{path} has no column {column!r}; it has {', '.join(meta['fields']) or 'none'}")
        _, _, wkb, fields = pyogrio.raw.read(
            path, layer=layer, columns=[column] if column else [], bbox=_window(crs, tile), force_2d=True
        )
    shapes = shapely.from_wkb(wkb)
    kept = shapely.get_dimensions(shapes) == 2
    to_tile = Transformer.from_crs(crs, tile.epsg, always_xy=True)
    placed = shapely.transform(shapely.segmentize(shapes[kept], _step(crs)), to_tile.transform, interleaved=False)
    values = np.full(len(placed), value) if column is None else _numbers(path, column, fields[0][kept])
    return list(zip(placed.tolist(), values.tolist()))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        yield
    except (DataSourceError, DataLayerError, CRSError) as error:
        raise TileError(f"{path} can't be read as a vector file: {error}; export it again as a GeoPackage") from None


def _layer(path: Path, layer: str | None) -> str:
    """The layer to read: the one that is named, or the only one."""
    import pyogrio

    names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and len(names) == 1:
        return names[0]
    if layer is None or layer not in names:
        raise TileError(
            f"{path}: reference.source.layer: {layer or 'none is named'}; the file has {', '.join(names) or 'none'}: "
            "name the one that holds the polygons"
        )
    return layer


def _crs(path: Path, meta: dict[str, Any]) -> CRS:
    if not meta["crs"]:
        raise TileError(f"{path} has no CRS; set the one that its coordinates are in and save it again")
    return CRS(meta["crs"])


def _window(crs: CRS, tile: Tile) -> tuple[float, ...] | None:
    """The tile's box in the CRS of the file; None, everything, where that CRS does not reach the tile."""
    to_file = Transformer.from_crs(tile.epsg, crs, always_xy=True)
    window = to_file.transform_bounds(*tile.bounds, densify_pts=21)
    return window if all(map(math.isfinite, window)) and window[0] <= window[2] else None


def _numbers(path: Path, column: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """The column as numbers: a polygon without one would silently take the label of another beneath it."""
    for value in values:
        if not isinstance(value, int | float | np.number | np.bool_) or math.isnan(value):
            raise TileError(
                f"{path}: column {column} holds {value!r}; give every polygon a number, or remove those without a label"
            )
    return np.asarray(values, dtype=np.float64)


def _step(crs: CRS) -> float:
    """How far apart vertices may lie before an edge bends visibly: about a kilometre."""
    return 0.01 if crs.is_geographic else 1000.0
