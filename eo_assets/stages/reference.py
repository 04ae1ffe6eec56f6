"""Stage 4, reference: a tile's labels, (y, x, 1) with their own nodata, from a collection, polygons or a raster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from eo_assets.core.recipe import fingerprint
from eo_assets.core.sampling import labelled
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import TileError
from eo_assets.project import Collection, CollectionReference, RasterReference, Reference, VectorReference
from eo_assets.stages.quicklooks import Thumbnail, write_values
from eo_assets.stages.stage import StageResult, TileInputs
from eo_assets.stages.tiffs import tile_settings
from resources.eopatch_files import DATA_TIMELESS, ROWS, create_array, write_header
from resources.object_store import file_checksum
from resources.sentinel_hub import MAX_REQUEST_PX, SentinelHub, input_data
from resources.vector_tiles import polygons_of

Blocks = Iterator[tuple[slice, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class ReferenceStage:
    """`service` and `evalscript` are given for a collection, `input_folder` for files of the project."""

    reference: Reference
    input_folder: Path
    service: SentinelHub | None
    evalscript: str

    name: ClassVar[str] = "reference"
    inputs: ClassVar[tuple[str, ...]] = ()
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    source: ClassVar[bool] = True
    cpus: ClassVar[float] = 1.0

    @property
    def paid(self) -> bool:
        """Labels of a collection cost processing units; those of a file are made again whenever they are stale."""
        return isinstance(self.reference.source, CollectionReference)

    def memory_bytes(self, tile: Tile) -> int:
        """One window of a request, decoded."""
        return (400 << 20) + 32 * min(tile.shape[0], MAX_REQUEST_PX) * min(tile.shape[1], MAX_REQUEST_PX)

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """The reference section, the script's text or the file's bytes, and the tile's grid."""
        source = self.reference.source
        said = self.reference.model_dump(mode="json", exclude={"nodata": True, "source": {"evalscript"}})
        bytes_of = {} if isinstance(source, CollectionReference) else {"file": _digest(self.input_folder / source.file)}
        return {
            "reference": said,
            "nodata": repr(self.reference.nodata),
            "evalscript": self.evalscript,
            "tile": tile_settings(tile),
            **bytes_of,
        }

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Write the labels block by block; a tile without any label is empty."""
        write_header(output, tile)
        array = create_array(output, DATA_TIMELESS, self.reference.name, (*tile.shape, 1), self.reference.dtype)
        picture, known = Thumbnail(tile.shape), 0
        for rows, values in self._blocks(tile):
            block = self._checked(values, tile)
            array[rows] = block
            known += int(labelled(block, self.reference.nodata).sum())
            picture.add(rows, block)
        write_values(output, picture.values()[..., 0], self.reference.nodata)
        numbers = {"labelled_share": round(known / (tile.shape[0] * tile.shape[1]), 4), "labelled_pixels": known}
        return StageResult(numbers, empty=None if known else "no pixel has a label")

    def _blocks(self, tile: Tile) -> Blocks:
        match self.reference.source:
            case CollectionReference() as source:
                return self._from_service(source, tile)
            case VectorReference() as source:
                return self._from_polygons(source, tile)
            case RasterReference() as source:
                return self._from_raster(source, tile)

    def _from_service(self, source: CollectionReference, tile: Tile) -> Blocks:
        assert self.service is not None
        data = [collection_input(source.collection, source.time_interval)]
        height, width = tile.shape
        for rows in _spans(height, MAX_REQUEST_PX // ROWS * ROWS):
            parts = [
                self.service.process(
                    data, self.evalscript, window_bounds(tile, rows, columns), tile.epsg, _size(rows, columns)
                ).values
                for columns in _spans(width, MAX_REQUEST_PX)
            ]
            yield rows, np.concatenate(parts, axis=1)[..., :1]

    def _from_polygons(self, source: VectorReference, tile: Tile) -> Blocks:
        shapes = polygons_of(self.input_folder / source.file, source.layer, source.column, source.value, tile)
        self._checked(np.asarray([value for _, value in shapes], dtype=np.float64), tile)
        for rows in _spans(tile.shape[0], ROWS):
            block = np.full((rows.stop - rows.start, tile.shape[1]), self.reference.nodata, dtype=self.reference.dtype)
            if shapes:
                transform = tile.transform @ tile.transform.translation(0, rows.start)
                rasterize(shapes, out=block, transform=transform)
            yield rows, block[..., None]

    def _from_raster(self, source: RasterReference, tile: Tile) -> Blocks:
        path, nodata = self.input_folder / source.file, self.reference.nodata
        with _open_raster(path, source.band) as raster, _on_grid(raster, tile, nodata) as warped:
            for rows in _spans(tile.shape[0], ROWS):
                window = Window(0, rows.start, tile.shape[1], rows.stop - rows.start)
                yield rows, np.asarray(warped.read(source.band, window=window))[..., None]

    def _checked(self, values: NDArray[Any], tile: Tile) -> NDArray[Any]:
        """The labels in the reference's own type; a value that it can't hold is a TileError."""
        with np.errstate(invalid="ignore"):
            cast = values.astype(self.reference.dtype)
        if not np.array_equal(cast.astype(values.dtype), values, equal_nan=values.dtype.kind == "f"):
            raise TileError(
                f"reference of {tile.name}: values {values.min()}..{values.max()} ({values.dtype}) do not fit "
                f"reference.dtype {self.reference.dtype}; choose a type that holds them"
            )
        return cast


def _digest(path: Path) -> str:
    """The checksum of a label file; of all its parts where it is a shapefile, whose values lie in its `.dbf`."""
    if not path.is_file():
        raise TileError(f"reference.source.file: {path} does not exist; put the labels there, or name another file")
    if path.suffix.lower() != ".shp":
        return file_checksum(path)
    parts = sorted(part for part in path.parent.iterdir() if part.stem == path.stem and part.is_file())
    return fingerprint({part.name: file_checksum(part) for part in parts})


@contextlib.contextmanager
def _open_raster(path: Path, band: int) -> Iterator[Any]:
    """A raster with a CRS and the wanted band; anything else is a TileError."""
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise TileError(f"{path} has no CRS; assign one with `rio edit-info --crs`, or export it again")
            if band > raster.count:
                raise TileError(f"{path} has {raster.count} bands; reference.source.band: {band} is not among them")
            yield raster
    except rasterio.errors.RasterioError as error:
        raise TileError(f"{path} can't be read as a raster: {error}; export it again as a GeoTIFF") from None


def _on_grid(raster: Any, tile: Tile, nodata: float) -> WarpedVRT:
    """A raster on a tile's pixels by nearest neighbour, `nodata` where it says or covers nothing."""
    return WarpedVRT(
        raster,
        crs=f"EPSG:{tile.epsg}",
        transform=tile.transform,
        width=tile.shape[1],
        height=tile.shape[0],
        resampling=Resampling.nearest,
        nodata=nodata,
    )


def collection_input(collection: Collection, time_interval: tuple[Any, Any] | None) -> dict[str, Any]:
    """The `input.data` entry of a collection of the project file."""
    return input_data(
        collection.collection,
        datasource=collection.id,
        time_interval=None if time_interval is None else (time_interval[0].isoformat(), time_interval[1].isoformat()),
        mosaicking_order=collection.mosaicking_order,
        max_cloud_cover=collection.max_cloud_cover,
        upsampling=collection.upsampling,
        downsampling=collection.downsampling,
        harmonize_values=collection.harmonize_values,
    )


def window_bounds(tile: Tile, rows: slice, columns: slice) -> Bounds:
    """The box of a window of a tile's pixels."""
    left, _, _, top = tile.bounds
    size = tile.resolution
    return Bounds(
        left + columns.start * size, top - rows.stop * size, left + columns.stop * size, top - rows.start * size
    )


def _spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _size(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start
