"""Polygons of a vector file that touch one tile, ready to be burnt. Runs on workers: no geopandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyogrio.raw
import shapely
from pyproj import CRS, Transformer

from eo_assets.core.tile import Tile
from eo_assets.errors import TileError


def polygons_of(path: Path, layer: str | None, column: str | None, value: float, tile: Tile) -> list[tuple[Any, float]]:
    """(geometry in the tile's CRS, value) of every polygon that meets the tile, in the order of the file.

    The value is the column's, or `value` for all. Later polygons are burnt over earlier ones.
    """
    if not path.is_file():
        raise TileError(f"{path} does not exist; put the reference polygons there, or change reference.source.file")
    meta = pyogrio.read_info(path, layer=layer)
    if column is not None and column not in meta["fields"]:
        raise TileError(f"{path} has no column {column!r}; it has {', '.join(meta['fields'])}")
    to_file = Transformer.from_crs(tile.epsg, CRS(meta["crs"]), always_xy=True)
    to_tile = Transformer.from_crs(CRS(meta["crs"]), tile.epsg, always_xy=True)
    window = to_file.transform_bounds(*tile.bounds, densify_pts=21)
    _, _, geometry, fields = pyogrio.raw.read(path, layer=layer, columns=[column] if column else [], bbox=window)
    shapes = shapely.transform(
        shapely.segmentize(shapely.from_wkb(geometry), _step(CRS(meta["crs"]))), to_tile.transform, interleaved=False
    )
    values = fields[0] if column else [value] * len(shapes)
    return [(shape, float(number)) for shape, number in zip(shapes, values)]


def _step(crs: CRS) -> float:
    """How far apart vertices may lie before an edge bends visibly: about a kilometre."""
    return 0.01 if crs.is_geographic else 1000.0
