"""The side files of a batch request: its tiles and how each fared, as GeoPackage and SQLite, published whole."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from eo_assets.core.tile import Bounds
from resources.local_sentinel_hub.batch_request import Delivery, Feature
from resources.local_sentinel_hub.buckets import FolderPlace, Place
from resources.local_sentinel_hub.pixels import PixelGrid
from resources.local_sentinel_hub.process_request import RequestedResponse

PENDING, DONE, FATAL = "PENDING", "DONE", "FATAL"
PUBLISH_EVERY_S = 0.5
# What the published copy lacks: where the tiles are, and what each has cost.
PRIVATE = ("places", "charges")
CHARGES = "CREATE TABLE IF NOT EXISTS charges (id INTEGER PRIMARY KEY, units REAL)"
TABLES = """
CREATE TABLE features (id INTEGER PRIMARY KEY, name TEXT UNIQUE, status TEXT, error TEXT, delivered BOOLEAN);
CREATE TABLE places (id INTEGER PRIMARY KEY, crs TEXT, bounds_left REAL, bounds_bottom REAL, bounds_right REAL,
                     bounds_top REAL, height INTEGER, width INTEGER);
"""


@dataclass(frozen=True)
class Outcome:
    """How a tile ended. One without data is DONE and has an error."""

    status: str = DONE
    error: str | None = None
    delivered: bool = True
    units: float = 0.0


NO_DATA = Outcome(error="No data", delivered=False)


@dataclass(frozen=True)
class Tally:
    """How many tiles of a request there are, how many have ended, well or badly, and what those cost together."""

    total: int
    ended: int
    units: float


class Ledger:
    """What became of each tile of one request: kept with the service's state, published to the request folder.

    The published `execution-<id>.sqlite` is a copy that is replaced at once, so a reader never sees half a change.
    """

    def __init__(self, path: Path, published: Place) -> None:
        self._path, self._published = path, published
        self._lock = threading.Lock()
        self._last = 0.0
        self._stale = False

    @property
    def exists(self) -> bool:
        """Whether the request was analysed."""
        return self._path.is_file()

    def create(self, features: Sequence[Feature]) -> None:
        """Write down the tiles, all pending. A half-written ledger of an interrupted analysis is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".part")
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft)) as db, db:
            db.executescript(TABLES)
            states = [(i, feature.name, PENDING, None, False) for i, feature in enumerate(features)]
            db.executemany("INSERT INTO features VALUES (?, ?, ?, ?, ?)", states)
            places = [(i, f.grid.crs.to_wkt(), *f.grid.bounds, *f.grid.shape) for i, f in enumerate(features)]
            db.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?)", places)
        FolderPlace(self._path).take(draft)
        self.publish()

    def pending(self) -> list[Feature]:
        """The tiles that are still to do, in the order of their ids."""
        query = (
            "SELECT name, crs, bounds_left, bounds_bottom, bounds_right, bounds_top, height, width "
            "FROM features JOIN places USING (id) WHERE status = ? ORDER BY id"
        )
        with closing(sqlite3.connect(self._path)) as db:
            rows = db.execute(query, (PENDING,)).fetchall()
        return [Feature(row[0], PixelGrid(CRS.from_wkt(row[1]), Bounds(*row[2:6]), (row[6], row[7]))) for row in rows]

    def record(self, name: str, outcome: Outcome) -> Tally:
        """Note that a tile ended, and what it cost, as one step: whatever comes between, it is charged once."""
        state = (outcome.status, outcome.error, outcome.delivered)
        with self._lock, closing(sqlite3.connect(self._path)) as db, db:
            db.execute(CHARGES)  # a ledger of an earlier version has none
            db.execute("UPDATE features SET status = ?, error = ?, delivered = ? WHERE name = ?", (*state, name))
            charge = "INSERT OR REPLACE INTO charges SELECT id, ? FROM features WHERE name = ?"
            db.execute(charge, (outcome.units, name))
        self._stale = True
        return self.tally()

    def tally(self) -> Tally:
        """How far the request has come."""
        with self._lock, closing(sqlite3.connect(self._path)) as db, db:
            db.execute(CHARGES)
            total, left = db.execute("SELECT count(*), sum(status = ?) FROM features", (PENDING,)).fetchone()
            (units,) = db.execute("SELECT total(units) FROM charges").fetchone()
        return Tally(total, total - int(left), round(units, 6))

    def publish_if_due(self) -> None:
        """Publish changes, at most every half a second: for a large request the copy is not free."""
        if self._stale and time.monotonic() - self._last >= PUBLISH_EVERY_S:
            self.publish()

    def publish(self) -> None:
        """Replace the published copy."""
        draft = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.part")
        try:
            with self._lock, closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(draft)) as copy:
                self._stale, self._last = False, time.monotonic()
                source.backup(copy)
                for table in PRIVATE:
                    copy.execute(f"DROP TABLE IF EXISTS {table}")
                copy.commit()
            self._published.take(draft)
        finally:
            draft.unlink(missing_ok=True)


def write_manifest(
    target: Place, features: Sequence[Feature], responses: Iterable[RequestedResponse], delivery: Delivery
) -> None:
    """Write `featureManifest-<id>.gpkg`: one layer a CRS, one row for each file that will be delivered."""
    by_crs: dict[CRS, list[Feature]] = {}
    for feature in features:
        by_crs.setdefault(feature.grid.crs, []).append(feature)
    drafts = delivery.folder.drafts(f".manifest-{uuid.uuid4().hex}")
    drafts.mkdir(parents=True)
    try:
        for crs, members in by_crs.items():
            rows = [
                (f, r.identifier, delivery.url(f.name, r.identifier, r.extension)) for r in responses for f in members
            ]
            _write_layer(drafts / target.name, crs, rows)
        target.take(drafts / target.name)
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def _write_layer(path: Path, crs: CRS, rows: Sequence[tuple[Feature, str, str]]) -> None:
    """Add a layer of (tile, output, s3 URL) to a GeoPackage."""
    import pyogrio.raw  # here, because it brings pandas with it: two seconds that most starts have no use for

    columns: dict[str, NDArray[Any]] = {
        "outputId": np.array([output for _, output, _ in rows], dtype=object),
        "identifier": np.array([feature.name for feature, _, _ in rows], dtype=object),
        "path": np.array([url for _, _, url in rows], dtype=object),
        "width": np.array([feature.grid.shape[1] for feature, _, _ in rows], dtype=np.int32),
        "height": np.array([feature.grid.shape[0] for feature, _, _ in rows], dtype=np.int32),
    }
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array([shapely.box(*feature.grid.bounds) for feature, _, _ in rows])),
        field_data=list(columns.values()),
        fields=list(columns),
        layer=f"feature_{crs.to_epsg()}",
        driver="GPKG",
        geometry_type="Polygon",
        crs=crs.to_wkt(),
        append=path.exists(),
    )
