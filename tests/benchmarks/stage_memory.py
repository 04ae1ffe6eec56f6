"""Peak resident memory of a worker, stage by stage, for a tile of 854 x 854 pixels with 12 bands, by numbers of dates.

    python -m tests.benchmarks.stage_memory [854] [--dates 12 36 72 144] [--stages tiffs eopatches]
                                            [--composite median]

A delivery is made up and each stage runs through the walk in a fresh process, which has imported Ray as a worker has;
`walk` is all stages before the model in one process, as a worker really runs them. The peak is VmHWM, the most that the
process ever had resident, its libraries and mapped pages among it. `request` is what the stage asks Ray for. Prints a
table and writes build/stage_memory.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
import shapely
import yaml
from pyproj import Transformer

from tests.benchmarks.bands_script import bands_script

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
EPSG, RESOLUTION, BUFFER_PX = 32630, 10, 25
BEFORE_MODEL = ("tiffs", "reference", "eopatches", "features", "samples")
LIMIT_MB = 1000
EVALSCRIPT = bands_script(BANDS)


STAGES = (*BEFORE_MODEL, "walk", "predictions")


def main(side: int, dates: Sequence[int], stages: Sequence[str] = STAGES, composite: str | None = None) -> None:
    """Measure, print and write build/stage_memory.json."""
    rows: list[dict[str, Any]] = []
    for number in dates:
        with tempfile.TemporaryDirectory() as folder:
            loaded = write_delivery(Path(folder), side, number, composite)
            for stage in stages:
                if stage == "predictions":
                    train(loaded)
                rows.append({"dates": number, **in_a_process(Path(folder), loaded, stage)})
                print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    Path("build").mkdir(exist_ok=True)
    figures = {"side_px": side, "bands": len(BANDS), "composite": composite, "stages": rows}
    name = f"stage_memory{f'_{composite}' if composite else ''}.json"
    (Path("build") / name).write_text(json.dumps(figures))
    worst = max(row["peak_mb"] for row in rows)
    print(f"the most is {worst} MB, {'under' if worst < LIMIT_MB else 'OVER'} {LIMIT_MB} MB")


def in_a_process(folder: Path, loaded: Any, stage: str) -> dict[str, Any]:
    """Hand the walk over as Ray does, pickled: the worker imports what the stages need and no more."""
    from eo_assets.assets.area import tiles_of
    from eo_assets.stages.build import tile_walk

    walk = tile_walk(loaded)
    (folder / "walk.pickle").write_bytes(pickle.dumps((walk, tiles_of(walk.store)[0])))
    command = [sys.executable, "-m", "tests.benchmarks.stage_memory", str(folder / "walk.pickle"), stage]
    of_one_cpu = {"OMP_NUM_THREADS": "1"}  # which Ray sets, and BLAS heeds
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **of_one_cpu})
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def measure(pickled: Path, what: str) -> dict[str, Any]:
    """Run one stage, or the `walk`, in this process: its peak, what was there before, its request, its CPU seconds."""
    import ray  # noqa: F401  a worker has it too

    from eo_assets.stages.walk import TileWork
    from resources.heap import keep_freed

    keep_freed()
    walk, tile = pickle.loads(pickled.read_bytes())  # noqa: S301  written above
    before, started, at_work, alone = peak_mb(), time.perf_counter(), time.process_time(), time.thread_time()
    threads = psutil.Process().num_threads()
    if what == "walk":
        forget(walk.store, tile.name)
    stages = BEFORE_MODEL if what == "walk" else (what,)
    delivery = f"tiffs/2020/request/{tile.name}" if "tiffs" in stages else None
    outcomes = walk(TileWork(tile, stages, delivery))
    bad = [outcome for outcome in outcomes if not outcome.good]
    if bad:
        raise SystemExit(f"{bad[0].stage}: {bad[0].reason}\n{bad[0].details}")
    request = max(stage.memory_bytes(tile) for stage in walk.selected(stages)) >> 20
    seconds, busy = time.perf_counter() - started, time.process_time() - at_work
    others = busy - (time.thread_time() - alone)
    return {
        "stage": what, "before_mb": before, "peak_mb": peak_mb(), "request_mb": request, "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 2), "of_other_threads": round(others, 2),
        "threads_started": psutil.Process().num_threads() - threads,
    }  # fmt: skip


def peak_mb() -> int:
    """VmHWM of this process; ru_maxrss would count what its parent had before the exec."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) >> 10


def forget(store: Any, tile: str) -> None:
    """Delete a tile's records, so that everything is made again."""
    for stage in BEFORE_MODEL:
        Path(store.record_place(stage, tile)).unlink(missing_ok=True)


def train(loaded: Any) -> None:
    """Merge the samples and train."""
    from eo_assets.assets.model import make_model
    from eo_assets.assets.training_data import make_training_data
    from eo_assets.stages.build import tile_store

    make_training_data(loaded, tile_store(loaded))
    make_model(loaded, tile_store(loaded))


