"""What N tiles x six stages do to Dagster's database, its servers and its pages: SQLite beside Postgres.

    python -m tests.benchmarks.database --tiles 10000 --storage postgres --folder /tmp/ten-thousand

The outputs are made once, by the stages themselves, and stay in the folder: with everything up to date a backfill only
plans and tells, so that what is measured is Dagster and its database and not the tiles' own work. A second storage over
the same folder skips the making. Each begins with an empty instance.

Writes build/database-<storage>.json:

- `steps_s`: wall seconds from the launch of a step until Dagster calls it ended; the backfill daemon looks every
  30 s. Each step is a range forced in the UI: everything is up to date.
- `runs`, `events`, `database_mb` after all steps.
- `rss_mb`: the highest resident memory of each process while the backfills ran. `postgres` is its processes' own share.
- `page_s`: seconds of the GraphQL requests behind the pages, the median of five, `before` anything was told and
  `after`: `partitions` (an asset's partition page), `partition` (one tile of it), `graph` (counts of the asset graph),
  `stale` (its badges). `browser_s`: until Chromium shows the partition page, with --browser.
- `up_to_date`: `eo-assets run` with nothing to do: wall seconds and runs launched. `scattered`: the same when the
  predictions of 50 scattered tiles are gone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from eo_assets.assets.area import tiles_of
from eo_assets.definitions import open_project
from eo_assets.instance import CONFIG, dagster_home
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from jobs.project_jobs import AREA, MAP, PREDICT, PUBLISH, TILES, TRAIN
from resources.local_sentinel_hub.server import stop
from tests.benchmarks.scale import backfill, launch
from tests.simulation.daemon import ROOT, Servers, servers
from tests.simulation.launching import run_command
from tests.simulation.making import make_outputs
from tests.simulation.measures import (
    Sampler,
    Watch,
    descendants,
    folder_mb,
    rss_mb,
    run_processes,
    runs_and_events,
    write_figures,
)
from tests.simulation.pages import page_seconds, seen_in_browser
from tests.simulation.postgres import Postgres, postgres
from tests.simulation.world import PROJECT_FILE, SERVICE, write_simulation

SCATTERED = 50


def main(tiles: int, storage: str, folder: Path, target: Path, *, browser: bool) -> int:
    """Make what is missing, measure one storage, write the figures."""
    loaded, made = outputs_in(folder, tiles)
    figures: dict[str, Any] = {"tiles": tiles, "storage": storage, "cores": os.cpu_count(), "outputs_made_s": made}
    shutil.rmtree(dagster_home(loaded))
    try:
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(postgres()) if storage == "postgres" else None
            config = CONFIG + (database.config if database else "")
            started = stack.enter_context(servers(loaded, config))
            figures |= measured(started, loaded, database, browser=browser)
    finally:
        stop(folder / SERVICE)
    write_figures(target, figures)
    return 0 if figures["up_to_date"]["runs"] == 0 else 1


def outputs_in(folder: Path, tiles: int) -> tuple[LoadedProject, float]:
    """The project in a folder with all its outputs, and the seconds that it took to make them: 0 if they were there."""
    if not (folder / PROJECT_FILE).exists():
        write_simulation(folder, tiles)
    loaded = open_project(str(folder / PROJECT_FILE))
    if len(tile_store(loaded).records("predictions")) == tiles:
        return loaded, 0.0
    began = time.monotonic()
    make_outputs(loaded)
    return loaded, round(time.monotonic() - began, 1)


def measured(started: Servers, loaded: LoadedProject, database: Postgres | None, *, browser: bool) -> dict[str, Any]:
    """Everything told once, a range forced again, and what the command line makes of it."""
    watch, pages, seen = Watch(), {}, {}
    sampler = Sampler(lambda: memory(started, database), seconds=2.0)
    tiles = [tile.name for tile in tiles_of(tile_store(loaded))]
    launch(started, watch, AREA)
    pages["before"] = page_seconds(started, tiles[0])
    with sampler.running():
        backfill(started, watch, TILES)
        launch(started, watch, TRAIN)
        backfill(started, watch, PREDICT)
        backfill(started, watch, MAP)
        launch(started, watch, PUBLISH)
    pages["after"] = page_seconds(started, tiles[0])
    if browser:
        seen["browser_s"] = seen_in_browser(started)
    first, size = runs_and_events(loaded), database_mb(loaded, database)
    return {
        "steps_s": watch.seconds,
        "runs": first[0],
        "events": first[1],
        "database_mb": size,
        "rss_mb": {name: sampler.highest(name) for name in sorted(sampler.samples)},
        "page_s": pages,
        **seen,
        "up_to_date": by_command(loaded),
        "scattered": {**lose_predictions(loaded), **by_command(loaded)},
    }


def memory(started: Servers, database: Postgres | None) -> dict[str, float]:
    """Resident memory of the servers and of the run, in MB."""
    found = {name: rss_mb(process.pid) for name, process in started.processes.items()}
    found["run"] = max((rss_mb(process.pid) for process in run_processes(started)), default=0.0)
    if database is not None:
        found["postgres"] = sum(own_mb(pid) for pid in [database.pid, *(p.pid for p in descendants(database.pid))])
    return found


def own_mb(pid: int) -> float:
    """A process's own share of memory in MB, what it shares with others divided by their number."""
    with contextlib.suppress(psutil.Error):
        return float(psutil.Process(pid).memory_full_info().pss / 1e6)
    return 0.0


def database_mb(loaded: LoadedProject, database: Postgres | None) -> float:
    """Megabytes of the instance's database, indices and all."""
    return database.size_mb() if database else folder_mb(dagster_home(loaded))


def by_command(loaded: LoadedProject) -> dict[str, float]:
    """`eo-assets run`: its wall seconds, and the runs that it launched."""
    before = runs_and_events(loaded)
    wall = run_command(loaded)
    after = runs_and_events(loaded)
    return {"wall_s": round(wall, 1), "runs": after[0] - before[0], "events": after[1] - before[1]}


def lose_predictions(loaded: LoadedProject) -> dict[str, int]:
    """Forget the predictions of tiles that lie far apart."""
    store = tile_store(loaded)
    records = sorted(store.records("predictions"))
    lost = records[:: max(1, len(records) // SCATTERED)][:SCATTERED]
    for tile in lost:
        Path(store.record_place("predictions", tile)).unlink()
    return {"lost": len(lost)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--folder", type=Path, required=True, help="where the project is made, and stays")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--browser", action="store_true", help="look at the partition page with Chromium too")
    given = parser.parse_args()
    output = given.output or ROOT / f"build/database-{given.storage}.json"
    sys.exit(main(given.tiles, given.storage, given.folder.resolve(), output, browser=given.browser))
