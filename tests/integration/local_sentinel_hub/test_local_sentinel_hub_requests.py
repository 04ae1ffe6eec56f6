"""The log of calls and the sums of charges: what they say, what they never say, and that they are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.local_sentinel_hub.request_log import Entry, RequestLog
from resources.local_sentinel_hub.server import ServiceSettings, stop

from .conftest import BUCKET, EPSG, LEFT, SIMPLE, TOP, Imagery
from .fault_control import Control
from .test_local_sentinel_hub_batch import halves, payload
from .test_local_sentinel_hub_batch_faults import JOBS, body, create, ended, start

PROCESS = "/api/v1/process"
SECRET = "the-only-secret"


@pytest.fixture
def control(world: tuple[Path, Imagery], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """A service whose one client is named by the environment."""
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_CLIENT_ID", "tester")
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_CLIENT_SECRET", SECRET)
    halves(tmp_path / "bucket", "halves.gpkg")
    settings = ServiceSettings(tmp_path / "service", world[0], {BUCKET: tmp_path / "bucket"}, faults=True)
    yield Control(settings)
    stop(settings.folder)


def process_body() -> dict[str, object]:
    bounds = {
        "bbox": [LEFT, TOP - 640, LEFT + 640, TOP],
        "properties": {"crs": f"http://www.opengis.net/def/crs/EPSG/0/{EPSG}"},
    }
    request = payload(outputs=("B02",), bounds=bounds)
    return {**request, "output": {**request["output"], "width": 64, "height": 64}}


def test_calls_are_logged_with_what_they_asked_for(control: Control) -> None:
    first = control.call("POST", PROCESS, process_body())
    assert first.status_code == 200
    identity = start(control, "halves")
    ended(control, identity)
    grid = {**body("halves"), "input": {"type": "tiling-grid", "id": 1, "resolution": 10}}
    grid["processRequest"] = process_body()
    assert control.call("POST", JOBS, grid).status_code == 201
    control.call("POST", JOBS, {"nonsense": True})
    lines = control.log()
    assert [line["path"] for line in lines[:3]] == ["/oauth/token", PROCESS, JOBS]
    assert lines[1]["units"] == pytest.approx(float(first.headers["x-processingunits-spent"]), abs=1e-4)
    assert {key: lines[2][key] for key in ("method", "status", "request", "tiles", "tileCount")} == {
        "method": "POST",
        "status": 201,
        "request": identity,
        "tiles": ["west", "east"],
        "tileCount": 2,
    }
    assert all(line["seconds"] >= 0 and line["time"].endswith("Z") for line in lines)
    created = [line for line in lines if line["path"] == JOBS]
    assert (created[1]["tilingGrid"], created[1]["resolution"], created[2]["status"]) == (1, 10, 400)
    assert "request" not in created[2]


def test_polling_is_logged_in_short(control: Control) -> None:
    for _ in range(20):
        control.status()
    control.status("/api/v2/batch/tilinggrids/9")
    for _ in range(5):
        control.status()
    polls = [line for line in control.log() if line["path"] == "/api/v2/batch/tilinggrids"]
    assert [line.get("count") for line in polls] == [None, 19, None, 4]


def test_the_log_holds_no_secret(control: Control) -> None:
    create(control, "halves")
    access = {"url": f"s3://{BUCKET}/out", "accessKey": "an-access-key", "secretAccessKey": "a-secret-key"}
    paid = body("halves")
    paid["output"] = {"type": "raster", "delivery": {"s3": access}}
    assert control.call("POST", JOBS, paid).status_code == 201
    control.call("POST", PROCESS, process_body())
    control.call("GET", f"/api/v2/batch/process?viewtoken={SECRET}")
    stop(control.settings.folder)
    for name in ("requests.jsonl", "service.log"):
        text = (control.settings.folder / name).read_text()
        assert text and not any(
            secret in text for secret in (SECRET, control.token, "Bearer", "an-access-key", "a-secret-key", SIMPLE[:30])
        )
    lines = (control.settings.folder / "requests.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines][:3] == [200, 201, 201]


def test_charges_are_summed_over_restarts(control: Control) -> None:
    units = [float(control.call("POST", PROCESS, process_body()).headers["x-processingunits-spent"]) for _ in range(2)]
    identity = start(control, "halves")
    ended(control, identity)
    control.call("POST", PROCESS, {**process_body(), "evalscript": "no script"})
    expected = {"batch": {identity: 100}, "process": pytest.approx(sum(units), abs=1e-3)}
    assert control.spent() == expected
    stop(control.settings.folder)
    control.restart()
    assert control.spent() == expected
    control.call("POST", PROCESS, process_body())
    assert control.spent()["process"] == pytest.approx(3 * units[0], abs=1e-3)


def test_the_mask_counts_as_a_band_only_where_it_is_alone(control: Control) -> None:
    script = """//VERSION=3
function setup() { return {input: [%s], output: {bands: 1, sampleType: "UINT8"}}; }
function evaluatePixel(s) { return [s.dataMask]; }
"""
    asked = process_body()
    asked["output"] = {"width": 512, "height": 512}
    for bands, units in (('"dataMask"', 1 / 3), ('"B02", "dataMask"', 1 / 3), ('"B02", "B11", "dataMask"', 2 / 3)):
        answer = control.call("POST", PROCESS, {**asked, "evalscript": script % bands})
        assert float(answer.headers["x-processingunits-spent"]) == pytest.approx(units, abs=1e-4), answer.text


def test_a_package_that_cannot_be_read_is_no_fault_of_the_creation(control: Control, tmp_path: Path) -> None:
    (tmp_path / "bucket/broken.gpkg").write_bytes(b"no package")
    for tiles in ("broken", "missing"):
        identity = create(control, tiles)
        assert next(line for line in control.log() if line.get("request") == identity)["tiles"] is None


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "requests.jsonl", largest_bytes=2000)
    for i in range(200):
        log.add(Entry("POST", f"/api/{i}", 201, 0.1))
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"requests.jsonl", "requests.1.jsonl"} and max(sizes.values()) < 2200
    last = [line["path"] for line in log.tail(15)]
    assert last == [f"/api/{i}" for i in range(185, 200)]
    assert len(log.tail(1000)) < 200


def test_the_log_takes_calls_from_several_threads(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "requests.jsonl")

    def calls(name: str) -> None:
        for i in range(100):
            log.add(Entry("POST", f"/{name}/{i}", 200, 0.0))
            log.add(Entry("GET", f"/{name}", 200, 0.0))

    threads = [threading.Thread(target=calls, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = log.tail(10_000)
    assert sum(line.get("count", 1) for line in lines) == 800


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "no such folder" / "requests.jsonl")
    log.add(Entry("POST", "/api", 200, 0.0))
    assert log.tail(10) == []
