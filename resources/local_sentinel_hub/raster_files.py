"""Outputs as files, written block by block: GeoTIFF (or COG), PNG, JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy

from eo_assets.core.evalscript import ScriptOutput
from eo_assets.errors import EvalscriptError
from resources.local_sentinel_hub.pixels import PixelGrid

BLOCK = 256
PICTURES = {
    "image/png": ("PNG", ("UINT8", "AUTO", "UINT16"), (1, 2, 3, 4)),
    "image/jpeg": ("JPEG", ("UINT8", "AUTO"), (1, 3)),
}


class RasterFile(Protocol):
    """A file that takes an output row by row."""

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Write rows from `start` on; values are (bands, rows, width)."""

    def close(self) -> None:
        """Finish the file. Until then it is not readable."""


class TiffFile:
    """A tiled, deflated, pixel-interleaved GeoTIFF; its nodata tag is set only if the output declares one."""

    def __init__(self, path: Path, output: ScriptOutput, grid: PixelGrid) -> None:
        height, width = grid.shape
        block = min(BLOCK, -(-max(height, width) // 16) * 16)
        self._bands = max(output.bands, 1)  # a TIFF has at least one band: zeros where no scene was found
        self._dataset = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=self._bands,
            dtype=output.dtype.name,
            crs=grid.crs,
            transform=grid.transform,
            nodata=output.nodata,
            tiled=True,
            blockxsize=block,
            blockysize=block,
            compress="deflate",
            zlevel=1,
            interleave="pixel",
            bigtiff="if_safer",
        )

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Write rows from `start` on; values are (bands, rows, width)."""
        if len(values):
            window = rasterio.windows.Window(0, start, values.shape[2], values.shape[1])
            self._dataset.write(values, window=window)

    def close(self) -> None:
        """Finish the file."""
        self._dataset.close()


class CogFile(TiffFile):
    """A GeoTIFF that is turned into a cloud-optimized one when it is finished."""

    def __init__(self, path: Path, output: ScriptOutput, grid: PixelGrid) -> None:
        self._path = path
        self._draft = path.with_name(path.name + ".draft")
        super().__init__(self._draft, output, grid)

    def close(self) -> None:
        """Finish the file."""
        super().close()
        try:
            copy(self._draft, self._path, driver="COG", compress="deflate", overview_resampling="nearest")
        finally:
            self._draft.unlink()


class Picture:
    """A PNG or JPEG; kept in memory until it is finished, since neither can be written by blocks."""

    def __init__(self, path: Path, output: ScriptOutput, grid: PixelGrid, mime_type: str) -> None:
        """Check that the format can hold the output.

        Raises:
            EvalscriptError: it can't; the message says which type and bands it takes.
        """
        driver, types, bands = PICTURES[mime_type]
        if output.sample_type not in types or output.bands not in bands:
            takes = f"takes {' or '.join(types)} with {', '.join(map(str, bands))} bands"
            found = f"is {output.sample_type} with {output.bands}"
            raise EvalscriptError(f"output {output.id} {found}, but {mime_type} {takes}; ask for image/tiff")
        self._path, self._driver = path, driver
        self._values = np.zeros((output.bands, *grid.shape), output.dtype)

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Write rows from `start` on; values are (bands, rows, width)."""
        self._values[:, start : start + values.shape[1]] = values

    def close(self) -> None:
        """Finish the file."""
        bands, height, width = self._values.shape
        profile = {"height": height, "width": width, "count": bands, "dtype": self._values.dtype.name}
        # GDAL would write a side file for what a picture can't hold, so it is given no georeference.
        with rasterio.open(self._path, "w", driver=self._driver, **profile) as dataset:
            dataset.write(self._values)


def open_raster(path: Path, output: ScriptOutput, grid: PixelGrid, mime_type: str, *, cog: bool = False) -> RasterFile:
    """A file of the given format for an output with its final number of bands."""
    if mime_type == "image/tiff":
        return (CogFile if cog else TiffFile)(path, output, grid)
    return Picture(path, output, grid, mime_type)
