"""`make scale`: a simulated project of TILES tiny tiles through a real graph, launched as the UI does it.

    python -m tests.benchmarks.scale --tiles 2000

Code server, webserver and daemon are processes of their own, files and service are real; only the pixels are made up.
First the area, then a backfill of the five tile stages before the model, training, a backfill of the predictions, maps,
publishing. Then the same ranges are forced again with everything up to date. At last two settings are changed, and
`eo-assets status` has to name exactly what depends on them.

Writes build/scale.json:

- `tiles`, `runs`, `events`: of the first round; events are all records that the instance keeps of its runs.
- `wall_s`: from the first launch to the published map, `steps_s` by launch.
- `work_s`: the sum, over the commit records of the tile stages, of the seconds that a worker spent on making the
  output: reading its input, computing, writing. `service_s`: CPU seconds of the local Sentinel Hub, which stands in for
  a service that is elsewhere.
- `overhead_s_per_tile_stage`: (wall of the two backfills - (work_s + service_s) / cores) / (tiles x 6): what a tile's
  stage costs beside its own work, for launching, planning, starting Ray, handing out, committing and telling Dagster.
  The fixed part of it, starting processes and the thirty seconds at which the backfill daemon looks, is shared by all.
- `overhead_in_run_s_per_tile_stage`: the same of the two runs alone, from the start of the run to its end.
- `driver_rss_start_mb`, `driver_rss_end_mb`: resident memory of the process that runs the first backfill, when its
  first tile was committed and when it was last seen.
- `rerun_wall_s`: the two backfills over the same tiles again; nothing is made, everything is told again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store
from jobs.project_jobs import AREA, MAP, PREDICT, PUBLISH, TILES, TRAIN
from tests.simulation.daemon import ROOT, Servers, own_environment, servers
from tests.simulation.measures import (
    Sampler,
    Watch,
    descendants,
    rss_mb,
    run_processes,
    runs_and_events,
    seconds_of_runs,
    write_figures,
)
from tests.simulation.world import SERVICE, Simulation, simulated

LONG = 24 * 3600.0
AFTER_MODEL = frozenset({"predictions", "maps", "byoc_collection"})
CHANGES: Sequence[tuple[str, Mapping[str, Mapping[str, Any]], frozenset[str]]] = (
    (
        "the model's learning rate",
        {
            "model": {
                "parameters": {"n_estimators": 8, "num_leaves": 7, "min_data_in_leaf": 5, "learning_rate": 0.2},
            }
        },
        AFTER_MODEL | {"model"},
    ),
    (
        "an index",
        {"features": {"indices": {"NDVI": ["B11", "B04"]}}},
        AFTER_MODEL | {"features", "samples", "training_data", "model"},
    ),
)
"""What is changed, how, and the assets that depend on it."""


def main(tiles: int, target: Path) -> int:
    """Measure, write, print; the exit code is 1 if a changed setting made other assets stale than it should."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, simulated(Path(folder) / "project", tiles) as project:
        figures = {"tiles": tiles, **backfills(project)}
        figures["stale"] = stale = {what: stale_assets(project, change) for what, change, _ in CHANGES}
    write_figures(target, figures)
    right = True
    for what, _, expected in CHANGES:
        as_expected = set(stale[what]) == expected
        right &= as_expected
        told = "as it should be" if as_expected else f"EXPECTED {', '.join(sorted(expected))}"
        print(f"{what} changed: stale are {', '.join(stale[what])}: {told}")
    return 0 if right else 1


