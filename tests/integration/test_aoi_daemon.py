"""Uploads as they happen in life: webserver, daemon and code server as processes, and files put into a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from eo_assets.assets.area import tiles_of
from eo_assets.stages.build import tile_store
from tests.simulation.daemon import LOCATION, REPOSITORY, Servers, servers, until
from tests.simulation.world import Simulation, write_simulation

TICKS = """
query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) { __typename ... on Sensor { sensorState {
  status ticks(limit: 200) { status runIds skipReason error { message } } } } } }"""
RUNS = """{ runsOrError(filter: {pipelineName: "simulated_area"}) { ... on Runs { results { runId status } } } }"""
CHECKS = """
query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetChecksOrError {
  ... on AssetChecks { checks { name blocking executionForLatestMaterialization {
    status evaluation { success severity description } } } } } } } }"""


def ticks(dagster: Servers) -> list[dict[str, Any]]:
    """The sensor's ticks, oldest first."""
    name = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "sensorName": "simulated_aoi_files"}
    state = dagster.ask(TICKS, sensor=name)["sensorOrError"]["sensorState"]
    assert state["status"] == "RUNNING"
    return list(reversed(state["ticks"]))


def area_runs(dagster: Servers) -> list[str]:
    """How the runs of the area's job stand."""
    return [run["status"] for run in dagster.ask(RUNS)["runsOrError"]["results"]]


def check(dagster: Servers, asset: str, name: str) -> dict[str, Any]:
    """The evaluation of a check for what is live."""
    node = dagster.ask(CHECKS, key=dagster.key(asset))["assetNodeOrError"]
    found = next(check for check in node["assetChecksOrError"]["checks"] if check["name"] == name)
    evaluation: dict[str, Any] = found["executionForLatestMaterialization"]["evaluation"]
    return evaluation


def partitions(dagster: Servers) -> list[str]:
    """The tiles that Dagster knows of, in its order."""
    states = dagster.partition_states("tiffs")
    return sorted(name for names in states.values() for name in names)


def upload(folder: Path, name: str, text: str) -> None:
    """As a browser does: under another name until it is whole."""
    (folder / f"{name}.part").write_text(text)
    (folder / f"{name}.part").rename(folder / name)


def drop_ten(simulation: Simulation, folder: Path) -> None:
    """Ten files: seven areas of which two overlap, a copy of one of them, and two that are no areas."""
    for index in range(6):
        upload(folder, f"district {index}.geojson", simulation.outline(slice(index, index + 1), slice(0, 2)))
    upload(folder, "overlapping.geojson", simulation.outline(slice(0, 2), slice(0, 3)))
    shutil.copy(folder / "district 0.geojson", folder / "copy.geojson")
    upload(folder, "torn.geojson", '{"type": "Feature", "geom')
    upload(folder, "points.geojson", json.dumps({"type": "Point", "coordinates": [15, 52]}))


def test_ten_files_dropped_at_once_and_one_replaced_later(tmp_path: Path) -> None:
    simulation = write_simulation(tmp_path / "uploads", 36)
    folder = simulation.folder / "input-data"
    (folder / "aoi.geojson").unlink()
    changes = {"area": {"files": "*.geojson"}, "sensor": {"enabled": True, "seconds": 1}}
    loaded = simulation.open({**changes, "automation": {"enabled": False}})  # what follows has tests of its own
    with servers(loaded, quick=True) as dagster:
        until(lambda: ticks(dagster), "the first tick", 120)
        drop_ten(simulation, folder)
        until(lambda: len(partitions(dagster)) == 14, "the tiles of the ten files", 120)
        until(lambda: area_runs(dagster) == ["SUCCESS"], "the end of the area's run", 120)
        assert partitions(dagster) == sorted(tile.name for tile in tiles_of(tile_store(loaded)))
        failed = check(dagster, "aoi", "readable_files")
        assert failed["success"] is False
        assert "torn.geojson" in failed["description"] and "points.geojson" in failed["description"]
        assert check(dagster, "tile_grid", "spending_allowed")["success"] is True

        upload(folder, "district 5.geojson", simulation.outline(slice(5, 6), slice(0, 6)))
        until(lambda: len(partitions(dagster)) == 18, "the tiles of the replaced file", 120)
        until(lambda: area_runs(dagster) == ["SUCCESS"] * 2, "the end of the area's second run", 120)

        (folder / "district 4.geojson").unlink()
        (folder / "torn.geojson").unlink()
        (folder / "points.geojson").unlink()
        said = "district 4.geojson was removed: nothing is deleted; 2 of 18 tiles leave the grid"
        until(lambda: any(said in (tick["skipReason"] or "") for tick in ticks(dagster)), "what is told of it", 120)
        seen = ticks(dagster)
        until(lambda: len(ticks(dagster)) > len(seen) + 2, "quiet", 120)
        assert area_runs(dagster) == ["SUCCESS"] * 2 and len(partitions(dagster)) == 18
        assert check(dagster, "aoi", "readable_files")["success"] is True
        assert [tick["error"] for tick in ticks(dagster) if tick["error"]] == []
        assert sum(len(tick["runIds"]) for tick in ticks(dagster)) == 2
        reasons = "\n".join(tick["skipReason"] or "" for tick in ticks(dagster))
        assert reasons.count("torn.geojson: can't be read as GeoJSON") == 1
        assert reasons.count("district 4.geojson was removed") == 1
