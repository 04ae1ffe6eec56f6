"""Cloud Optimized GeoTIFFs, written in process and whole: blocks of rows in, one file out, or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from eo_assets.core.mosaic import Lattice
from eo_assets.errors import StoreError

GDAL_CACHE = 256 << 20
"""Bytes of blocks that GDAL keeps, of its own accord a twentieth of the machine. A row of blocks of the widest zone is
34 MB a byte of a pixel, and the driver copies from one such row to another."""

Resampling = Literal["nearest", "average", "bilinear", "cubic", "mode"]


@dataclass(frozen=True, slots=True)
class CogOptions:
    """How a COG is laid out. `overview_resampling` other than nearest or mode makes values that no pixel has."""

    blocksize: int = 512
    compress: Literal["deflate", "lzw", "zstd", "none"] = "deflate"
    level: int | None = None
    predictor: bool = False
    overview_resampling: Resampling = "nearest"

    def creation(self) -> dict[str, str]:
        """Creation options of GDAL's COG driver."""
        options = {
            "BLOCKSIZE": str(self.blocksize),
            "COMPRESS": self.compress.upper(),
            "PREDICTOR": "YES" if self.predictor else "NO",
            "OVERVIEW_RESAMPLING": self.overview_resampling.upper(),
            "BIGTIFF": "IF_SAFER",
        }
        return options | ({} if self.level is None else {"LEVEL": str(self.level)})


@dataclass(frozen=True, slots=True)
class CogSummary:
    """What was written. Minimum, maximum and mean are of the valid pixels, None if there is none."""

    path: Path
    bytes: int
    pixels: int
    valid_pixels: int
    minimum: float | None
    maximum: float | None
    mean: float | None

    @property
    def valid_share(self) -> float:
        """Share of pixels that are not nodata, 0 to 1."""
        return self.valid_pixels / self.pixels


def write_cog(
    path: Path,
    lattice: Lattice,
    dtype: npt.DTypeLike,
    nodata: float,
    blocks: Iterable[tuple[slice, npt.NDArray[Any]]],
    *,
    options: CogOptions | None = None,
    tags: Mapping[str, str] | None = None,
    description: str = "",
) -> CogSummary:
    """Write one band as a COG that `rio cogeo validate` accepts, replacing `path` at once when all of it is there.

    `blocks` are (rows, values (rows, width) of `dtype`), north to south and without gaps; heights that are multiples of
    512 are fastest. They go to a scratch file in the target's folder, since GDAL's COG driver only copies a finished
    raster. A writer that fails or is killed leaves the old file or none under `path`; a killed one leaves a dot folder.

    Raises StoreError if the blocks do not cover the lattice exactly, or the disk refuses.
    """
    options = options or CogOptions()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        raw, cog = Path(scratch, "rows.tif"), Path(scratch, "cog.tif")
        statistics = _Statistics(nodata)
        try:
            with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
                _write_rows(raw, lattice, np.dtype(dtype), blocks, statistics, tags or {}, description)
                rasterio.shutil.copy(raw, cog, driver="COG", **options.creation(), **_overviews(lattice, options))
        except rasterio.errors.RasterioError as error:
            raise StoreError(f"{path}: GDAL could not write the map: {error}. Check the space left on disk.") from error
        size = cog.stat().st_size
        _publish(cog, path)
    return statistics.summary(path, size, lattice)


def _write_rows(
    raw: Path,
    lattice: Lattice,
    dtype: np.dtype[Any],
    blocks: Iterable[tuple[slice, npt.NDArray[Any]]],
    statistics: _Statistics,
    tags: Mapping[str, str],
    description: str,
) -> None:
    height, width = lattice.shape
    profile = {
        "driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": dtype, "nodata": statistics.nodata,
        "crs": f"EPSG:{lattice.epsg}", "transform": lattice.transform,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "zstd_level": 1, "bigtiff": "IF_SAFER",
    }  # fmt: skip
    done = 0
    with rasterio.open(raw, "w", **profile) as target:
        target.update_tags(**tags)
        if description:
            target.set_band_description(1, description)
        for rows, values in blocks:
            expected = (rows.stop - rows.start, width)
            if rows.start != done or values.shape != expected or values.dtype != dtype:
                raise StoreError(
                    f"{raw.parent.name}: rows {rows.start} to {rows.stop} came as {values.shape} {values.dtype}, "
                    f"expected {expected} {dtype} from row {done} on. Give whole rows from north to south without gaps."
                )
            target.write(values, 1, window=Window(0, rows.start, width, expected[0]))
            statistics.add(values)
            done = rows.stop
    if done != height:
        raise StoreError(f"{raw.parent.name}: rows {done} to {height} of the map were not given. Give all of them.")


def _overviews(lattice: Lattice, options: CogOptions) -> dict[str, str]:
    """GDAL halves until a side fits a block; readers want overviews of what exceeds 512 pixels, whatever the block."""
    halvings, side = 0, max(lattice.shape)
    while side > min(options.blocksize, 512):
        side, halvings = (side + 1) // 2, halvings + 1
    return {"OVERVIEW_COUNT": str(halvings)} if halvings else {"OVERVIEWS": "NONE"}


def _publish(cog: Path, path: Path) -> None:
    """The bytes reach the disk before the name does, or a power cut could leave an empty file under the final name."""
    with cog.open("rb+") as file:
        os.fsync(file.fileno())
    cog.replace(path)
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _Statistics:
    """Running count, minimum, maximum and sum of the valid pixels."""

    def __init__(self, nodata: float) -> None:
        self.nodata = nodata
        self.count = 0
        self.total = 0.0
        self.minimum = float("inf")
        self.maximum = float("-inf")

    def add(self, values: npt.NDArray[Any]) -> None:
        valid = values[~np.isnan(values)] if np.isnan(self.nodata) else values[values != self.nodata]
        if valid.size:
            self.count += valid.size
            self.total += float(valid.sum(dtype=np.float64))
            self.minimum = min(self.minimum, float(valid.min()))
            self.maximum = max(self.maximum, float(valid.max()))

    def summary(self, path: Path, size: int, lattice: Lattice) -> CogSummary:
        pixels = lattice.shape[0] * lattice.shape[1]
        if not self.count:
            return CogSummary(path, size, pixels, 0, None, None, None)
        return CogSummary(path, size, pixels, self.count, self.minimum, self.maximum, self.total / self.count)
