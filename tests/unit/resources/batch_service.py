"""A batch service that does what services do: lag, fail, stop, lose answers, leave tiles out, by a script."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from eo_assets.core.cost import processing_units
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import DamagedDelivery, TileError
from resources.batch_api import BatchApi, Imagery
from resources.batch_desk import Delivery, Desk, Polling, Wanted
from resources.batch_jobs import deliveries
from resources.batch_orders import OrderBook
from resources.delivered_files import Tiffs
from resources.grid_files import read_grid, write_grid
from resources.local_folder import LocalFolder
from resources.sentinel_hub import SentinelHub
from resources.spending import Ledger

TILES = tuple(
    Tile(f"33UUU_{column}_7", 32633, Bounds(x, 5_800_000, x + 10_000, 5_810_000), 10.0, (2, 3))
    for column, x in ((3, 330_000), (4, 340_000), (5, 350_000))
)
NAMES = [tile.name for tile in TILES]
FILES = ("B01.tif", "B02.tif", "userdata.json")


class Here(SentinelHub):
    """A deployment that sees the project folder as a bucket."""

    __slots__ = ()

    def bucket_url(self, key: str) -> str:
        return f"s3://bucket/{key}"


@dataclasses.dataclass
class Job:
    """One job. `steps` are the answers after START: status, tiles delivered by then, what else the answer holds."""

    id: str
    body: Mapping[str, Any]
    steps: list[tuple[str, list[str], dict[str, Any]]]
    status: str = "CREATED"
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Batch:
    """`scripts` are the steps of the first job, of the second, ...; the last one is taken again."""

    root: Path
    scripts: list[list[tuple[str, list[str], dict[str, Any]]]]
    jobs: list[Job] = dataclasses.field(default_factory=list)
    acts: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    lag: int = 0
    unlisted: int = 0
    lose_answers_of: list[str] = dataclasses.field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    ends: dict[str, dict[str, tuple[str, str]]] = dataclasses.field(default_factory=dict)
    manifest: list[Tile] | None = None

    def folder(self, job: str) -> Path:
        return self.root / "tiffs" / job

    def asked(self, job: Job) -> list[str]:
        """The tiles that a job was created for."""
        if job.body["input"]["type"] == "tiling-grid":
            return NAMES
        key = job.body["input"]["features"]["s3"]["url"].removeprefix("s3://bucket/")
        return [tile.name for tile in read_grid(self.root / key)]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        action = path.rpartition("/")[2].partition("?")[0]
        name = "create" if method == "POST" and action == "process" else action
        if name in self.refuse:
            status, message = self.refuse[name]
            return status, {"error": {"message": message}}
        told = self._carry_out(method, name, path, body)
        if name in self.lose_answers_of:
            self.lose_answers_of.remove(name)
            return 503, {"error": {"message": "answer lost"}}
        return told

    def _carry_out(self, method: str, name: str, path: str, body: Any) -> tuple[int, Any]:
        if name == "create":
            steps = self.scripts[min(len(self.jobs), len(self.scripts) - 1)]
            self.jobs.append(Job(f"job-{len(self.jobs) + 1}", body, list(steps)))
            return 200, self._told(self.jobs[-1])
        if method == "GET" and name == "process":
            self.unlisted, hidden = max(0, self.unlisted - 1), self.unlisted > 0
            return 200, {"data": [] if hidden else [self._told(job) for job in self.jobs[::-1]], "links": {}}
        if self.lag:
            self.lag -= 1
            return 404, {"error": {"message": "no such request"}}
        job = next(job for job in self.jobs if job.id in path)
        if method == "POST":
            self.acts.append((name, job.id))
            getattr(self, f"_{name}")(job)
            return 200, {}
        if job.status == "ANALYSING":
            job.status = "ANALYSIS_DONE"
        elif job.status == "PROCESSING":
            self._step(job)
        return 200, self._told(job)

    def _analyse(self, job: Job) -> None:
        self.folder(job.id).mkdir(parents=True)
        tiles = self.manifest or [tile for tile in TILES if tile.name in self.asked(job)]
        write_grid(self.folder(job.id) / f"featureManifest-{job.id}.gpkg", tiles)
        job.status = "ANALYSING"

    def _start(self, job: Job) -> None:
        job.status = "PROCESSING"

    def _stop(self, job: Job) -> None:
        job.status, job.extra = "STOPPED", {**job.extra, "stoppedStatusReason": "USER_ACTION"}

    def _step(self, job: Job) -> None:
        status, delivered, extra = job.steps[0] if len(job.steps) == 1 else job.steps.pop(0)
        for name in delivered:
            (self.folder(job.id) / name).mkdir(exist_ok=True)
            for file in FILES:
                (self.folder(job.id) / name / file).touch()
        job.status, job.extra = status, extra
        if job.id in self.ends:
            database = self.folder(job.id) / f"execution-{job.id}.sqlite"
            database.unlink(missing_ok=True)
            with closing(sqlite3.connect(database)) as db, db:
                db.execute("CREATE TABLE features (name TEXT, status TEXT, error TEXT)")
                rows = [(name, *end) for name, end in self.ends[job.id].items()]
                db.executemany("INSERT INTO features VALUES (?, ?, ?)", rows)

    def _told(self, job: Job) -> dict[str, Any]:
        request = {"description": job.body.get("description")}
        times = {"created": "2100-01-01T00:00:00.000Z"}
        return {"id": job.id, "request": request, "domainAccountId": "a", "status": job.status, **times, **job.extra}

    @property
    def started(self) -> list[str]:
        return [job for act, job in self.acts if act == "start"]


def desk_of(http_service: Any, batch: Batch, ledger: Mapping[str, Any] | None = None, **changes: Any) -> Desk:
    """A desk over the batch service, with a checker that refuses files which say `bad`."""
    http_service.answer = batch.answer
    store = LocalFolder(batch.root)
    service = Here("test", http_service.url, f"{http_service.url}/token")

    def check(tile: Tile, folder: Path, tiffs: Tiffs) -> None:
        said = Path(tiffs["B01"].path).read_text()
        if "bad" in said:
            raise DamagedDelivery(f"{folder} is damaged")
        if "wrong" in said:
            raise TileError(f"{folder} has 3 bands for 4 dates")

    options: dict[str, Any] = {
        "api": BatchApi(service, store, "tiffs", lag_seconds=0.001),
        "book": OrderBook(store, "tiffs"),
        "ledger": Ledger(store, "spending/test", **(ledger or {})),
        "estimate": lambda shapes: processing_units(shapes, 2, 1),
        "check": check,
        "there": lambda tile: False,
        "polling": Polling(0.01, 0.01, 0.0),
        "tries": 3,
    }
    return Desk(**{**options, **changes})


def wanted(tiles: tuple[Tile, ...] = TILES, recipe: str = "r", **changes: Any) -> Wanted:
    """All three tiles, of one recipe each."""
    imagery = Imagery([{"type": "s2"}], "//VERSION=3", ("B01", "B02"))
    recipes = {tile.name: f"{recipe}-{tile.name}" for tile in tiles}
    return dataclasses.replace(Wanted(imagery, tiles, recipes, {tile.name: tile for tile in TILES}), **changes)


def collected(desk: Desk, asked: Wanted) -> dict[str, Delivery]:
    """Everything that is delivered, by tile; each is told once."""
    found = [delivery for delivery in deliveries(desk, asked) if delivery]
    assert len({delivery.tile.name for delivery in found}) == len(found)
    return {delivery.tile.name: delivery for delivery in found}


def spendings(desk: Desk) -> list[tuple[float, float | None]]:
    """(reserved, actual) of everything in the ledger, oldest first."""
    months = desk.ledger.months().values()
    entries = [spending for month in months for spending in month.spendings.values()]
    return [(entry.reserved, entry.actual) for entry in sorted(entries, key=lambda entry: entry.id)]


def orders(desk: Desk) -> list[dict[str, Any]]:
    """The order book as plain values."""
    return [json.loads(json.dumps(dataclasses.asdict(order))) for order in desk.book.all()]
