"""A real `ray up` over ssh, the demo made by tiles on other machines than its driver's, a machine lost, the end.

What is not EC2's is the product's own: the command, the launcher, its file's commands, the token, the head's runner.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from eo_assets.stages.build import tile_store
from tests.integration.bucket.conftest import Answer
from tests.integration.netns.conftest import ROOT, OnCluster

TILE_STAGES = ("tiffs", "reference", "eopatches", "features", "samples", "predictions")
ON_HEAD = "eo-assets-projects/demo"


@pytest.fixture(scope="module")
def without(on_cluster: OnCluster) -> Answer:
    """What a run says while no cluster is up."""
    return on_cluster.answer("run", str(on_cluster.file), "--ray", "ec2")


@pytest.fixture(scope="module")
def made(on_cluster: OnCluster, without: Answer) -> Iterator[tuple[OnCluster, str]]:
    """The whole demo, run on the cluster by the command, and what it said."""
    answer = on_cluster.answer("run", str(on_cluster.file), "--ray", "ec2", "--start")
    assert answer.code == 0, answer.said
    yield on_cluster, answer.said


def test_without_a_cluster_nothing_is_begun(without: Answer, on_cluster: OnCluster) -> None:
    assert without.code == 2 and "no cluster of" in without.said and "--start" in without.said


def test_a_project_in_a_folder_is_refused(on_cluster: OnCluster, tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    cluster = yaml.safe_load(on_cluster.file.read_text())["cluster"]
    file.write_text(yaml.safe_dump({"extends": "demo", "cluster": cluster}))
    answer = on_cluster.answer("run", str(file), "--ray", "ec2", "--start")
    assert answer.code == 2 and "storage.project_folder" in answer.said and "s3://bucket/prefix" in answer.said


def test_every_tile_is_made_on_the_workers(made: tuple[OnCluster, str]) -> None:
    on_cluster, said = made
    store = tile_store(on_cluster.loaded)
    workers = {node.address for node in on_cluster.workers()}
    records = [record for stage in TILE_STAGES for record in store.records(stage).values()]
    assert len(records) == 4 * len(TILE_STAGES) and store.records("maps") and store.records("byoc_collection")
    nodes = {record.numbers["ray_node"]: record.numbers["node_address"] for record in records}
    assert len(workers) == 2 and set(nodes.values()) <= workers, "none on the head, where the driver is"
    assert "score " in said and "map " in said


def test_secrets_are_in_no_file_of_the_run(made: tuple[OnCluster, str]) -> None:
    on_cluster, said = made
    head = on_cluster.machines.nodes[0]
    home = on_cluster.machines.folder / head.name / "home"
    kept = home / ".ray/eo-assets.environment"
    assert kept.stat().st_mode & 0o777 == 0o600
    secrets = [line.partition("=")[2].strip("'\n") for line in kept.read_text().splitlines() if "SECRET" in line]
    assert len(secrets) == 2 and not any(secret in said for secret in secrets)
    logs = on_cluster.machines.folder / head.name / "ray"
    written = [path for folder in (home / ON_HEAD, logs) for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert [path for path in written if any(secret.encode() in path.read_bytes() for secret in secrets)] == []


def test_attach_is_a_shell_on_the_head(made: tuple[OnCluster, str]) -> None:
    on_cluster, _ = made
    answer = on_cluster.answer("cluster", "attach", str(on_cluster.file), given="hostname; ray status; exit 3\n")
    assert answer.code == 3
    assert on_cluster.machines.nodes[0].name in answer.said and "0.0/2.0 CPU" in answer.said


def test_status_names_its_machines(made: tuple[OnCluster, str]) -> None:
    on_cluster, _ = made
    answer = on_cluster.answer("cluster", "status", str(on_cluster.file))
    assert answer.code == 0
    assert all(node.name in answer.said for node in [on_cluster.machines.nodes[0], *on_cluster.workers()])


def test_a_cluster_of_another_version_is_refused(made: tuple[OnCluster, str]) -> None:
    on_cluster, _ = made
    head = on_cluster.machines.nodes[0]
    profile = on_cluster.machines.folder / head.name / "home/.bashrc"
    before = profile.read_text()
    older = 'python() { echo \'{"Python": "3.10.9", "ray": "2.9.0", "eo-assets": "0.0.1"}\'; }\n'
    profile.write_text(before + older)
    try:
        answer = on_cluster.answer("run", str(on_cluster.file), "--ray", "ec2")
    finally:
        profile.write_text(before)
    assert answer.code == 2 and "ray 2.9.0 there" in answer.said and "Python 3.10.9 there" in answer.said
    assert "push the image of this version" in answer.said


def test_a_machine_that_is_cut_off_in_mid_run_costs_time_and_nothing_else(made: tuple[OnCluster, str]) -> None:
    on_cluster, _ = made
    file = on_cluster.file
    said = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**said, "features": {"indices": {"GNDVI": ["B08", "B03"]}}}))
    store = tile_store(on_cluster.loaded)
    before = {name: record.attempt for name, record in store.records("features").items()}
    lost, kept = on_cluster.workers()
    run = subprocess.Popen(
        on_cluster.command("run", str(file), "--ray", "ec2"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        limit = time.monotonic() + 240
        while not any("ray::call" in name for name in lost.processes()):
            assert time.monotonic() < limit and run.poll() is None
            time.sleep(0.1)
        lost.cut_off()
        output = run.communicate(timeout=500)[0].decode()
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0, output
    after = {name: record.attempt for name, record in store.records("features").items()}
    assert len(after) == 4 and not set(after.values()) & set(before.values())
    assert kept.address in {record.numbers["node_address"] for record in store.records("features").values()}


def test_down_ends_ray_on_every_machine(made: tuple[OnCluster, str]) -> None:
    on_cluster, _ = made
    answer = on_cluster.answer("cluster", "down", str(on_cluster.file))
    assert answer.code == 0 and "machines ended" in answer.said
    reached = [node for node in on_cluster.machines.nodes if node.is_reached()]
    limit = time.monotonic() + 120  # on EC2 the machines are gone; here a worker's Ray notices that its head is
    while any("raylet" in node.processes() for node in reached):
        assert time.monotonic() < limit
        time.sleep(0.5)
