"""Pixels of scenes on a request's grid, by blocks of rows: windows of GeoTIFFs, warped only where the grids differ."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from eo_assets.core.tile import Bounds
from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.collections import Band, BandFile, Scene
from resources.local_sentinel_hub.scenes import Slot
from resources.local_sentinel_hub.tiffs import open_tiff

RESAMPLING = {"NEAREST": Resampling.nearest, "BILINEAR": Resampling.bilinear, "BICUBIC": Resampling.cubic}
# Two grids coincide if they differ by less than this share of a pixel.
SAME_PIXEL = 1e-4
# Error of the warp in source pixels; GDAL takes no 0.
EXACT, APPROXIMATE = 1e-6, 0.125
SEGMENTS = 64
NO_DATA, PARTLY, FULL = 0, 1, 2


@dataclass(frozen=True)
class PixelGrid:
    """The raster that a request asks for: bounds (left, bottom, right, top) in `crs`, shape (height, width)."""

    crs: CRS
    bounds: Bounds
    shape: tuple[int, int]

    @cached_property
    def transform(self) -> Affine:
        """(column, row) to (x, y) of the upper left corner of a pixel."""
        left, bottom, right, top = self.bounds
        height, width = self.shape
        return Affine((right - left) / width, 0.0, left, 0.0, (bottom - top) / height, top)

    @cached_property
    def lonlat_bounds(self) -> Bounds:
        """The box around the grid in lon/lat."""
        return Bounds(*transform_bounds(self.crs, "OGC:CRS84", *self.bounds, densify_pts=SEGMENTS))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Names of the request's resampling: NEAREST, BILINEAR or BICUBIC."""

    up: str = "NEAREST"
    down: str = "NEAREST"


