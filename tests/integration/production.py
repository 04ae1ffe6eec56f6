"""A project of twelve tiles whose service can be made to misbehave, and runs of it in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rasterio
import shapely
import yaml
from pyproj import Transformer

from eo_assets.assets.imagery import project_ledger
from eo_assets.core.spendings import Spending
from eo_assets.project import LoadedProject
from eo_assets.stages.build import SERVICE_FOLDER, tile_store
from resources.local_sentinel_hub.server import ServiceSettings
from resources.sentinel_hub import LOCAL_BUCKET
from tests.integration.local_sentinel_hub.fault_control import Control

TILE_M, TILE_PX = 320, 32
COLUMNS, ROWS = 3, 4
EPSG, LEFT, TOP = 32633, 640 * 782, 640 * 9064
THIRD_DATE = "2020-06-21"
ROOT = Path(__file__).parents[2]
TWELVE: Mapping[str, Any] = {
    "area": {"files": "twelve.geojson", "grid": {"kind": "utm", "tile_size_m": TILE_M}, "buffer": 0},
    "imagery": {"evalscript": "told.js"},
}


def tile_name(column: int, row: int) -> str:
    """The tile in a column from the west and a row from the north."""
    return f"{EPSG}_x{LEFT // TILE_M + column:05d}_y{TOP // TILE_M - 1 - row:05d}"


NAMES = sorted(tile_name(column, row) for column in range(COLUMNS) for row in range(ROWS))


def make_twelve(folder: Path) -> None:
    """Of a world with two dates: an area of twelve tiles, a third date in its northern row alone, products told."""
    box = shapely.box(LEFT + 50, TOP - ROWS * TILE_M + 50, LEFT + COLUMNS * TILE_M - 50, TOP - 50)
    to_lonlat = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
    lonlat = shapely.transform(shapely.segmentize(box, 100), to_lonlat, interleaved=False)
    feature = {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(lonlat))}
    (folder / "input-data/twelve.geojson").write_text(json.dumps(feature))
    script = (folder / "fields.js").read_text()
    dates = "{dates: scenes.orbits.map((orbit) => orbit.tiles[0].date)}"
    told = dates[:-1] + ", products: scenes.orbits.map((orbit) => orbit.tiles.map((tile) => tile.dataPath))}"
    assert dates in script
    (folder / "told.js").write_text(script.replace(dates, told))
    path = folder / "sentinel-hub/collections.yaml"
    declared = yaml.safe_load(path.read_text())
    scenes = declared["collections"][0]["scenes"]
    for scene in scenes:
        scene["product"] = f"S2A_MSIL1C_{scene['time'][:10].replace('-', '')}T100000_N0209_R022_T33UVV"
    northern = {band: _northern_row(folder / "sentinel-hub", name) for band, name in scenes[0]["files"].items()}
    scenes.append({"time": f"{THIRD_DATE}T10:00:00Z", "files": northern, "product": "S2B_MSIL1C_20200621_N0500_R1"})
    path.write_text(yaml.safe_dump(declared))


def _northern_row(folder: Path, name: str) -> str:
    """The northern 300 m of a scene's file as a file of its own: it does not touch the tiles of the second row."""
    with rasterio.open(folder / name) as tiff:
        rows = 300 // round(tiff.res[1])
        values = tiff.read(1)[:rows]
        kept = {key: tiff.profile[key] for key in ("dtype", "count", "width", "crs", "transform", "nodata")}
    target = name.replace("/0_", "/2_")
    with rasterio.open(folder / target, "w", driver="COG", height=rows, **kept) as tiff:
        tiff.write(values, 1)
    return target


@dataclass
class Production:
    """A project in a folder, its service under control, and the processes that run it."""

    folder: Path
    loaded: LoadedProject
    control: Control = field(init=False)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        state = self.folder / SERVICE_FOLDER
        buckets = {LOCAL_BUCKET: self.folder}
        self.control = Control(ServiceSettings(state, state / "collections.yaml", buckets, faults=True))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`eo-assets run` in a process of its own."""
        command = [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", "run", str(self.loaded.file), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        output = self.folder / f"run-{len(self.processes)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=self.folder, start_new_session=True
            )
        self.processes.append(process)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """What a run has printed so far."""
        return (self.folder / f"run-{self.processes.index(process)}.txt").read_text()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9 of the run and of what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        """Nothing stays behind."""
        for process in self.processes:
            self.kill(process)

    def calls(self, method: str, path_end: str) -> list[dict[str, Any]]:
        """The calls in the service's own log, oldest first."""
        lines = (self.folder / SERVICE_FOLDER / "requests.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [call for call in found if call["method"] == method and call["path"].endswith(path_end)]

    def created(self) -> list[tuple[str, list[str]]]:
        """(id, tiles) of every batch request that the service was asked to make."""
        made = [call for call in self.calls("POST", "/batch/process") if "request" in call]
        return [(call["request"], sorted(call["tiles"])) for call in made]

    def started(self) -> list[str]:
        """The ids of the batch requests that were started with success."""
        return [call["path"].split("/")[-2] for call in self.calls("POST", "/start") if call["status"] == 204]

    def charged(self) -> dict[str, float]:
        """What the service charged by batch request."""
        return dict(self.control.spent()["batch"])

    def spendings(self) -> list[Spending]:
        """The project's ledger, oldest first."""
        months = project_ledger(self.loaded).months().values()
        found = [spending for month in months for spending in month.spendings.values()]
        return sorted(found, key=lambda spending: spending.id)

    def committed(self, stage: str = "tiffs") -> dict[str, Any]:
        """The committed outputs of a stage by tile."""
        return dict(tile_store(self.loaded).records(stage))


def until(condition: Callable[[], Any], what: str, timeout_s: float = 90.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def in_production(folder: Path, loaded: LoadedProject) -> Iterator[Production]:
    """A production that leaves no process behind."""
    production = Production(folder, loaded)
    try:
        yield production
    finally:
        production.end()
