"""Clusters that nobody uses are ended, whoever forgot them; those in use, or just started, are left alone."""

from __future__ import annotations

import datetime as dt
import subprocess
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from rich.console import Console

from eo_assets.cli import main
from eo_assets.command_cluster import endings, in_use
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from jobs.cluster_guard import cluster_guard
from resources.ec2.account import AwsAccount
from resources.ec2.cluster_file import cluster_name
from resources.ec2.machines import end, forgotten, machines, note_use
from tests.moto_server import REGION, Moto

PROJECT = "west_africa"


@pytest.fixture
def loaded(tmp_path: Path, moto: Moto) -> LoadedProject:
    file = tmp_path / "project.yaml"
    file.write_text(
        f"extends: west_africa\ncluster: {{region: {REGION}, ssh_from: 203.0.113.0/28, end_idle_after_minutes: 5}}\n"
    )
    return open_project(str(file))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as found:
        yield found


def start(moto: Moto, ami: str, *, kind: str = "head", status: str = "up-to-date", longest: float = 24) -> str:
    tags = {
        "ray-cluster-name": cluster_name(PROJECT), "ray-node-type": kind, "ray-node-status": status,
        "eo-assets:project": PROJECT, "eo-assets:longest-hours": f"{longest:g}",
    }  # fmt: skip
    specifications = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
    (made,) = moto.client("ec2").run_instances(
        ImageId=ami, MinCount=1, MaxCount=1, InstanceType="m6i.xlarge", TagSpecifications=specifications
    )["Instances"]
    return str(made["InstanceId"])


def look(loaded: LoadedProject, instance: dg.DagsterInstance) -> str:
    with dg.build_sensor_context(instance=instance) as context:
        found = cluster_guard(loaded)(context)
    assert isinstance(found, dg.SkipReason)
    return found.skip_message or ""


def test_nothing_there_is_nothing_to_do(loaded: LoadedProject, instance: dg.DagsterInstance) -> None:
    assert look(loaded, instance) == "no machine is there"


def test_a_cluster_that_was_just_started_is_left_alone(
    loaded: LoadedProject, instance: dg.DagsterInstance, moto: Moto, ami: str
) -> None:
    start(moto, ami)
    assert look(loaded, instance) == "1 machines, in use"
    assert len(moto.machines()) == 1


