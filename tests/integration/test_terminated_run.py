"""A run that is terminated in the UI: its tasks end with it, what it committed stays, and the next run goes on."""

from __future__ import annotations

from pathlib import Path

import psutil

from eo_assets.stages.build import tile_store
from jobs.project_jobs import AREA
from resources.sweeping import sweep
from tests.simulation.daemon import servers, until
from tests.simulation.measures import descendants, run_processes
from tests.simulation.outputs import leftovers
from tests.simulation.world import simulated

STAGE = "reference"


def test_a_run_that_is_terminated_takes_its_tasks_along(tmp_path: Path) -> None:
    with simulated(tmp_path / "simulated", 200) as made:
        loaded = made.open()
        store = tile_store(loaded)
        with servers(loaded, quick=True) as dagster:
            assert dagster.wait_for_run(dagster.materialize(AREA)) == "SUCCESS"
            backfill = dagster.backfill([STAGE], made.names)
            until(lambda: len(store.records(STAGE)) >= 5, "the first tiles", 120)
            [run] = dagster.backfill_state(backfill)["runs"]
            workers = [child.pid for process in run_processes(dagster) for child in descendants(process.pid)]
            assert any("ray" in " ".join(_command(pid)) for pid in workers)
            assert dagster.terminate(run["runId"]) == "TerminateRunSuccess"
            assert dagster.wait_for_run(run["runId"]) == "CANCELED"
            until(lambda: not any(psutil.pid_exists(pid) for pid in workers), "the run's workers to end", 60)
            made_before = store.records(STAGE)
            assert 5 <= len(made_before) < len(made.names)
            assert set(dagster.partition_states(STAGE)["failed"]) == set()

            # The next one goes on: what was committed is not made again.
            again = dagster.backfill([STAGE], made.names)
            assert dagster.wait_for_backfill(again)["status"] == "COMPLETED_SUCCESS"
        after = store.records(STAGE)
        assert sorted(after) == made.names and {name: after[name] for name in made_before} == made_before
        # A tile whose worker was killed while it wrote leaves its attempt behind, which a sweep takes.
        left = [path for path in leftovers(loaded) if path.startswith(store.folder(STAGE))]
        assert sorted(sweep(store, STAGE, grace_seconds=-1)) == left
        assert [path for path in leftovers(loaded) if path.startswith(store.folder(STAGE))] == []


def _command(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []
