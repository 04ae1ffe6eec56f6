"""Which assets a request stands for, and which tiles a person means."""

import pytest

from eo_assets.core.graph import NEEDS, needs_of
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import ProjectError
from eo_assets.partitions import contiguous
from jobs.graph import ASSETS, choose_tiles, with_upstream
from jobs.project_jobs import LAUNCHES

TILES = [Tile(f"33UUU_0_{index}", 32633, Bounds(0, 0, 10, 10), 10) for index in range(5)]


def names(tiles: list[Tile]) -> list[str]:
    return [tile.name[-1] for tile in tiles]


def test_every_asset_is_in_one_launch_and_comes_after_what_it_needs() -> None:
    launched = [asset for assets in LAUNCHES.values() for asset in assets]
    assert sorted(launched) == sorted(ASSETS)
    for asset, needs in NEEDS.items():
        assert all(ASSETS.index(need) < ASSETS.index(asset) for need in needs)


def test_a_map_needs_everything_but_its_publication() -> None:
    assert with_upstream(["maps"]) == set(ASSETS) - {"byoc_collection", "cost_estimate"}


def test_looking_behind_a_model_can_be_stopped() -> None:
    found = with_upstream(["predictions"], stop_at=("training_data", "model"))
    assert found == {"predictions", "model", "features", "eopatches", "tiffs", "tile_grid", "aoi"}


def test_a_model_that_is_not_trained_here_needs_no_samples() -> None:
    found = {asset: needs_of(asset, trained_here=False) for asset in ASSETS}
    assert found["model"] == () and found["predictions"] == ("features", "model")
    changed = {asset for asset in ASSETS if found[asset] != needs_of(asset, trained_here=True)}
    assert changed == {"model"}  # who asks for training data all the same still gets them


def test_an_unknown_asset_is_named_with_those_that_exist() -> None:
    with pytest.raises(ProjectError, match="--only feature: there is no such asset; there are aoi, tile_grid"):
        with_upstream(["feature"])


def test_tiles_are_meant_by_name_or_index_and_keep_their_order() -> None:
    assert names(choose_tiles(TILES, ["33UUU_0_3", "1"])) == ["1", "3"]
    assert choose_tiles(TILES, []) == TILES


@pytest.mark.parametrize("wrong", ["5", "-1", "33UUU_9_9", ""])
def test_an_unknown_tile_is_named_with_the_range_of_indices(wrong: str) -> None:
    with pytest.raises(ProjectError, match=f"-t {wrong}: no such tile; give a name, or an index from 0 to 4"):
        choose_tiles(TILES, [wrong])


def test_scattered_tiles_are_grouped_into_runs_of_neighbours() -> None:
    groups = contiguous(TILES, ["33UUU_0_0", "33UUU_0_1", "33UUU_0_3"])
    assert [names(group) for group in groups] == [["0", "1"], ["3"]]
