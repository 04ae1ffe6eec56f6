"""Projects and years side by side in one Dagster instance: they never touch each other's state or folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eo_assets.errors import ProjectError

FOLDERS = {
    "cache": "cache/{year}",
    "reference": "raster-reference/{year}",
    "training_data": "training-data/{year}",
    "model": "models/{year}",
    "predictions": "predictions/{year}",
    "maps": "maps/{year}",
    "byoc_collection": "byoc/{year}",
}
NEXT_YEAR = {"name": "fields_2021", "year": 2021, "imagery": {"time_interval": ["2020-06-05", "2020-06-30"]}}


def test_two_projects_in_two_folders(
    tmp_path: Path, world: Path, graph_in: Callable[..., Any], another_world: Callable[[Path], None]
) -> None:
    """The second project's area is one tile of the first's four."""
    elsewhere = tmp_path / "elsewhere"
    another_world(elsewhere)
    area = json.loads((elsewhere / "input-data/aoi.geojson").read_text())
    west, south = (min(values) for values in zip(*area["geometry"]["coordinates"][0]))
    ring = [[west, south], [west + 0.002, south], [west + 0.002, south + 0.002], [west, south + 0.002], [west, south]]
    area["geometry"]["coordinates"] = [ring]
    (elsewhere / "input-data/aoi.geojson").write_text(json.dumps(area))
    graph = graph_in(world, {"area": {"buffer": 0}}, second=(elsewhere, {"name": "small", "area": {"buffer": 0}}))
    first, second = graph.projects
    assert all(result.success for result in graph.run("features"))
    assert graph.materialized("tiffs", second) == set() == set(graph.instance.get_dynamic_partitions("small/tiles"))
    assert all(result.success for result in graph.run("features", project=second))
    all_tiles = set(graph.instance.get_dynamic_partitions("fields/tiles"))
    (only,) = graph.instance.get_dynamic_partitions("small/tiles")
    assert len(all_tiles) == 4 and only in all_tiles
    assert graph.materialized("features", first) == all_tiles
    assert graph.materialized("features", second) == {only}
    assert sorted(path.name for path in (elsewhere / "features/2020/_commits").glob("*.json")) == [f"{only}.json"]


def test_two_years_in_one_folder_need_folders_of_their_own(world: Path, graph_in: Callable[..., Any]) -> None:
    shared = graph_in(world, {"area": {"buffer": 0}}, second=(world, merged_year({"area": {"buffer": 0}})))
    first, second = shared.projects
    assert all(result.success for result in shared.run("features"))
    before = shared.commits()
    (refused,) = shared.run("features", project=second)
    assert not refused.success
    assert str(world / "cache/aoi") in refused.failure and '"project": "fields"' in refused.failure
    assert "give storage.structure.cache another folder, for instance one with {year}" in refused.failure

    apart = graph_in(
        world,
        {"area": {"buffer": 0}},
        second=(world, merged_year({"area": {"buffer": 0}, "storage": {"structure": FOLDERS}})),
        instance=shared.instance,
    )
    first, second = apart.projects
    assert all(result.success for result in apart.run("features", project=second))
    assert apart.commits() == before
    assert apart.materialized("features", first) == apart.materialized("features", second)
    dates = [
        json.loads(next((world / "data" / year).glob("3*/*/timestamps.json")).read_text()) for year in ("2020", "2021")
    ]
    assert [len(of_year) for of_year in dates] == [2, 1]


def test_two_projects_of_one_name_are_refused(world: Path, graph_in: Callable[..., Any]) -> None:
    with pytest.raises(ProjectError, match=r"name: fields: two projects have one name"):
        graph_in(world, {}, second=(world, {}))


def merged_year(changes: dict[str, Any]) -> dict[str, Any]:
    """Next year's project with changes."""
    return {**NEXT_YEAR, **changes}
