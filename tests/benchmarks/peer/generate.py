"""Writes a scene: terrain, seasons, clouds and labels, the same wherever it is written.

Every field is smooth noise over a whole zone, so that tiles agree on each pixel of the buffers that they share.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from eo_assets.core.tile import Tile
from resources.eopatch_files import write_header
from resources.grid_files import write_grid
from tests.benchmarks.peer.scene import BANDS, MASK, REFERENCE, RESOLUTION, Scene, SceneFiles, scene_tiles

Plane = NDArray[np.float32]

SURFACES: dict[str, tuple[int, ...]] = {
    "water": (420, 360, 310, 210, 160, 130, 110, 100, 95, 85, 45, 30),
    "vegetation": (310, 260, 480, 310, 880, 2150, 2750, 2950, 3150, 3250, 1580, 810),
    "soil": (880, 1080, 1480, 1950, 2280, 2480, 2680, 2790, 2880, 2980, 3550, 3150),
    "built": (1280, 1390, 1480, 1690, 1790, 1880, 1980, 2080, 2180, 2270, 2580, 2480),
}
"""Digital numbers (reflectance x 10,000) of pure surfaces in the order of BANDS."""

SENSOR_NOISE = 25.0
PIXEL_NOISE = 0.35
"""Of noisy pixels: a share of their own value, which leaves few of them dark."""

DONE = "done.json"


def generate(scene: Scene, folder: Path, workers: int | None = None) -> SceneFiles:
    """Write the scene under `folder`, unless it is there whole."""
    files = SceneFiles(folder)
    if (folder / DONE).exists():
        return files
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tiles = scene_tiles(scene)
    _write_area(files.area, tiles)
    write_grid(files.boxes, tiles)
    write_grid(files.cells, [replace(tile, buffer_px=(0, 0)) for tile in tiles])
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        shares = list(pool.map(_write_tile, repeat(scene), repeat(files), tiles))
    (folder / DONE).write_text(json.dumps({"valid_share": float(np.mean(shares))}))
    return files


def _write_area(path: Path, tiles: Sequence[Tile]) -> None:
    """The inner part of every cell: it claims that cell and no other."""
    shapes = []
    for tile in tiles:
        left, bottom, right, top = tile.cell
        inset = 0.2 * (right - left)
        to_lonlat = Transformer.from_crs(tile.epsg, 4326, always_xy=True).transform
        box = shapely.box(left + inset, bottom + inset, right - inset, top - inset)
        shapes.append(shapely.transform(box, to_lonlat, interleaved=False))
    area = {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(shapely.union_all(shapes)))}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [area]}))


@dataclass(frozen=True)
class _Ground:
    """Smooth fields in [0, 1] over all pixels of a zone, cut to a tile (rows, columns)."""

    seed: tuple[int, ...]
    shape: tuple[int, int]
    rows: slice
    columns: slice

    @classmethod
    def of(cls, scene: Scene, tile: Tile) -> _Ground:
        zone = [other for other in scene_tiles(scene) if other.epsg == tile.epsg]
        left, top = min(t.bounds.left for t in zone), max(t.bounds.top for t in zone)
        right, bottom = max(t.bounds.right for t in zone), min(t.bounds.bottom for t in zone)
        row, column = round((top - tile.bounds.top) / RESOLUTION), round((tile.bounds.left - left) / RESOLUTION)
        shape = round((top - bottom) / RESOLUTION), round((right - left) / RESOLUTION)
        rows, columns = (slice(start, start + size) for start, size in zip((row, column), tile.shape))
        return cls((scene.seed, tile.epsg), shape, rows, columns)

    def field(self, name: str, *cells_px: int) -> Plane:
        """The sum of noise of some wavelengths, each weaker than the one before."""
        rng = np.random.default_rng([*self.seed, *name.encode()])
        weights = 0.55 ** np.arange(len(cells_px), dtype=np.float32)
        planes = [weight * self._noise(rng, cell) for weight, cell in zip(weights, cells_px)]
        return np.asarray(sum(planes) / weights.sum(), dtype=np.float32)

    def _noise(self, rng: np.random.Generator, cell: int) -> Plane:
        lattice = rng.random([size // cell + 2 for size in self.shape], dtype=np.float32)
        (first, y), (left, x) = (_steps(part, cell) for part in (self.rows, self.columns))
        rows = lattice[first] * (1 - y)[:, None] + lattice[first + 1] * y[:, None]
        return np.asarray(rows[:, left] * (1 - x) + rows[:, left + 1] * x, dtype=np.float32)

    def without_highest(self, share: float, name: str, *cells_px: int) -> NDArray[np.bool_]:
        """Where a field is not among its greatest values, which are that share of the zone's pixels."""
        if not share:
            return np.ones((self.rows.stop - self.rows.start, self.columns.stop - self.columns.start), dtype=bool)
        zone = replace(self, rows=slice(0, self.shape[0]), columns=slice(0, self.shape[1])).field(name, *cells_px)
        return np.asarray(zone <= np.quantile(zone, 1 - share))[self.rows, self.columns]

    def grain(self, name: str) -> Plane:
        """Normal noise that knows no neighbours."""
        rng = np.random.default_rng([*self.seed, *name.encode()])
        return rng.standard_normal(self.shape, dtype=np.float32)[self.rows, self.columns]


