"""Batch orders against a service that does what services do: lag, fail, stop, and leave tiles out."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import shapely

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import ServiceError, TransientError
from resources.batch_jobs import Delivery, ImageryOrder, TilingGrid, deliveries
from resources.grid_files import read_grid, write_grid
from resources.object_store import LocalFolder
from resources.sentinel_hub import SentinelHub

TILES = tuple(
    Tile(f"33UUU_{column}_7", 32633, Bounds(x, 5_800_000, x + 10_000, 5_810_000), 10.0, (2, 3))
    for column, x in ((3, 330_000), (4, 340_000), (5, 350_000))
)
JOB = "job-1"


class Here(SentinelHub):
    """A deployment that sees the project folder as a bucket."""

    __slots__ = ()

    def bucket_url(self, key: str) -> str:
        return f"s3://bucket/{key}"


class Batch:
    """A batch service: `steps` are the states that it goes through after the start, and what it delivers at each."""

    def __init__(self, root: Path, steps: list[tuple[str, list[str]]]) -> None:
        self.root, self.steps, self.lag = root, steps, 0
        self.analysis = ["CREATED", "ANALYSING", "ANALYSIS_DONE"]
        self.started, self.created, self.manifest = False, {}, [tile.name for tile in TILES]

    @property
    def folder(self) -> Path:
        return self.root / "tiffs" / JOB

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "POST" and path.endswith("/process"):
            self.created = body
            return 200, self.job("CREATED")
        if self.lag:
            self.lag -= 1
            return 404, {"error": {"message": "no such request"}}
        if path.endswith("/analyse"):
            self.folder.mkdir(parents=True)
            tiles = [tile for tile in TILES if tile.name in self.manifest]
            write_grid(self.folder / f"featureManifest-{JOB}.gpkg", tiles)
            return 200, {}
        if path.endswith("/start"):
            self.started = True
            return 200, {}
        return 200, self.job(self.analysis.pop(0)) if not self.started else self.step()

    def step(self) -> dict[str, Any]:
        status, delivered = self.steps[0] if len(self.steps) == 1 else self.steps.pop(0)
        for name in delivered:
            (self.folder / name).mkdir(exist_ok=True)
            for file in ("B01.tif", "B02.tif", "userdata.json"):
                (self.folder / name / file).touch()
        return self.job(status)

    def job(self, status: str) -> dict[str, Any]:
        error = "out of units" if status == "FAILED" else None
        return {"id": JOB, "request": {}, "domainAccountId": "a", "status": status, "error": error}


def order(**changes: Any) -> ImageryOrder:
    options: dict[str, Any] = {
        "data": [{"type": "s2"}], "evalscript": "//VERSION=3", "outputs": ("B01", "B02"), "tiles": TILES,
        "folder": "tiffs", "description": "test", "poll_seconds": 0.01,
    }  # fmt: skip
    return ImageryOrder(**{**options, **changes})


def place(http_service: Any, batch: Batch, **changes: Any) -> list[Delivery]:
    http_service.answer = batch.answer
    service = Here("test", http_service.url, f"{http_service.url}/token")
    return [delivery for delivery in deliveries(service, LocalFolder(batch.root), order(**changes)) if delivery]


NAMES = [tile.name for tile in TILES]


def test_tiles_are_told_as_they_arrive_once_each(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [("PROCESSING", []), ("PROCESSING", NAMES[1:2]), ("PROCESSING", []), ("DONE", NAMES)])
    found = place(http_service, batch)
    assert [delivery.tile.name for delivery in found] == [NAMES[1], NAMES[0], NAMES[2]]
    assert found[0].folder == f"tiffs/{JOB}/{NAMES[1]}"
    assert all(delivery.error is None for delivery in found)


def test_tiles_that_come_with_the_end_are_not_missed(http_service: Any, tmp_path: Path) -> None:
    found = place(http_service, Batch(tmp_path, [("DONE", NAMES)]))
    assert {delivery.tile.name for delivery in found if delivery.folder} == set(NAMES)


def test_a_chosen_subset_is_handed_over_as_a_geopackage(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [("DONE", NAMES)])
    place(http_service, batch)
    asked = batch.created["input"]
    assert asked["type"] == "geopackage"
    key = asked["features"]["s3"]["url"].removeprefix("s3://bucket/")
    assert [tile.name for tile in read_grid(tmp_path / key)] == NAMES
    assert (
        batch.created["output"]["delivery"]["s3"]["url"]
        == "s3://bucket/tiffs/<requestId>/<tileName>/<outputId>.<format>"
    )
    outputs = {each["identifier"] for each in batch.created["processRequest"]["output"]["responses"]}
    assert outputs == {"B01", "B02", "userdata"}


def test_a_whole_area_is_asked_for_by_the_tiling_grid(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [("DONE", NAMES)])
    place(http_service, batch, tiling_grid=TilingGrid(1, shapely.box(12.4, 52.3, 12.9, 52.4)))
    asked = batch.created["input"]
    assert (asked["type"], asked["id"], asked["resolution"]) == ("tiling-grid", 1, 10.0)
    assert (asked["bufferX"], asked["bufferY"]) == (3, 2)
    assert "bounds" in batch.created["processRequest"]["input"]


def test_a_request_that_is_not_known_yet_is_asked_for_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [("DONE", NAMES)])
    batch.lag = 5
    assert len(place(http_service, batch)) == 3


def test_a_request_that_stays_unknown_is_an_error(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [("DONE", NAMES)])
    batch.lag = 1000
    with pytest.raises(ServiceError, match="test: batch request"):
        place(http_service, batch)


@pytest.mark.parametrize("status", ["DONE", "FAILED", "STOPPED"])
def test_what_an_ended_job_did_not_deliver_is_told_with_its_reason(
    http_service: Any, tmp_path: Path, status: str
) -> None:
    batch = Batch(tmp_path, [("PROCESSING", NAMES[:1]), (status, [])])
    (batch.root / "tiffs" / JOB).parent.mkdir(parents=True)
    original = batch.step

    def step() -> dict[str, Any]:
        database = batch.folder / f"execution-{JOB}.sqlite"
        if not database.exists():
            with sqlite3.connect(database) as db:
                db.execute("CREATE TABLE features (name TEXT, status TEXT, error TEXT)")
                db.execute("INSERT INTO features VALUES (?, 'FATAL', 'no data in the interval')", NAMES[1:2])
            db.close()
        return original()

    batch.step = step  # type: ignore[method-assign]
    found = {delivery.tile.name: delivery for delivery in place(http_service, batch)}
    assert found[NAMES[0]].error is None
    assert found[NAMES[1]].folder is None
    assert found[NAMES[1]].error == f"batch request {JOB} ({status}): FATAL: no data in the interval"
    assert found[NAMES[2]].error == f"batch request {JOB} ({status}): no word of it"


@pytest.mark.parametrize("database", [None, b"", b"not a database"])
def test_without_a_readable_database_the_tiles_are_told_all_the_same(
    http_service: Any, tmp_path: Path, database: bytes | None
) -> None:
    batch = Batch(tmp_path, [("DONE", [])])
    original = batch.step

    def step() -> dict[str, Any]:
        if database is not None:
            (batch.folder / f"execution-{JOB}.sqlite").write_bytes(database)
        return original()

    batch.step = step  # type: ignore[method-assign]
    found = place(http_service, batch)
    assert [delivery.error for delivery in found] == [f"batch request {JOB} (DONE): no word of it"] * 3


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_failed_analysis_starts_nothing(http_service: Any, tmp_path: Path, status: str) -> None:
    batch = Batch(tmp_path, [])
    batch.analysis = ["ANALYSING", status]
    with pytest.raises(ServiceError, match=f"batch request {JOB} ended as {status} in its analysis"):
        place(http_service, batch)
    assert not batch.started


def test_other_tiles_than_asked_for_are_refused_before_anything_is_spent(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [])
    batch.manifest = NAMES[:2]
    with pytest.raises(ServiceError, match=r"would make 2 tiles, the grid has 3; .*33UUU_5_7.*nothing was started"):
        place(http_service, batch)
    assert not batch.started


@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_a_manifest_that_can_not_be_read_starts_nothing(
    http_service: Any, tmp_path: Path, content: bytes | None
) -> None:
    batch = Batch(tmp_path, [])
    analysed = batch.answer

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        told = analysed(method, path, body)
        manifest = batch.folder / f"featureManifest-{JOB}.gpkg"
        if path.endswith("/analyse"):
            manifest.unlink()
            if content is not None:
                manifest.write_bytes(content)
        return told

    batch.answer = answer  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match=f"featureManifest-{JOB}.gpkg: the service's list of tiles can't be read"):
        place(http_service, batch)
    assert not batch.started


def test_a_refused_order_is_told(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [])
    batch.answer = lambda *request: (400, {"error": {"message": "tile limit exceeded"}})  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match="tile limit exceeded"):
        place(http_service, batch)


def test_a_service_that_is_down_may_come_back(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [])
    batch.answer = lambda *request: (503, {})  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="test: batch request"):
        place(http_service, batch)


def test_a_half_delivered_tile_is_not_told(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [("PROCESSING", NAMES[:2]), ("DONE", [])])
    original = batch.step

    def step() -> dict[str, Any]:
        told = original()
        (batch.folder / NAMES[1] / "B02.tif").unlink(missing_ok=True)
        return told

    batch.step = step  # type: ignore[method-assign]
    found = {delivery.tile.name: delivery.folder for delivery in place(http_service, batch)}
    assert found == {NAMES[0]: f"tiffs/{JOB}/{NAMES[0]}", NAMES[1]: None, NAMES[2]: None}
    assert json.dumps(batch.created)
