"""Peak resident memory of merging samples and of training: 1,000,000 rows x 540 columns are to take under 2.5 tables.

    python -m tests.benchmarks.training_memory [1000000] [540] [100]

The made-up samples of 100 tiles are merged by the real `training_data`, and the real `model` is trained on them, with
few trees, each in a fresh process. `of the table` is the peak over the float32 table's bytes. The peak is VmHWM: the
most that was resident at once, imports and mapped pages among it. Prints and writes build/training_memory.json. Needs
disk for two tables.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.benchmarks.stage_memory import EVALSCRIPT, peak_mb, project_settings, write_area

FEATURES_A_DATE = 15
LIMIT = 2.5


def main(rows: int, columns: int, tiles: int) -> None:
    """Measure, print and write build/training_memory.json."""
    table_mb = rows * columns * 4 / (1 << 20)
    results = []
    with tempfile.TemporaryDirectory(dir="build") as folder:
        project = write_samples(Path(folder), rows, columns, tiles)
        for what in ("training_data", "model"):
            command = [sys.executable, "-m", "tests.benchmarks.training_memory", str(project), what]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(answer.stdout.splitlines()[-1])
            results.append({**result, "of_the_table": round(result["peak_mb"] / table_mb, 2)})
            print("  ".join(f"{name} {value}" for name, value in results[-1].items()), flush=True)
    written = {"rows": rows, "columns": columns, "table_mb": round(table_mb), "measured": results}
    Path("build/training_memory.json").write_text(json.dumps(written))
    worst = max(result["of_the_table"] for result in results)
    print(f"at most {worst} times the table of {table_mb:.0f} MB, {'under' if worst < LIMIT else 'OVER'} {LIMIT}")


def measure(project: str, what: str) -> dict[str, Any]:
    """Merge or train in this process."""
    from eo_assets.assets.model import make_model
    from eo_assets.assets.training_data import make_training_data
    from eo_assets.definitions import open_project
    from eo_assets.stages.build import tile_store

    loaded = open_project(project)
    before, started = peak_mb(), time.perf_counter()
    (make_training_data if what == "training_data" else make_model)(loaded, tile_store(loaded))
    seconds = round(time.perf_counter() - started, 1)
    return {"asset": what, "before_mb": before, "peak_mb": peak_mb(), "seconds": seconds}


def write_samples(folder: Path, rows: int, columns: int, tiles: int) -> str:
    """A project whose tiles have committed samples, `rows` of them together, and nothing else worth reading."""
    from eo_assets.assets.area import make_aoi, make_tile_grid, tiles_of
    from eo_assets.definitions import open_project
    from eo_assets.stages.build import tile_store, tile_walk

    side = int(np.ceil(np.sqrt(tiles)))
    dates = columns // FEATURES_A_DATE
    settings = project_settings(854, dates) | {"sampling": {"number": -(-rows // tiles)}}
    settings["model"] = {"parameters": {"n_estimators": 5, "num_leaves": 31}}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "memory.js").write_text(EVALSCRIPT)
    (folder / "input-data").mkdir()
    (folder / "input-data/labels.tif").write_bytes(b"only named in recipes")
    write_area(folder, 854, cells=side)
    loaded = open_project(str(folder / "project.yaml"))
    store, walk = tile_store(loaded), tile_walk(loaded)
    make_aoi(loaded, store)
    make_tile_grid(loaded, store)
    used = tiles_of(store)[:tiles]
    times = [dt.datetime(2020, 1, 1) + dt.timedelta(days=10 * index) for index in range(dates)]
    for number, tile in enumerate(used):
        here = rows * (number + 1) // tiles - rows * number // tiles
        _commit_samples(walk, tile, times, here, number)
    return str(folder / "project.yaml")


def _commit_samples(walk: Any, tile: Any, times: list[dt.datetime], rows: int, seed: int) -> None:
    """Commit records of every stage before, and real samples: random numbers, a fifth of the dates invalid."""
    from eo_assets.stages.features import FEATURES
    from eo_assets.stages.samples import PIXELS
    from resources.eopatch_files import DATA, DATA_TIMELESS, create_array, write_header

    random = np.random.default_rng(seed)
    for stage in walk.selected(("tiffs", "reference", "eopatches", "features", "samples")):
        wanted = walk.state(stage, tile).recipe
        with walk.store.attempt(stage.name, tile.name) as attempt:
            numbers: dict[str, Any] = {"acquisitions": []}
            if stage.name == "samples":
                write_header(attempt.folder, tile, times)
                values = random.random((len(times), rows, 1, FEATURES_A_DATE), np.float32)
                values[random.random(values.shape[:3]) < 0.2] = np.nan
                labels = (100 * np.nan_to_num(values[0, :, :, :1])).astype(np.uint8) + 1
                pixels = random.integers(25, 829, (rows, 1, 2)).astype(np.int32)
                arrays = ((DATA, FEATURES, values), (DATA_TIMELESS, "LABELS", labels), (DATA_TIMELESS, PIXELS, pixels))
                for kind, name, array in arrays:
                    create_array(attempt.folder, kind, name, array.shape, array.dtype.str)[:] = array
            walk.store.commit(stage.name, tile.name, attempt, wanted, numbers=numbers, source=stage.source)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
    else:
        told = [int(argument) for argument in sys.argv[1:]]
        main(*told, *(1_000_000, 540, 100)[len(told) :])
