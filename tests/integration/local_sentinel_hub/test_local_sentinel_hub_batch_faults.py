"""Batch requests that go wrong on purpose: tiles, money, replicas, lost answers, a process that dies in mid-job."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from eo_assets.core.cost import processing_units
from resources.local_sentinel_hub.server import ServiceSettings, stop

from .conftest import BUCKET, LEFT, TOP, Imagery
from .fault_control import Control
from .test_local_sentinel_hub_batch import features, halves, package, payload
from .test_local_sentinel_hub_server import gone, pid_of

JOBS = "/api/v2/batch/process"
TILE_UNITS = processing_units([(2, 64)], 2, 1, mode="process")
"""A tile of these tests: a request as small as it can be, two bands (dataMask is free), no discount for batch."""


@pytest.fixture(scope="module")
def running(world: tuple[Path, Imagery], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A service that may misbehave."""
    folder = tmp_path_factory.mktemp("faulty")
    bucket = folder / "bucket"
    halves(bucket, "halves.gpkg")
    rows = {f"row{i:02}": (LEFT, TOP - 20 * (i + 1), LEFT + 640, TOP - 20 * i) for i in range(12)}
    package(bucket / "rows.gpkg", rows, width=np.full(12, 64), height=np.full(12, 2))
    settings = ServiceSettings(folder / "service", world[0], {BUCKET: bucket}, faults=True)
    yield Control(settings)
    stop(settings.folder)


@pytest.fixture
def control(running: Control) -> Control:
    """The service, nothing switched on."""
    running.clear()
    return running


@pytest.fixture
def bucket(running: Control) -> Path:
    """The folder that plays the bucket."""
    return running.settings.buckets[BUCKET]


def body(tiles: str, description: str = "") -> dict[str, Any]:
    """A request for the tiles of a GeoPackage, delivered below `out/<id>`."""
    return {
        "processRequest": payload(),
        "input": {"type": "geopackage", "features": {"s3": {"url": f"s3://{BUCKET}/{tiles}.gpkg"}}},
        "output": {"type": "raster", "delivery": {"s3": {"url": f"s3://{BUCKET}/out"}}},
        "description": description,
    }


def create(control: Control, tiles: str, **said: str) -> str:
    """The id of a new request."""
    answer = control.call("POST", JOBS, body(tiles, **said))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def start(control: Control, tiles: str) -> str:
    """The id of a request that was started."""
    identity = create(control, tiles)
    assert control.call("POST", f"{JOBS}/{identity}/start").status_code == 204
    return identity