class BandReader:
    """One band of one file, read on a grid. Where the grids coincide the values are the file's own, exactly."""

    def __init__(self, file: BandFile, band: Band, grid: PixelGrid, sampling: Sampling) -> None:
        """Open the file.

        Raises:
            ServiceError: the file is missing, is no GeoTIFF, lacks the band or holds another type than the collection
                declares; it names the file and the remedy.
        """
        try:
            self._source = open_tiff(file.path)
        except rasterio.RasterioIOError as error:
            raise ServiceError(
                f"{file.path} can't be read as a GeoTIFF: {error}; restore it or correct its entry"
            ) from error
        if file.index > self._source.count:
            raise ServiceError(f"{file.path} has {self._source.count} band(s), band {file.index} is asked for")
        found = self._source.dtypes[file.index - 1]
        if not np.can_cast(found, band.sample_type.lower(), "safe"):
            raise ServiceError(
                f"{file.path} holds {found}, its collection declares {band.sample_type}; correct one of them"
            )
        self._index = file.index
        self._grid = grid
        own = self._source.nodatavals[file.index - 1]
        self._nodata = band.nodata if band.nodata is not None else own
        self._offset = _whole_offset(self._source.crs, self._source.transform, grid)
        self._warped = None if self._offset else self._warp(sampling)

    def read(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows [start, stop) of the grid: values and where they are valid, both (rows, width); 0 where not valid."""
        values, covered = self._direct(start, stop) if self._offset else self._read_warped(start, stop)
        valid = covered if self._nodata is None else covered & is_data(values, self._nodata)
        values[~valid] = 0
        return values, valid

    def close(self) -> None:
        """Close the file."""
        if self._warped is not None:
            self._warped.close()
        self._source.close()

    def _direct(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        assert self._offset is not None
        row, column = self._offset
        shape = (stop - start, self._grid.shape[1])
        values = np.zeros(shape, self._source.dtypes[self._index - 1])
        covered = np.zeros(shape, bool)
        top, bottom = max(row + start, 0), min(row + stop, self._source.height)
        left, right = max(column, 0), min(column + shape[1], self._source.width)
        if top < bottom and left < right:
            part = np.s_[top - row - start : bottom - row - start, left - column : right - column]
            values[part] = self._source.read(self._index, window=Window.from_slices((top, bottom), (left, right)))
            covered[part] = True
        return values, covered

    def _warp(self, sampling: Sampling) -> WarpedVRT:
        name = sampling.up if self._finer_than_source() else sampling.down
        same_crs = self._source.crs == self._grid.crs
        exact = {} if name == "NEAREST" else {"dtype": "float32"}
        fill = {"add_alpha": True} if self._nodata is None else {"src_nodata": self._nodata, "nodata": self._nodata}
        height, width = self._grid.shape
        return WarpedVRT(
            self._source,
            crs=self._grid.crs,
            transform=self._grid.transform,
            width=width,
            height=height,
            resampling=RESAMPLING[name],
            tolerance=EXACT if same_crs else APPROXIMATE,
            **exact,
            **fill,
        )

    def _read_warped(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        assert self._warped is not None
        window = Window(0, start, self._grid.shape[1], stop - start)
        values = self._warped.read(self._index, window=window)
        if self._nodata is not None:
            return values, np.ones(values.shape, bool)
        return values, self._warped.read(self._warped.count, window=window) > 0

    def _finer_than_source(self) -> bool:
        left, bottom, right, top = transform_bounds(self._source.crs, self._grid.crs, *self._source.bounds)
        area = (right - left) * (top - bottom) / (self._source.width * self._source.height)
        return bool(abs(self._grid.transform.a * self._grid.transform.e) <= area * (1 + SAME_PIXEL))


class SlotReader:
    """Samples of slots on one grid. Holds at most `max_open` files open; use as a context manager.

    With `harmonize` the offset of scenes that have one is taken off, and what would be below 0 is 0.
    """

    def __init__(
        self,
        grid: PixelGrid,
        sampling: Sampling,
        bands: Mapping[str, Band],
        max_open: int = 256,
        *,
        harmonize: bool = True,
    ) -> None:
        self._grid = grid
        self._harmonize = harmonize
        self._sampling = sampling
        self._bands = bands
        self._max_open = max_open
        self._open: OrderedDict[BandFile, BandReader] = OrderedDict()
        self._covers: dict[str, shapely.Geometry] = {}

    def __enter__(self) -> SlotReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def fill(
        self, slot: Slot, start: int, stop: int, targets: Sequence[tuple[str, NDArray[Any]]], mask: NDArray[np.uint8]
    ) -> None:
        """Mosaic rows [start, stop) of a slot into arrays of shape (rows, width), given with their band's name.

        A pixel comes from the first scene in which every band has data; failing that, from the first in which any has.
        `mask` (rows, width) becomes 1 where every band has data, else 0. Bands without data are 0.
        """
        state = np.full(mask.shape, NO_DATA, np.uint8)
        for _, target in targets:
            target[:] = 0
        for scene in slot.scenes:
            self._add(scene, start, stop, targets, state)
            if (state == FULL).all():
                break
        mask[:] = state == FULL

    def _add(
        self, scene: Scene, start: int, stop: int, targets: Sequence[tuple[str, NDArray[Any]]], state: NDArray[np.uint8]
    ) -> None:
        cover = self._cover(scene, start, stop)
        if cover is not None and not cover.any():
            return
        names = [name for name, _ in targets] or list(scene.files)[:1]  # a script may ask for dataMask alone
        read = {name: self._read(scene, name, start, stop) for name in names}
        level = np.full(state.shape, FULL, np.uint8)
        level[~np.all([valid for _, valid in read.values()], axis=0)] = PARTLY
        level[~np.any([valid for _, valid in read.values()], axis=0)] = NO_DATA
        if cover is not None:
            level[~cover] = NO_DATA
        take = level > state
        for name, target in targets:
            np.copyto(target, read[name][0], casting="unsafe", where=take)
        state[take] = level[take]

    def _read(self, scene: Scene, band: str, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        file = scene.files.get(band)
        if file is None:
            shape = (stop - start, self._grid.shape[1])
            return np.zeros(shape, np.uint8), np.zeros(shape, bool)
        reader = self._open.pop(file, None) or BandReader(file, self._bands[band], self._grid, self._sampling)
        self._open[file] = reader
        if len(self._open) > self._max_open:
            self._open.popitem(last=False)[1].close()
        values, valid = reader.read(start, stop)
        if self._harmonize and scene.offset and self._bands[band].scale is not None:
            np.maximum(values, scene.offset, out=values)
            values -= values.dtype.type(scene.offset)
        return values, valid

    def _cover(self, scene: Scene, start: int, stop: int) -> NDArray[np.bool_] | None:
        if scene.cover is None:
            return None
        if scene.id not in self._covers:
            self._covers[scene.id] = from_lonlat(scene.cover, self._grid.crs)
        return inside(self._covers[scene.id], self._grid, start, stop)


def is_data(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where values are not `nodata`, which may be NaN."""
    valid: NDArray[np.bool_] = ~np.isnan(values) if math.isnan(nodata) else values != nodata
    return valid


def inside(area: shapely.Geometry, grid: PixelGrid, start: int, stop: int) -> NDArray[np.bool_]:
    """Which pixel centres of rows [start, stop) lie in `area`, which is in the grid's CRS; (rows, width)."""
    shape = (stop - start, grid.shape[1])
    if area.is_empty:
        return np.zeros(shape, bool)
    first = grid.transform
    rows = Affine(first.a, 0.0, first.c, 0.0, first.e, first.f + start * first.e)
    mask: NDArray[np.bool_] = geometry_mask([area], shape, rows, invert=True)
    return mask


def from_lonlat(area: shapely.Geometry, crs: CRS) -> shapely.Geometry:
    """A lon/lat geometry in another CRS."""
    transformer = Transformer.from_crs("OGC:CRS84", crs.to_wkt(), always_xy=True)
    return shapely.transform(area, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


def _whole_offset(crs: CRS | None, source: Affine, grid: PixelGrid) -> tuple[int, int] | None:
    """(row, column) of the grid's first pixel in the source, if both have the same pixels; else None."""
    if crs is None:
        raise ServiceError("a raster without a CRS can't be served; write the CRS into the file")
    target = grid.transform
    rotated = source.b or source.d
    same_size = math.isclose(source.a, target.a, rel_tol=1e-7) and math.isclose(source.e, target.e, rel_tol=1e-7)
    if crs != grid.crs or rotated or not same_size:
        return None
    column, row = (target.c - source.c) / source.a, (target.f - source.f) / source.e
    if abs(column - round(column)) > SAME_PIXEL or abs(row - round(row)) > SAME_PIXEL:
        return None
    return round(row), round(column)
