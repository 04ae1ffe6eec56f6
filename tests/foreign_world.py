"""A project of four tiles with nothing made yet, and what eo-grow would have left of it: tiffs, EOPatches of eo-learn.

Needs no service: the numbers are random, the files are real.
"""

from __future__ import annotations

import datetime as dt
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_assets.assets.area import project_area, project_grid
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject
from resources.eolearn_bridge import save_eopatch
from tests.integration.conftest import write_project, write_world

TIMES = ("2020-06-11T10:00:00Z", "2020-06-01T10:00:00Z")
"""The newest first, as the service delivers."""
BANDS = ("B04", "B08", "B11")


@dataclass
class ForeignWorld:
    """A project's folder, and beside it a folder of what others made."""

    folder: Path
    loaded: LoadedProject = field(init=False)

    def __post_init__(self) -> None:
        write_world(self.folder)
        self.loaded = write_project(self.folder)
        self.made.mkdir()

    @property
    def made(self) -> Path:
        """Where the others' folders lie."""
        return self.folder.parent / "made"

    @property
    def tiles(self) -> list[Tile]:
        """The tiles of the project's grid."""
        return list(project_grid(self.loaded).tiles(project_area(self.loaded).geometry))

    def numbers(self, tile: Tile) -> NDArray[np.uint16]:
        """Digital numbers (time, y, x, band) of a tile, the newest date first."""
        seed = self.tiles.index(tile)
        shape = (len(TIMES), *tile.shape, len(BANDS))
        return np.random.default_rng(seed).integers(1, 10_000, shape).astype(np.uint16)

    def mask(self, tile: Tile) -> NDArray[np.uint8]:
        """(time, y, x): 1 where a pixel is valid."""
        seed = 100 + self.tiles.index(tile)
        return (np.random.default_rng(seed).random((len(TIMES), *tile.shape)) > 0.1).astype(np.uint8)

    def write_tiffs(self, tile: Tile, name: str | None = None, *, times: Sequence[str] = TIMES, **changes: Any) -> Path:
        """A folder of tiffs as Batch delivers them, with whatever is wrong with their profile."""
        folder = self.made / (name or tile.name)
        numbers = self.numbers(tile)
        for band, output in enumerate(BANDS):
            write_tiff(folder / f"{output}.tif", numbers[..., band], tile, **changes)
        write_tiff(folder / "MASK.tif", self.mask(tile), tile, **changes)
        (folder / "userdata.json").write_text(json.dumps({"dates": list(times)}))
        return folder

    def eopatch(self, tile: Tile, **changes: Any) -> Any:
        """An `EOPatch` of a tile: reflectance float32 and a boolean mask, dates ascending; `changes` over its parts."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from eolearn.core import EOPatch
            from sentinelhub import CRS, BBox
        parts: dict[str, Any] = {
            "bbox": (tile.bounds, tile.epsg),
            "timestamps": [dt.datetime.fromisoformat(time).replace(tzinfo=None) for time in reversed(TIMES)],
            "data": {"BANDS": (self.numbers(tile)[::-1] * 0.0001).astype(np.float32)},
            "mask": {"QUALITY_MASK": self.mask(tile)[::-1, ..., None] != 0},
            "data_timeless": {},
        }
        parts |= changes
        bounds, epsg = parts.pop("bbox")
        arrays: Mapping[str, Any] = {kind: parts.pop(kind) for kind in ("data", "mask", "data_timeless")}
        return EOPatch(bbox=BBox(bounds, CRS(epsg)), **{k: dict(v) for k, v in arrays.items() if v}, **parts)

    def write_eopatch(self, tile: Tile, name: str, *, use_zarr: bool = False, **changes: Any) -> Path:
        """Save an EOPatch as eo-learn does: packed numpy files, or Zarr."""
        folder = self.made / name
        eopatch = self.eopatch(tile, **changes)
        if use_zarr:
            folder.mkdir(parents=True)
            save_eopatch(eopatch, folder)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                eopatch.save(str(folder))
        return folder


def write_tiff(path: Path, values: NDArray[Any], tile: Tile, **changes: Any) -> None:
    """A tiled, packed GeoTIFF of (band, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "crs": f"EPSG:{tile.epsg}",
        "transform": tile.transform,
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **{**profile, **changes}) as file:
        file.write(values)
