"""Stage 1, tiffs: what the service delivered for a tile, checked file by file and committed where it lies.

The order itself is placed for all tiles of a run at once (`assets/imagery.py`); here one delivery becomes an output.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import rasterio

from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from eo_assets.project import Imagery
from eo_assets.stages.stage import StageResult, TileInputs

USERDATA = "userdata"


@dataclass(frozen=True, slots=True)
class Tiffs:
    """One GeoTIFF an output of the evalscript, its bands the dates, and `userdata.json` with the sensing times."""

    imagery: Imagery
    evalscript: str

    name: ClassVar[str] = "tiffs"
    inputs: ClassVar[tuple[str, ...]] = ()
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = True
    source: ClassVar[bool] = True
    cpus: ClassVar[float] = 0.5

    def memory_bytes(self, tile: Tile) -> int:
        """Files are hashed and their headers read: nothing that grows with the tile."""
        return 300 << 20

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """Only what changes the service's answer: upgrading the product must never buy twice."""
        asked = self.imagery.model_dump(mode="json", exclude={"expected_dates", "evalscript"})
        return {"imagery": asked, "evalscript": self.evalscript, "tile": tile_settings(tile)}

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Check the delivered folder `output`: every file there, on the tile's grid, with as many bands as dates."""
        dates = read_dates(output, self.imagery.time_interval[0])
        if not dates:
            return StageResult({"dates": 0}, empty="the service has no acquisition in the time interval")
        for name in self.imagery.tiff_outputs:
            _check_tiff(tiff_path(output, name), tile, len(dates))
        return StageResult({"dates": len(dates), "first_date": min(dates).isoformat(), "files": len(self.imagery.tiff_outputs)})


def tile_settings(tile: Tile) -> Mapping[str, Any]:
    """What of a tile belongs into the recipe of a request: its cell, pixel size and buffer."""
    return {"epsg": tile.epsg, "cell": list(tile.cell), "resolution": tile.resolution, "buffer_px": list(tile.buffer_px)}


def tiff_path(folder: Path, output: str) -> Path:
    """The file of one output, with either ending that services use."""
    path = folder / f"{output}.tif"
    return path if path.exists() else folder / f"{output}.tiff"


def read_dates(folder: Path, single_date: dt.date) -> list[dt.datetime]:
    """The sensing times of a delivery, in the order of the tiffs' bands.

    They come from `dates` in `userdata.json`, ISO 8601. An evalscript that tells none (SIMPLE mosaicking) has one frame,
    dated with the start of the interval.
    """
    path = folder / f"{USERDATA}.json"
    if not path.exists():
        return [dt.datetime.combine(single_date, dt.time())]
    try:
        userdata = json.loads(path.read_text())
        told = None if userdata is None else userdata.get("dates")
        if told is None:
            return [dt.datetime.combine(single_date, dt.time())]
        return [dt.datetime.fromisoformat(text).replace(tzinfo=None) for text in told]
    except (ValueError, AttributeError, TypeError) as error:
        raise TileError(f"{path}: {error}; the evalscript must set userData to {{dates: [ISO dates]}}") from None


def _check_tiff(path: Path, tile: Tile, dates: int) -> None:
    if not path.exists():
        raise TileError(f"{path} was not delivered; is {path.stem} an output of the evalscript?")
    try:
        with rasterio.open(path) as tiff:
            found = (tiff.crs.to_epsg() if tiff.crs else None, tiff.shape, tiff.transform.almost_equals(tile.transform, 1e-6))
            count = tiff.count
    except rasterio.errors.RasterioIOError as error:
        raise TileError(f"{path} can't be opened: {error}") from None
    if found != (tile.epsg, tile.shape, True):
        raise TileError(
            f"{path} is not on the grid of {tile.name}: EPSG:{found[0]}, {found[1]} pixels, corner in place: {found[2]}; "
            f"expected EPSG:{tile.epsg}, {tile.shape} pixels"
        )
    if count < dates:
        raise TileError(f"{path} has {count} bands for {dates} dates; updateOutput must set as many bands as dates")
