"""What a person asks of a finished project: its state, and where things lie."""

import dataclasses
import json
from typing import Any

import pytest

from eo_assets.command_path import output_path
from eo_assets.errors import EoAssetsError
from eo_assets.project_file import load_project
from eo_assets.stages.build import tile_store
from eo_assets.status import project_status
from jobs.graph import ASSETS

pytestmark = pytest.mark.demo


def test_status_says_done_of_every_asset_and_is_json(demo: Any) -> None:
    states = project_status(demo.loaded)
    assert [state.asset for state in states] == list(ASSETS)
    assert all(state.complete for state in states), states
    said = json.loads(json.dumps([dataclasses.asdict(state) for state in states]))
    assert {state["asset"]: state["states"] for state in said}["features"] == {"done": len(demo.tiles)}


def test_what_lies_behind_something_stale_is_stale_too(copied: Any) -> None:
    other = copied("sampling: {number: 4000}")
    states = {state.asset: state for state in project_status(other.loaded)}
    assert states["features"].complete and states["reference"].complete
    assert states["samples"].states == {"stale": len(other.tiles)}
    for asset in ("training_data", "model", "maps", "byoc_collection"):
        assert not states[asset].complete, states[asset]


def test_paths_are_asked_by_tile_index_zone_or_nothing(demo: Any) -> None:
    project = str(demo.loaded.file)
    name = demo.tiles[1].name
    assert output_path(project, "features", name) == output_path(project, "features", "1")
    assert demo.store.store.place(demo.store.record("maps", "32633").attempt) == output_path(project, "maps", "32633")
    assert output_path(project, "model", None).startswith(f"{demo.loaded.project_folder}/models/model/")


@pytest.mark.parametrize(
    ("asset", "key", "told"),
    [
        ("maps", None, "maps needs a zone: 32633"),
        ("features", None, "features needs a tile: 33UUU_3_7, or an index from 0 to 3"),
        ("model", "33UUU_3_7", "model is one for the whole project; leave '33UUU_3_7' out"),
        ("feature", "33UUU_3_7", "there is no asset 'feature'; there are aoi, tile_grid"),
        ("features", "33UUU_9_9", "no such tile; give a name, or an index from 0 to 3"),
    ],
)
def test_a_path_that_can_not_be_told_says_what_to_ask(demo: Any, asset: str, key: str | None, told: str) -> None:
    with pytest.raises(EoAssetsError, match=told):
        output_path(str(demo.loaded.file), asset, key)


def test_next_year_does_not_take_last_year_s_folders(demo: Any, tmp_path: Any) -> None:
    file = tmp_path / "next.yaml"
    storage = f"storage: {{project_folder: '{demo.loaded.project_folder}'}}"
    file.write_text(f"extends: {demo.loaded.file}\nyear: 2018\n{storage}\n")
    loaded = load_project(file, inspect_script=None, environment={}, working_folder=tmp_path)
    with pytest.raises(EoAssetsError, match=r"belongs to .*demo.* 2017.*not to maps of .* 2018"):
        tile_store(loaded).claim("maps")
