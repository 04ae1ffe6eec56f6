"""The outputs of a simulated project, made by its own stages alone: for what is measured behind them.

No Dagster, no Ray, no service: imagery is cut from the scene's files and laid out as the service delivers it.
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import from_bounds

from eo_assets.assets.area import make_aoi, make_tile_grid, tiles_of
from eo_assets.assets.cost_estimate import make_cost_estimate
from eo_assets.assets.model import make_model
from eo_assets.assets.training_data import make_training_data
from eo_assets.core.tile import Tile
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.stages.walk import TileWork
from jobs.project_jobs import PREDICT, TILES
from tests.simulation.world import BANDS, DATES, SERVICE

REQUEST = "simulated"
AT_A_TIME = 100


def make_outputs(loaded: LoadedProject) -> None:
    """Everything from the area to the predictions, committed."""
    store = tile_store(loaded)
    make_aoi(loaded, store)
    make_tile_grid(loaded, store)
    make_cost_estimate(loaded, store)
    tiles = tiles_of(store)
    _walk_all(loaded, tiles, TILES)
    make_training_data(loaded, store)
    make_model(loaded, store)
    _walk_all(loaded, tiles, PREDICT)


def _walk_all(loaded: LoadedProject, tiles: Sequence[Tile], stages: Sequence[str]) -> None:
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(_walk, loaded.file, chunk, tuple(stages)) for chunk in _chunks(tiles)]:
            done.result()


def _chunks(tiles: Sequence[Tile]) -> list[tuple[Tile, ...]]:
    return [tuple(tiles[begin : begin + AT_A_TIME]) for begin in range(0, len(tiles), AT_A_TIME)]


def _walk(file: Path, tiles: Sequence[Tile], stages: tuple[str, ...]) -> None:
    loaded = open_project(str(file))
    walk = tile_walk(loaded)
    for tile in tiles:
        delivery = _deliver(loaded, tile) if "tiffs" in stages else None
        outcomes = walk(TileWork(tile, stages, delivery))
        assert all(outcome.good for outcome in outcomes), outcomes


def _deliver(loaded: LoadedProject, tile: Tile) -> str:
    """Put a tile's imagery where the service would, both dates; returns its key."""
    store = tile_store(loaded)
    key = f"{store.folder('tiffs')}/{REQUEST}/{tile.name}"
    folder = store.store.path(key)
    folder.mkdir(parents=True)
    scenes = Path(loaded.project_folder) / SERVICE / "scenes"
    for band in BANDS:
        _write(folder / f"{band}.tif", tile, [_cut(scenes / f"{date}_{band}.tif", tile) for date in range(len(DATES))])
    _write(folder / "MASK.tif", tile, [np.ones(tile.shape, np.uint8)] * len(DATES))
    (folder / "userdata.json").write_text(json.dumps({"dates": list(DATES)}))
    return key


def _cut(path: Path, tile: Tile) -> np.ndarray:
    with rasterio.open(path) as tiff:
        return np.asarray(tiff.read(1, window=from_bounds(*tile.bounds, transform=tiff.transform)))


def _write(path: Path, tile: Tile, frames: Sequence[np.ndarray]) -> None:
    height, width = tile.shape
    shape: dict[str, Any] = {"height": height, "width": width, "count": len(frames), "dtype": frames[0].dtype.name}
    with rasterio.open(path, "w", driver="GTiff", crs=f"EPSG:{tile.epsg}", transform=tile.transform, **shape) as tiff:
        tiff.write(np.stack(frames))