def _steps(pixels: slice, cell: int) -> tuple[NDArray[np.int64], Plane]:
    """The lattice point before each pixel, and how far behind it the pixel lies, eased at both ends."""
    places = np.arange(pixels.start, pixels.stop)
    share = (places % cell / cell).astype(np.float32)
    return places // cell, share * share * (3 - 2 * share)


def _between(values: Plane, low: float, high: float) -> Plane:
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _surfaces(ground: _Ground) -> Plane:
    """Shares (y, x, surface) in the order of SURFACES."""
    water = _between(ground.field("lakes", 250, 60), 0.66, 0.74)
    built = _between(ground.field("towns", 220, 60, 18, 6), 0.54, 0.74) * (1 - water)
    green = _between(ground.field("rain", 180, 50, 16, 5), 0.3, 0.7) * (1 - built) * (1 - water)
    return np.stack([water, green, np.clip(1 - water - built - green, 0, 1), built], axis=-1)


def _seen(scene: Scene, ground: _Ground) -> NDArray[np.uint8]:
    """(time, y, x): 1 where a date shows the ground."""
    clear = [ground.without_highest(scene.cloud, f"cloud {date}", 90, 30) for date in range(scene.dates)]
    return np.asarray(np.stack(clear) & ground.without_highest(scene.invalid, "sea", 200, 70), dtype=np.uint8)


def _write_tile(scene: Scene, files: SceneFiles, tile: Tile) -> float:
    ground = _Ground.of(scene, tile)
    surfaces, seen = _surfaces(ground), _seen(scene, ground)
    folder = files.tiffs / tile.name
    folder.mkdir(parents=True)
    light = 0.85 + 0.3 * ground.field("relief", 400, 120, 40)
    season = 0.5 + 0.5 * np.sin(2 * np.pi * (np.arange(scene.dates, dtype=np.float32) / scene.dates - 0.2))
    for band, name in enumerate(BANDS):
        pure = np.array([numbers[band] for numbers in SURFACES.values()], dtype=np.float32)
        whole = (surfaces @ pure) * light
        bare = surfaces[..., 1] * (pure[1] - pure[2]) * np.float32(0.45)
        stack = np.empty(seen.shape, dtype=np.uint16)
        for date in range(scene.dates):
            clean = whole - bare * season[date]
            noise = ground.grain(f"{name} {date}") * (PIXEL_NOISE * clean if scene.noisy else SENSOR_NOISE)
            stack[date] = np.clip(clean + noise, 1, 10_000) * seen[date]
        _write_tiff(folder / f"{name}.tif", stack, tile)
    _write_tiff(folder / f"{MASK}.tif", seen, tile)
    (folder / "userdata.json").write_text(json.dumps(_userdata(scene)))
    _write_labels(files.reference / tile.name, tile, surfaces[..., 3], ground.grain("labels"))
    return float(seen.mean())


def _userdata(scene: Scene) -> dict[str, Any]:
    """The dates as eo-grow's reader of orbits wants them, and as our evalscripts tell them."""
    times = [f"{day}T00:00:00Z" for day in scene.days]
    return {"orbits": [{"tiles": [{"date": time}]} for time in times], "dates": times}


def _write_tiff(path: Path, values: NDArray[Any], tile: Tile) -> None:
    """(time, y, x), tiled, deflated and pixel-interleaved, as the service delivers."""
    count, height, width = values.shape
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype,
        "crs": f"EPSG:{tile.epsg}", "transform": tile.transform, "interleave": "pixel", "predictor": 2,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "bigtiff": "IF_SAFER",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as tiff:
        tiff.write(values)


def _write_labels(folder: Path, tile: Tile, built: Plane, grain: Plane) -> None:
    """An EOPatch of built-up percent (y, x, 1) uint8, gzipped as eo-learn does."""
    (folder / "data_timeless").mkdir(parents=True)
    write_header(folder, tile)
    percent = np.clip(np.rint(built * 100 + 4 * grain * (built > 0)), 0, 100).astype(np.uint8)
    with gzip.open(folder / "data_timeless" / f"{REFERENCE}.npy.gz", "wb", compresslevel=1) as file:
        np.save(file, percent[..., None])
