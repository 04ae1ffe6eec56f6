"""Which runs are old enough to go, in an instance in memory: never one that Dagster tells an asset's state by."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from eo_assets.definitions import build_definitions
from eo_assets.project import LoadedProject
from jobs.run_retention import delete_old_runs, live_runs
from tests.simulation.world import write_simulation

LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
TILES = ("one", "two")


@pytest.fixture(params=["memory", "sqlite"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance in memory, and one whose events lie in a file a run."""
    if request.param == "memory":
        with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as made:
            yield made
    else:
        with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
            yield made


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    return write_simulation(tmp_path_factory.mktemp("simulated"), 4).open()


def run(instance: dg.DagsterInstance, tile: str, project: str = "simulated", fails: str = "") -> str:
    """A run that makes an asset of a tile, whose code fails if it is told to."""

    @dg.asset(key=[project, "tiffs"], partitions_def=dg.StaticPartitionsDefinition(TILES))
    def tiffs() -> None:
        if fails:
            raise ValueError(fails)

    job = dg.define_asset_job(f"{project}_tiles", selection=[tiffs])
    found = dg.Definitions(assets=[tiffs], jobs=[job]).resolve_job_def(job.name)
    done = found.execute_in_process(instance=instance, partition_key=tile, raise_on_error=False)
    assert done.success is not bool(fails)
    return str(done.run_id)


def ids(instance: dg.DagsterInstance) -> set[str]:
    return {each.run_id for each in instance.get_runs()}


def test_a_run_goes_once_another_has_made_the_same_anew(instance: dg.DagsterInstance, loaded: LoadedProject) -> None:
    first, second, other_tile = run(instance, "one"), run(instance, "one"), run(instance, "two")
    assert delete_old_runs(instance, loaded, LONG_AGO) == []
    assert delete_old_runs(instance, loaded, LATER) == [first]
    assert ids(instance) == {second, other_tile}
    assert instance.get_materialized_partitions(dg.AssetKey(["simulated", "tiffs"])) == set(TILES)
    assert delete_old_runs(instance, loaded, LATER) == []


def test_the_last_failure_stays_and_so_does_what_was_made_before_it(
    instance: dg.DagsterInstance, loaded: LoadedProject
) -> None:
    made, failed, failed_again = run(instance, "one"), run(instance, "one", fails="a"), run(instance, "one", fails="b")
    assert live_runs(instance, "simulated") == {made, failed_again}
    assert delete_old_runs(instance, loaded, LATER) == [failed]


def test_another_project_and_an_unfinished_run_are_left_alone(
    instance: dg.DagsterInstance, loaded: LoadedProject
) -> None:
    others = {run(instance, "one", "simulated_too"), run(instance, "one", "simulated_too")}
    instance.add_run(dg.DagsterRun("simulated_area", "waits", status=dg.DagsterRunStatus.NOT_STARTED))
    assert delete_old_runs(instance, loaded, LATER) == []
    assert ids(instance) == {*others, "waits"}


def test_what_an_unfinished_run_tries_again_stays(instance: dg.DagsterInstance, loaded: LoadedProject) -> None:
    instance.add_run(dg.DagsterRun("simulated_area", "failed", status=dg.DagsterRunStatus.FAILURE))
    tries = dg.DagsterRun(
        "simulated_area", "again", root_run_id="failed", parent_run_id="failed", status=dg.DagsterRunStatus.STARTED
    )
    instance.add_run(tries)
    assert delete_old_runs(instance, loaded, LATER) == []
    instance.delete_run("again")
    assert delete_old_runs(instance, loaded, LATER) == ["failed"]


@pytest.mark.parametrize("days", [None, 90])
def test_nothing_is_deleted_unless_the_project_says_when(tmp_path: Path, days: int | None) -> None:
    loaded = write_simulation(tmp_path, 4).open({"automation": {"keep_runs_days": days}})
    sensors = {sensor.name: sensor for sensor in build_definitions([loaded]).sensors or ()}
    assert ("simulated_run_retention" in sensors) is (days is not None)
