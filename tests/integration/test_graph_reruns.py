"""What a second run does: nothing when nothing changed, and no more than what a changed key is behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zarr

TILES = ["32633_x00782_y09062", "32633_x00782_y09063", "32633_x00783_y09062", "32633_x00783_y09063"]


def remade(before: dict[Any, Any], after: dict[Any, Any]) -> set[str]:
    """The stages with an output that has another attempt than before; all keys of a stage, or none."""
    places = {place for place, record in after.items() if before[place].attempt != record.attempt}
    stages = {stage for stage, _ in places}
    assert places == {place for place in after if place[0] in stages}
    return stages


def test_a_project_folder_that_moved_is_up_to_date(copied: Callable[..., Any]) -> None:
    """In another folder and another Dagster instance: everything is stamped, nothing is made."""
    graph = copied()
    before = graph.commits()
    assert all(result.success for result in graph.run())
    assert graph.commits() == before
    assert graph.materialized("predictions") == set(TILES)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"sampling": {"seed": 7}},
            {"samples", "training_data", "model", "predictions", "maps", "byoc_collection"},
        ),
        ({"model": {"parameters": {"n_estimators": 9}}}, {"model", "predictions", "maps", "byoc_collection"}),
        ({"model": {"parameters": {"n_jobs": 1}}}, set()),
        ({"maps": {"cog": {"compress": "zstd"}}}, {"maps", "byoc_collection"}),
        ({"byoc": {"sensing_time": "2020-07-01"}}, {"byoc_collection"}),
        ({"budget": {"max_processing_units": 1}, "imagery": {"expected_dates": 3}}, set()),
    ],
    ids=["seed", "trees", "threads", "compression", "sensing time", "budget"],
)
def test_a_changed_key_redoes_what_lies_behind_it(
    copied: Callable[..., Any], changes: dict[str, Any], expected: set[str]
) -> None:
    graph = copied(changes)
    before = graph.commits()
    assert [result.failure for result in graph.run() if not result.success] == []
    assert remade(before, graph.commits()) == expected


def test_samples_of_a_tile_are_drawn_the_same_again(copied: Callable[..., Any]) -> None:
    graph = copied()
    before, old = graph.commits(), _samples(graph)
    graph.store.store.path(f"features-sampled/2020/_commits/{TILES[1]}.json").unlink()
    assert all(result.success for result in graph.run())
    after = graph.commits()
    assert [place for place in after if before[place].attempt != after[place].attempt] == [("samples", TILES[1])]
    for mine, other in zip(old, _samples(graph)):
        np.testing.assert_array_equal(mine, other)


def _samples(graph: Any) -> list[np.ndarray]:
    folder = graph.store.live("samples", TILES[1])
    names = ("data/FEATURES", "data_timeless/LAND_COVER", "data_timeless/SAMPLE_PIXELS")
    return [
        np.asarray(zarr.open_array(zarr.DirectoryStore(str(folder / f"{name}.zarr")), mode="r")[:]) for name in names
    ]


def test_stale_imagery_is_kept_until_it_is_bought_again(copied: Callable[..., Any]) -> None:
    graph = copied({"imagery": {"time_interval": ["2020-06-01", "2020-06-05"]}})
    before = graph.commits()
    assert all(result.success for result in graph.run("eopatches"))
    assert graph.commits() == before, "paid for, so kept although the interval is another"
    assert all(result.success for result in graph.run("eopatches", rebuy=("all",)))
    after = graph.commits()
    assert {stage for stage, _ in after if before[stage, _].attempt != after[stage, _].attempt} == {
        "tiffs",
        "eopatches",
    }
    assert {after["tiffs", name].numbers["dates"] for name in TILES} == {1}