def write_delivery(folder: Path, side: int, dates: int, composite: str | None = None) -> Any:
    """A project of one tile with its area, grid, labels and the tiffs that a service would deliver for it."""
    from eo_assets.assets.area import make_aoi, make_tile_grid, tiles_of
    from eo_assets.definitions import open_project
    from eo_assets.stages.build import tile_store

    project = folder / "project.yaml"
    settings = project_settings(side, dates)
    if composite:
        settings["features"]["composite"] = {"method": composite, "periods": 12, "gaps": {"method": "linear"}}
    project.write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "memory.js").write_text(EVALSCRIPT)
    (folder / "input-data").mkdir()
    write_area(folder, side)
    loaded = open_project(str(project))
    store = tile_store(loaded)
    make_aoi(loaded, store)
    make_tile_grid(loaded, store)
    [tile] = tiles_of(store)
    random = np.random.default_rng(1)
    labels = random.integers(1, 100, (1, *tile.shape)).astype(np.uint8)
    _write_tiff(folder / "input-data/labels.tif", labels, tile)
    delivered = folder / "tiffs/2020/request" / tile.name
    delivered.mkdir(parents=True)
    for band in BANDS:
        noise = random.integers(0, 1200, (dates, *tile.shape), dtype=np.uint16)
        _write_tiff(delivered / f"{band}.tif", noise + np.uint16(300), tile)
    _write_tiff(delivered / "QM.tif", (random.random((dates, *tile.shape), np.float32) > 0.2).astype(np.uint8), tile)
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=365 * index // dates) for index in range(dates)]
    (delivered / "userdata.json").write_text(json.dumps({"dates": [f"{day}T10:00:00Z" for day in reversed(days)]}))
    return loaded


def project_settings(side: int, dates: int) -> dict[str, Any]:
    """The project file of a made-up project whose tiles have `side` pixels."""
    return {
        "name": "memory",
        "year": 2020,
        "storage": {"project_folder": "."},
        "area": {
            "files": "aoi.geojson",
            "grid": {"kind": "utm", "tile_size_m": _cell_m(side)},
            "resolution": RESOLUTION,
            "buffer": BUFFER_PX,
        },
        "imagery": {
            "collections": [{"collection": "sentinel-2-l2a", "service": "local", "harmonize_values": True}],
            "time_interval": ["2020-01-01", "2020-12-31"],
            "evalscript": "memory.js",
            "tiff_outputs": [*BANDS, "QM"],
            "expected_dates": dates,
        },
        "eopatches": {
            "data": {"BANDS": {"from": list(BANDS), "factor": 0.0001}},
            "masks": {"QUALITY_MASK": {"from": "QM", "valid": [1]}},
        },
        "features": {
            "indices": {"NDVI": ["B08", "B04"], "NDWI": ["B03", "B08"], "NDBI": ["B11", "B08"]},
            "include_bands": True,
        },
        "reference": {"name": "LABELS", "nodata": 0, "source": {"kind": "raster", "file": "labels.tif"}},
        "sampling": {"number": 4000},
        "model": {"parameters": {"n_estimators": 100, "num_leaves": 31, "max_bin": 63}},
        "predictions": {"name": "RESULT", "clip": [0, 100]},
        "maps": {"dtype": "uint8", "nodata": 255},
        "byoc": {"collection_name": "memory", "service": "local", "sensing_time": "2020-06-30"},
    }


def _cell_m(side: int) -> int:
    return (side - 2 * BUFFER_PX) * RESOLUTION


def write_area(folder: Path, side: int, cells: int = 1) -> None:
    """The area: a rectangle from the middle of one cell of the lattice to that of another, `cells` x `cells` in all."""
    cell = _cell_m(side)
    x, y = (500_000 // cell + 0.5) * cell, (700_000 // cell + 0.5) * cell
    to_lonlat = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
    reach = (cells - 1) * cell
    box = shapely.transform(shapely.box(x, y, x + reach + 500, y + reach + 500), to_lonlat, interleaved=False)
    area = {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(box))}
    (folder / "input-data/aoi.geojson").write_text(json.dumps(area))


def _write_tiff(path: Path, values: np.ndarray, tile: Any) -> None:
    """Tiled, deflated and pixel-interleaved, as the service delivers."""
    count, height, width = values.shape
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype,
        "crs": f"EPSG:{tile.epsg}", "transform": tile.transform,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1, "interleave": "pixel",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as tiff:
        tiff.write(values)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].endswith(".pickle"):
        print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("side", type=int, nargs="?", default=854)
        parser.add_argument("--dates", type=int, nargs="+", default=[12, 36])
        parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
        parser.add_argument("--composite", choices=["median", "mean", "geomedian"], help="of 12 periods")
        told = parser.parse_args()
        main(told.side, told.dates, told.stages, told.composite)
