"""Labels of a project's own files on a tile's pixels, by blocks of rows: polygons burnt, rasters warped, points."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from eo_assets.core.labels import cast
from eo_assets.core.points import Points, label_raster
from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from eo_assets.project import PointsReference, RasterReference, Reference, VectorReference
from resources.eopatch_files import row_blocks
from resources.vector_features import read_header
from resources.vector_tiles import PointColumns, check_points, points_of, polygons_of

Blocks = Iterator[tuple[slice, NDArray[Any]]]
"""Blocks of rows, each with its labels (rows, x, 1)."""


def polygon_blocks(path: Path, source: VectorReference, reference: Reference, tile: Tile) -> Blocks:
    """Polygons burnt where they hold a pixel's centre, or wherever they touch one; the topmost wins."""
    shapes = polygons_of(path, source.layer, source.column, source.value, tile, source.order_by)
    checked(np.asarray([value for _, value in shapes], dtype=np.float64), reference, tile)
    for rows in row_blocks(tile.shape[0]):
        block = np.full((rows.stop - rows.start, tile.shape[1]), reference.nodata, dtype=reference.dtype)
        if shapes:
            transform = tile.transform @ tile.transform.translation(0, rows.start)
            rasterize(shapes, out=block, transform=transform, all_touched=source.all_touched)
        yield rows, block[..., None]


def point_blocks(points: Points, reference: Reference, tile: Tile) -> Blocks:
    """The labels of points on their pixels."""
    for rows in row_blocks(tile.shape[0]):
        here = points.take((points.pixels[:, 0] >= rows.start) & (points.pixels[:, 0] < rows.stop))
        yield rows, label_raster(here, rows, tile.shape[1], reference.nodata)[..., None]


def read_points(path: Path, reference: Reference, tile: Tile) -> Points:
    """The points of a points reference that lie in the tile's cell."""
    return points_of(path, _columns(reference), tile)


def raster_blocks(path: Path, source: RasterReference, reference: Reference, tile: Tile) -> Blocks:
    """A raster warped onto the tile's pixels; nodata where it says, or covers, nothing."""
    with _open_raster(path, source.band) as raster, _on_grid(raster, source, reference, tile) as warped:
        for rows in row_blocks(tile.shape[0]):
            window = Window(0, rows.start, tile.shape[1], rows.stop - rows.start)
            values = np.asarray(warped.read(source.band, window=window))[..., None]
            whole = source.resampling == "average" and np.dtype(reference.dtype).kind != "f"
            yield rows, np.rint(values) if whole else values


def check_label_file(path: Path, reference: Reference) -> None:
    """Refuse a file that no tile could take its labels from, and points of which any is not as it should be.

    Raises TileError that names the file, what is amiss and the remedy. Polygons and pixels are looked at tile by tile.
    """
    match reference.source:
        case RasterReference() as source:
            with _open_raster(path, source.band):
                return
        case VectorReference() as source:
            read_header(path, source.layer, [name for name in (source.column, source.order_by) if name is not None])
        case PointsReference():
            check_points(path, _columns(reference))


def checked(values: NDArray[Any], reference: Reference, tile: Tile) -> NDArray[Any]:
    """The labels in the reference's own type; a value that it can't hold is a TileError."""
    stored, fits = cast(values, reference.dtype)
    if not fits.all():
        raise TileError(
            f"reference of {tile.name}: values {values.min()}..{values.max()} ({values.dtype}) do not fit "
            f"reference.dtype {reference.dtype}; choose a type that holds them"
        )
    return stored


def _columns(reference: Reference) -> PointColumns:
    source = reference.source
    assert isinstance(source, PointsReference)
    return PointColumns(
        source.layer, source.id, source.column, source.date, source.weight, reference.dtype, reference.nodata
    )


@contextlib.contextmanager
def _open_raster(path: Path, band: int) -> Iterator[Any]:
    """A raster with a CRS and the wanted band; anything else is a TileError."""
    if not path.is_file():
        raise TileError(f"{path} does not exist; put the reference there, or change reference.source.file")
    try:
        # A VRT of that name could show whatever file of this machine it likes.
        with rasterio.open(path, driver="GTiff") as raster:
            if raster.crs is None:
                raise TileError(f"{path} has no CRS; assign one with `rio edit-info --crs`, or export it again")
            if band > raster.count:
                raise TileError(f"{path} has {raster.count} bands; reference.source.band: {band} is not among them")
            yield raster
    except rasterio.errors.RasterioError as error:
        raise TileError(f"{path} can't be read as a raster: {error}; export it again as a GeoTIFF") from None


def _on_grid(raster: Any, source: RasterReference, reference: Reference, tile: Tile) -> WarpedVRT:
    """A raster on a tile's pixels, `reference.nodata` where it says or covers nothing.

    Its own nodata takes no part in a mode or an average, and neither does NaN. An average is made in float64, so that
    no whole type of the file rounds or cuts it.
    """
    own = raster.nodatavals[source.band - 1]
    averaged: dict[str, Any] = {"dtype": "float64"} if source.resampling == "average" else {}
    if source.resampling != "nearest" and own is None and np.dtype(raster.dtypes[source.band - 1]).kind == "f":
        averaged["src_nodata"] = float("nan")
    return WarpedVRT(
        raster,
        crs=f"EPSG:{tile.epsg}",
        transform=tile.transform,
        width=tile.shape[1],
        height=tile.shape[0],
        resampling=Resampling[source.resampling],
        nodata=reference.nodata,
        **averaged,
    )