def test_a_cluster_without_a_run_is_ended(
    loaded: LoadedProject, instance: dg.DagsterInstance, moto: Moto, ami: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(moto, ami)
    start(moto, ami, kind="worker")
    later(monkeypatch, minutes=20)
    assert look(loaded, instance) == "no run of west_africa for 20 minutes: 2 machines ended"
    assert moto.machines() == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
def test_a_run_keeps_its_cluster_and_one_of_another_project_does_not(
    loaded: LoadedProject, instance: dg.DagsterInstance, moto: Moto, ami: str, monkeypatch: pytest.MonkeyPatch,
    status: dg.DagsterRunStatus,
) -> None:  # fmt: skip
    start(moto, ami)
    later(monkeypatch, minutes=20)
    mine = dg.DagsterRun(job_name=f"{PROJECT}_tiles", run_id="a" * 32, status=status)
    instance.add_run(mine)
    assert look(loaded, instance) == "1 machines, in use"
    instance.delete_run(mine.run_id)
    for run, other in (("b", "demo"), ("c", f"{PROJECT}_2")):
        instance.add_run(dg.DagsterRun(job_name=f"{other}_tiles", run_id=run * 32, status=status))
    assert "1 machines ended" in look(loaded, instance)


def test_a_run_on_the_head_of_which_no_dagster_here_knows_keeps_its_cluster(
    loaded: LoadedProject, instance: dg.DagsterInstance, aws: AwsAccount, moto: Moto, ami: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """`eo-assets run --ray ec2`: its Dagster lives on the head, and the guard in somebody's own."""
    start(moto, ami)
    start(moto, ami, kind="worker")
    with subprocess.Popen(["sleep", "1"]) as run:
        threading.Thread(target=run.wait).start()  # nobody is there any more once it is waited for
        in_use(str(loaded.file), run.pid, Console())
    (noted,) = [one.used for one in machines(aws, PROJECT) if one.used]
    assert abs((noted - dt.datetime.now(dt.UTC)).total_seconds()) < 60
    later(monkeypatch, minutes=20)
    note_use(aws, PROJECT, dt.datetime.now(dt.UTC) + dt.timedelta(minutes=18))
    assert look(loaded, instance) == "2 machines, in use"
    later(monkeypatch, minutes=24)
    assert look(loaded, instance) == "no run of west_africa for 6 minutes: 2 machines ended"


def test_tags_that_people_have_written_over_keep_nobody_from_ending_it(aws: AwsAccount, moto: Moto, ami: str) -> None:
    written = [{"Key": "eo-assets:longest-hours", "Value": "two days"}, {"Key": "eo-assets:used-at", "Value": "now"}]
    moto.client("ec2").create_tags(Resources=[start(moto, ami)], Tags=written)
    (one,) = machines(aws, PROJECT)
    assert one.longest_hours is None and one.used is None
    assert end(aws, PROJECT) == 1


def test_a_machine_that_should_have_ended_itself_is_ended_whatever_runs(
    loaded: LoadedProject, instance: dg.DagsterInstance, moto: Moto, ami: str
) -> None:
    start(moto, ami, longest=0.000001)
    instance.add_run(dg.DagsterRun(job_name=f"{PROJECT}_tiles", run_id="a" * 32, status=dg.DagsterRunStatus.STARTED))
    assert "did not end itself: 1 machines ended" in look(loaded, instance)


def test_workers_without_a_head_are_nobodys(aws: AwsAccount, moto: Moto, ami: str) -> None:
    start(moto, ami, kind="worker")
    assert "workers without a head" in forgotten(machines(aws, PROJECT))


def test_another_projects_machines_are_not_touched(aws: AwsAccount, moto: Moto, ami: str) -> None:
    start(moto, ami)
    assert end(aws, "west") == 0 and end(aws, "west_africa_2") == 0
    assert len(moto.machines()) == 1


def test_ec2_that_does_not_answer_is_told_and_stops_no_sensor(
    loaded: LoadedProject, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert look(loaded, instance).startswith("EC2 could not be asked: looking for machines: no AWS credentials")


def later(monkeypatch: pytest.MonkeyPatch, *, minutes: int) -> None:
    """The guard's clock goes so much ahead."""
    ahead = types.SimpleNamespace(time=lambda: time.time() + 60 * minutes)
    monkeypatch.setattr("jobs.cluster_guard.time", ahead)


@pytest.mark.parametrize("longest", [24.0, 0.75])
def test_status_says_what_ends_a_cluster_that_was_started_without_a_run(
    loaded: LoadedProject, moto: Moto, ami: str, longest: float
) -> None:
    start(moto, ami, longest=longest)
    (head,) = machines(AwsAccount(REGION), PROJECT)
    said = CliRunner(env={"COLUMNS": "100"}).invoke(main, ["cluster", "status", str(loaded.file)])
    ending = head.launched + dt.timedelta(hours=longest)
    assert f"at the latest {ending:%Y-%m-%d %H:%M} UTC: each machine ends itself after its longest_hours" in said.output
    run = f"`eo-assets run {loaded.file} --ray ec2`"
    assert f"after a run   5 minutes after the end of {run} (cluster.end_idle_after_minutes), 1 with" in said.output
    alone = "without a run nothing sooner, but 5 minutes where Dagster's daemon has this project; at once: `eo-assets"
    assert f"{alone} cluster down {loaded.file}`" in said.output


def test_a_cluster_that_dagster_lives_on_is_not_ended_by_itself(loaded: LoadedProject) -> None:
    assert loaded.project.cluster is not None
    forever = loaded.project.cluster.model_copy(update={"end_idle_after_minutes": None})
    assert dict(endings("my.yaml", forever, [])) == {
        "a worker": "5 minutes after its last tile (cluster.idle_minutes)",
        "after a run": "nothing: cluster.end_idle_after_minutes is null",
        "without a run": "nothing sooner; at once: `eo-assets cluster down my.yaml`",
    }
