"""The same season of another year, by a composite: other days, an offset in between, one project folder, one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store

FOLDERS = ("training_data", "model", "predictions", "maps", "byoc_collection", "reference", "cache")
SEASON = {
    "name": "season",
    "storage": {"structure": {name: f"{name}/{{year}}" for name in FOLDERS}},
    "imagery": {"time_interval": ["2020-06-01", "2020-06-20"]},
    "features": {"composite": {"method": "median", "periods": 2}},
}
DAYS = {"2020-06-01": "2022-06-03", "2020-06-11": "2022-06-16"}
OFFSET = 1000


def next_season(folder: Path, changes: dict[str, Any] | None = None) -> LoadedProject:
    said = {
        "extends": "project.yaml",
        "name": "next_season",
        "year": 2022,
        "imagery": {"time_interval": ["2022-06-01", "2022-06-20"]},
        "model": {"source": {"project": "project.yaml"}},
        "byoc": {"collection_name": "next season"},
    }
    for section, keys in (changes or {}).items():
        said[section] = {**said.get(section, {}), **keys}
    (folder / "next.yaml").write_text(yaml.safe_dump(said))
    return open_project(str(folder / "next.yaml"))


def add_scenes_of_2022(folder: Path) -> None:
    """The same ground, on other days of the season, with digital numbers of processing baseline 04.00."""
    file = folder / "sentinel-hub/collections.yaml"
    declared = yaml.safe_load(file.read_text())
    (collection,) = declared["collections"]
    for scene in list(collection["scenes"]):
        day, time = scene["time"].split("T")
        files = {band: name.replace("scenes/", "scenes/2022_") for band, name in scene["files"].items()}
        for band, name in files.items():
            with rasterio.open(file.parent / scene["files"][band]) as old:
                values, profile = old.read(), {**old.profile, "driver": "COG"}
            for key in ("tiled", "blockxsize", "blockysize", "interleave"):
                profile.pop(key, None)
            with rasterio.open(file.parent / name, "w", **profile) as new:
                new.write(np.where(values > 0, values + OFFSET, 0).astype(np.uint16))
        collection["scenes"].append({"time": f"{DAYS[day]}T{time}", "files": files, "offset": OFFSET})
    file.write_text(yaml.safe_dump(declared))


def map_of(loaded: LoadedProject) -> np.ndarray[Any, Any]:
    (record,) = tile_store(loaded).records("maps").values()
    (file,) = tile_store(loaded).path(record).glob("*.tiff")
    with rasterio.open(file) as tiff:
        return np.asarray(tiff.read())


def files_of(loaded: LoadedProject) -> dict[str, tuple[bytes, int]]:
    """What lies in the folders of a project's year: bytes and time of change."""
    root = Path(loaded.project_folder)
    folders = [root / loaded.project.folder(stage) for stage in (*FOLDERS, "tiffs", "eopatches", "features", "samples")]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def posts(folder: Path) -> int:
    log = folder / "sentinel-hub/requests.jsonl"
    return sum('"POST"' in line for line in log.read_text().splitlines())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another number of periods": (
        {"features": {"composite": {"periods": 4}}},
        "periods: the model has 2 (p1 (06-01 to 06-11, 10 days) to p2 (06-11 to 06-21, 10 days)); the project has 4",
    ),
    "other days": (
        {"imagery": {"time_interval": ["2022-06-11", "2022-06-30"]}},
        "period 0: the model has p1 (06-01 to 06-11, 10 days); the project has p1 (06-11 to 06-21, 10 days)",
    ),
    "another method": (
        {"features": {"composite": {"method": "mean"}}},
        "composite: the model has median, gaps none; the project has mean, gaps none",
    ),
    "order of bands": (
        {"features": {"include_bands": ["B08", "B04", "B11"]}},
        "column 1: the model has B04_p1, the project B08_p1",
    ),
    "offset left in": (
        {
            "imagery": {
                "time_interval": ["2022-06-01", "2022-06-20"],
                "collections": [{"collection": "sentinel-2-l2a", "service": "local", "harmonize_values": False}],
            }
        },
        "offset_handling: the model has ('sentinel-2-l2a: harmonised',), the project ('sentinel-2-l2a: as delivered',)",
    ),
}


@pytest.mark.usefixtures("local_ray")
def test_the_same_season_of_another_year(world: Path, graph_in: Callable[..., Any]) -> None:
    add_scenes_of_2022(world)
    graph = graph_in(world, SEASON)
    assert [result.failure for result in graph.run() if not result.success] == []
    before = files_of(graph.loaded)
    assert before

    asked = posts(world)
    for changes, told in REFUSED.values():
        wrong = next_season(world, changes)
        failed = [result for result in graph.beside(wrong).run(project=wrong) if not result.success]
        assert [result.launch.assets[0] for result in failed] == ["model", "tiffs"]
        assert all(f"does not fit this project: {told}" in result.failure for result in failed)
    assert posts(world) == asked and not tile_store(wrong).records("tiffs")

    fits = next_season(world)
    assert [result.failure for result in graph.beside(fits).run(project=fits) if not result.success] == []
    assert files_of(graph.loaded) == before
    np.testing.assert_array_equal(map_of(fits), map_of(graph.loaded))  # the same ground, harmonised