def ended(control: Control, identity: str, timeout_s: float = 60) -> dict[str, Any]:
    """The request when nothing works on it any more."""
    deadline = time.monotonic() + timeout_s
    while True:
        job: dict[str, Any] = control.call("GET", f"{JOBS}/{identity}").json()
        if job["status"] in ("DONE", "FAILED", "STOPPED"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def fates(bucket: Path, identity: str) -> dict[str, tuple[Any, ...]]:
    """Status, error and delivered of each tile, from the side file."""
    return {row[1]: row[2:] for row in features(bucket / "out" / identity, identity)}


def test_a_tile_is_fatal_as_often_as_is_said(control: Control, bucket: Path) -> None:
    control.set(fatal_tiles={"west": 1, "east": -1}, fatal_error="no such luck")
    first, second, third = [ended(control, start(control, "halves")) for _ in range(3)]
    assert [job["status"] for job in (first, second, third)] == ["DONE"] * 3
    assert fates(bucket, first["id"]) == {"west": ("FATAL", "no such luck", 0), "east": ("FATAL", "no such luck", 0)}
    for job in (second, third):
        assert fates(bucket, job["id"]) == {"west": ("DONE", None, 1), "east": ("FATAL", "no such luck", 0)}
        assert not (bucket / "out" / job["id"] / "east").exists()


def test_an_empty_tile_is_done_without_files(control: Control, bucket: Path) -> None:
    control.set(empty_tiles=["east"])
    job = ended(control, start(control, "halves"))
    assert (job["status"], job["costPU"], job["completionPercentage"]) == ("DONE", 100, 100)
    assert fates(bucket, job["id"]) == {"west": ("DONE", None, 1), "east": ("DONE", "No data", 0)}
    assert not (bucket / "out" / job["id"] / "east").exists()


def test_tiles_without_a_scene_are_empty_only_where_it_is_asked_for(control: Control, bucket: Path) -> None:
    away = (LEFT - 1000, TOP - 640, LEFT - 500, TOP)
    package(bucket / "off.gpkg", {"on": (LEFT, TOP - 640, LEFT + 640, TOP), "off": away}, resolution=[10.0, 10.0])
    assert fates(bucket, ended(control, start(control, "off"))["id"])["off"] == ("DONE", None, 1)
    control.set(empty_without_scenes=True)
    job = ended(control, start(control, "off"))
    assert fates(bucket, job["id"]) == {"on": ("DONE", None, 1), "off": ("DONE", "No data", 0)}


def test_a_new_request_is_not_found_at_first(control: Control) -> None:
    before = create(control, "halves")
    control.set(hide_new_requests=2)
    identity = create(control, "halves")
    assert [control.status(f"{JOBS}/{identity}") for _ in range(3)] == [404, 404, 200]
    assert control.status(f"{JOBS}/{before}") == 200


def test_a_job_that_is_out_of_units_stops_and_goes_on(control: Control, bucket: Path) -> None:
    factor = 100 / TILE_UNITS
    control.set(cost_factor=factor, out_of_units_after=300)
    job = ended(control, start(control, "rows"))
    assert (job["status"], job["stoppedStatusReason"]) == ("STOPPED", "OUT_OF_PU")
    done = [name for name, fate in fates(bucket, job["id"]).items() if fate[0] == "DONE"]
    assert 3 <= len(done) <= 4 and job["costPU"] == pytest.approx(100 * len(done))
    assert not any(key.startswith("_") for key in job)
    control.add(out_of_units_after=None)
    assert control.call("POST", f"{JOBS}/{job['id']}/start").status_code == 204
    job = ended(control, job["id"])
    assert (job["status"], job.get("stoppedStatusReason")) == ("DONE", None)
    assert job["costPU"] == pytest.approx(1200)


def test_slow_tiles_and_the_pause_after_a_stop(control: Control, bucket: Path) -> None:
    control.set(slow_s=0.3, refuse_restart_minutes=30)
    started = time.monotonic()
    identity = start(control, "rows")
    while not control.call("GET", f"{JOBS}/{identity}").json()["completionPercentage"]:
        assert time.monotonic() - started < 30
        time.sleep(0.02)
    assert time.monotonic() - started >= 0.3
    control.call("POST", f"{JOBS}/{identity}/stop")
    assert ended(control, identity)["stoppedStatusReason"] == "USER_ACTION"
    refused = control.call("POST", f"{JOBS}/{identity}/start")
    assert refused.status_code == 400 and "not be started again for 30 minutes" in refused.text
    control.clear()
    assert control.call("POST", f"{JOBS}/{identity}/start").status_code == 204
    assert ended(control, identity)["status"] == "DONE"


def test_an_account_that_is_too_poor_creates_nothing(control: Control) -> None:
    known = len(control.call("GET", JOBS).json()["data"])
    control.set(balance=999.5)
    refused = control.call("POST", JOBS, body("halves"))
    assert refused.status_code == 403 and "has 999.5 processing units, a batch request needs 1000" in refused.text
    assert len(control.call("GET", JOBS).json()["data"]) == known
    control.set(balance=1000)
    create(control, "halves")


def test_a_creation_whose_answer_is_lost_leaves_an_orphan(control: Control) -> None:
    control.set(lose_create_answer=1)
    with pytest.raises(requests.ConnectionError):
        control.call("POST", JOBS, body("halves", "an orphan"))
    orphans = [job for job in control.call("GET", JOBS).json()["data"] if job["request"]["description"] == "an orphan"]
    assert [job["status"] for job in orphans] == ["CREATED"]
    line = next(line for line in control.log() if line.get("request") == orphans[0]["id"])
    assert (line["status"], line["fault"], line["tiles"]) == (None, "lose_create_answer", ["west", "east"])
    create(control, "halves", description="another")


@pytest.mark.parametrize("tiles", [5, 12])
def test_a_process_that_dies_in_mid_job_charges_each_tile_once(control: Control, bucket: Path, tiles: int) -> None:
    control.set(cost_factor=100 / TILE_UNITS, die_after_tiles=tiles)
    pid = pid_of(control.settings)
    identity = start(control, "rows")
    assert gone(pid)
    folder = bucket / "out" / identity
    assert len(list(folder.glob("row*/B02.tif"))) >= tiles
    control.restart()
    assert "die_after_tiles" not in control.call("GET", "/local/faults").json()["faults"]
    job = ended(control, identity)
    assert (job["status"], job["costPU"]) == ("DONE", pytest.approx(1200))
    assert set(fates(bucket, identity).values()) == {("DONE", None, 1)} and len(fates(bucket, identity)) == 12
    assert control.spent()["batch"][identity] == pytest.approx(1200)
    stop(control.settings.folder)
    control.restart()
    assert control.spent()["batch"][identity] == pytest.approx(1200)


def test_a_process_that_is_killed_again_and_again_charges_each_tile_once(control: Control, bucket: Path) -> None:
    control.set(cost_factor=100 / TILE_UNITS, slow_s=0.15)
    identity = start(control, "rows")
    for pause_s in (0.25, 0.41, 0.33):
        time.sleep(pause_s)
        pid = pid_of(control.settings)
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        control.restart()
    job = ended(control, identity)
    assert (job["status"], job["costPU"]) == ("DONE", pytest.approx(1200))
    assert len(list((bucket / "out" / identity).glob("row*/B02.tif"))) == 12


def test_side_files_hold_what_is_documented_and_no_more(control: Control, bucket: Path) -> None:
    job = ended(control, start(control, "halves"))
    folder = bucket / "out" / job["id"]
    with closing(sqlite3.connect(folder / f"execution-{job['id']}.sqlite")) as db:
        assert db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("features",)]
    assert json.loads((folder / f"request-{job['id']}.json").read_text())["costPU"] == 0
