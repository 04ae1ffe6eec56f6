"""A killed `eo-assets run` keeps nothing waiting: its run is ended by the daemon, and by the next command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg

from eo_assets.assets.alive import FOLDER, end_lost_runs, show_alive
from eo_assets.stages.build import tile_store
from jobs.project_jobs import AREA
from tests.simulation.daemon import ROOT, servers, until
from tests.simulation.world import simulated

HOLDS = """
import sys, time, dagster as dg
from eo_assets.assets.alive import show_alive
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    show_alive(instance, sys.argv[2])
    print("held", flush=True)
    time.sleep(60)
"""


def started_run(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.add_run(dg.DagsterRun("a_job", run_id, status=dg.DagsterRunStatus.STARTED))


def status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def test_a_run_is_lost_once_its_process_is_gone_and_not_before() -> None:
    with dg.instance_for_test() as instance:
        for run in ("mine", "theirs", "elsewhere"):
            started_run(instance, run)
        show_alive(instance, "mine")
        command = [sys.executable, "-W", "ignore", "-c", HOLDS, instance.root_directory, "theirs"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            assert end_lost_runs(instance) == []
            holder.kill()
        assert end_lost_runs(instance) == ["theirs"]
        assert {run: status(instance, run) for run in ("mine", "theirs", "elsewhere")} == {
            "mine": "STARTED",
            "theirs": "FAILURE",
            "elsewhere": "STARTED",
        }
        assert end_lost_runs(instance) == []
        assert [path.name.rpartition(".")[2] for path in (Path(instance.root_directory) / FOLDER).iterdir()] == ["mine"]


def test_a_killed_command_keeps_no_backfill_waiting(tmp_path: Path) -> None:
    with simulated(tmp_path / "simulated", 60) as made:
        loaded = made.open()
        with servers(loaded, quick=True) as dagster:
            assert dagster.wait_for_run(dagster.materialize(AREA)) == "SUCCESS"
            command = [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "eo_assets.cli",
                "run",
                str(loaded.file),
                "--only",
                "reference",
            ]
            process = subprocess.Popen(
                command, env=dagster.environment, start_new_session=True, stdout=subprocess.DEVNULL
            )
            try:
                until(lambda: tile_store(loaded).records("reference"), "the first tile", 120)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            state = dagster.wait_for_backfill(dagster.backfill(["reference"], made.names), 180)
            assert state["status"] == "COMPLETED_SUCCESS"
        assert sorted(tile_store(loaded).records("reference")) == made.names