def backfills(project: Simulation) -> dict[str, Any]:
    """Everything once, and the tiles once more."""
    loaded, watch = project.open(), Watch()
    with servers(loaded) as started:
        sampler = Sampler(lambda: _look(started, loaded))
        begun = time.monotonic()
        launch(started, watch, AREA)
        with sampler.running():
            backfill(started, watch, TILES)
        launch(started, watch, TRAIN)
        backfill(started, watch, PREDICT)
        backfill(started, watch, MAP)
        launch(started, watch, PUBLISH)
        wall = time.monotonic() - begun
        service, in_runs = service_seconds(project.folder), seconds_of_runs(loaded, TILE_STAGES)
        runs, events = runs_and_events(loaded)
        backfill(started, watch, TILES, "again")
        backfill(started, watch, PREDICT, "again")
    work, steps = work_seconds(loaded), watch.seconds
    both, count = steps[TILES[0]] + steps[PREDICT[0]], len(project.names) * len(TILE_STAGES)
    own = (work + service) / (os.cpu_count() or 1)
    return {
        "wall_s": round(wall, 1),
        "work_s": round(work, 1),
        "service_s": round(service, 1),
        "overhead_s_per_tile_stage": round((both - own) / count, 4),
        "overhead_in_run_s_per_tile_stage": round((in_runs - own) / count, 4),
        "runs": runs,
        "events": events,
        "driver_rss_start_mb": sampler.first("driver"),
        "driver_rss_end_mb": sampler.last("driver"),
        "rerun_wall_s": round(steps[f"{TILES[0]} again"] + steps[f"{PREDICT[0]} again"], 1),
        "cores": os.cpu_count(),
        "steps_s": steps,
    }


def launch(started: Servers, watch: Watch, assets: Sequence[str]) -> None:
    """Assets that span tiles, as the UI's Materialize does."""
    with watch.step(assets[0]):
        status = started.wait_for_run(started.materialize(assets), LONG)
    if status != "SUCCESS":
        raise SystemExit(f"{', '.join(assets)} ended as {status}; see {started.home}")


def backfill(started: Servers, watch: Watch, assets: Sequence[str], again: str = "") -> dict[str, Any]:
    """All partitions of some assets, as the UI's backfill does."""
    with watch.step(f"{assets[0]} {again}".strip()):
        state = started.wait_for_backfill(started.backfill(assets), LONG)
    if state["status"] != "COMPLETED_SUCCESS":
        raise SystemExit(f"the backfill of {', '.join(assets)} ended as {state['status']}: {json.dumps(state)[:2000]}")
    return state


def work_seconds(loaded: LoadedProject) -> float:
    """The stages' own seconds, from their commit records."""
    store = tile_store(loaded)
    records = (record for stage in TILE_STAGES for record in store.records(stage).values())
    return float(sum(record.numbers.get("seconds", 0.0) for record in records))


def service_seconds(folder: Path) -> float:
    """CPU seconds that the local Sentinel Hub of a project folder has used, those of its ended children too."""
    served = json.loads((folder / SERVICE / "service.json").read_text())
    total = 0.0
    for process in (psutil.Process(served["pid"]), *descendants(served["pid"])):
        used = process.cpu_times()
        total += used.user + used.system + used.children_user + used.children_system
    return total


def stale_assets(project: Simulation, change: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The assets that `eo-assets status` calls anything but done once some settings are changed."""
    loaded = project.open(change)
    command = [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", "status", str(loaded.file), "--json"]
    with own_environment(loaded) as environment:
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT).stdout
    return [asset for asset, status in json.loads(told).items() if set(status["states"]) - {"done", "empty"}]


def _look(started: Servers, loaded: LoadedProject) -> dict[str, float]:
    """Memory of the run's process, once it has committed something: until then it is still starting."""
    commits = tile_store(loaded).store.path(tile_store(loaded).commits_folder("features"))
    if not commits.is_dir():
        return {}
    return {"driver": max((rss_mb(process.pid) for process in run_processes(started)), default=0.0)}


def arguments(benchmark: Callable[[int, Path], int]) -> int:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=ROOT / "build/scale.json")
    given = parser.parse_args()
    return benchmark(given.tiles, given.output)


if __name__ == "__main__":
    sys.exit(arguments(main))
