"""What a second run does: nothing when nothing changed, and no more than what a changed key is behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import zarr

from eo_assets.assets.outputs import failed_partitions
from eo_assets.definitions import build_definitions
from eo_assets.partitions import tile_partitions
from jobs.launches import RANGE_END, RANGE_START

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


def test_a_run_with_nothing_to_do_launches_nothing(copied: Callable[..., Any]) -> None:
    graph = copied()
    assert all(result.success for result in graph.run())
    assert graph.run() == []
    Path(graph.store.record_place("byoc_collection", "byoc_collection")).unlink()
    assert [result.launch.assets for result in graph.run()] == [("byoc_collection",)]


def test_a_failed_tile_is_told_with_its_reason_and_no_neighbour_turns_failed(
    copied: Callable[..., Any],
) -> None:
    graph = copied()
    graph.run()
    key = dg.AssetKey(["fields", "samples"])
    shutil.rmtree(graph.store.live("reference", TILES[2]) / "data_timeless")
    for tile in (TILES[0], TILES[2]):
        Path(graph.store.record_place("samples", tile)).unlink()
    assert not all(result.success for result in graph.run("samples"))
    definition = graph.definitions.resolve_asset_graph().get(key).partitions_def
    states = graph.instance.get_status_by_partition(key, TILES, definition)
    assert {tile: state.value for tile, state in states.items()} == {
        TILES[0]: "MATERIALIZED",
        TILES[1]: "MATERIALIZED",
        TILES[2]: "FAILED",
        TILES[3]: "MATERIALIZED",
    }
    observed = graph.instance.fetch_observations(dg.AssetRecordsFilter(key, asset_partitions=[TILES[2]]), limit=1)
    assert "is damaged" in observed.records[0].asset_observation.metadata["failed"].value


class Interrupting:
    """A person who presses Ctrl-C as soon as a run over tiles has begun."""

    def started(self, title: str, tiles: int, stages: int) -> None:
        raise dg.DagsterExecutionInterruptedError

    def advanced(self, outcome: Any) -> None: ...

    def finished(self) -> None: ...


def test_tiles_that_an_interrupted_run_left_as_failed_are_told_again(copied: Callable[..., Any]) -> None:
    graph = copied()
    graph.run()
    key = dg.AssetKey(["fields", "features"])
    definitions = build_definitions(graph.projects, progress=dg.ResourceDefinition.hardcoded_resource(Interrupting()))
    tags = {RANGE_START: TILES[0], RANGE_END: TILES[-1]}
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=graph.instance, asset_selection=[key], tags=tags, raise_on_error=False
    )
    assert not result.success
    partitions = tile_partitions("fields")
    assert failed_partitions(graph.instance, key, TILES, partitions) == set(TILES)
    before = graph.commits()
    assert [result.launch.assets for result in graph.run("features")] == [("tiffs", "eopatches", "features")]
    assert failed_partitions(graph.instance, key, TILES, partitions) == set()
    assert graph.commits() == before, "told, and not made again"
