"""One bad tile never sinks the rest: what a run says of it, what is made without it, and what a re-run redoes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import rasterio
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from eo_assets.assets.offset_check import OFFSET_CHECK
from jobs.launches import RANGE_END, RANGE_START

GOOD, OTHER = "32633_x00782_y09063", "32633_x00783_y09063"
SAMPLED = [GOOD, OTHER]
BAD = "32633_x00783_y09062"
POISON = 9999
FULL_RANGE = {"imagery": {"evalscript": "poisoned.js"}, "area": {"buffer": 0}}


@pytest.fixture
def poisoned(world: Path, graph_in: Callable[..., Any]) -> Any:
    """A project whose evalscript throws at one pixel of one tile; two other tiles are sampled, labels are a raster."""
    script = (world / "fields.js").read_text()
    thrower = f'  if (samples.some((sample) => sample.B04 === {POISON})) throw new Error("poisoned pixel");\n'
    head, sign, body = script.partition("function evaluatePixel(samples) {\n")
    (world / "poisoned.js").write_text(head + sign + thrower + body)
    poison(world, POISON)
    reference = {"kind": "raster", "file": "cover.tif"}
    return graph_in(world, {**FULL_RANGE, "reference": {"source": reference}, "sampling": {"tiles": SAMPLED}})


def poison(world: Path, value: int) -> int:
    """Set a pixel inside the bad tile, on the first date; returns what was there."""
    with rasterio.open(world / "sentinel-hub/scenes/0_B04.tif") as tiff:
        values, profile = tiff.read(1), tiff.profile
    before, values[100, 70] = int(values[100, 70]), value
    kept = {key: profile[key] for key in ("dtype", "count", "height", "width", "crs", "transform", "nodata")}
    with rasterio.open(world / "sentinel-hub/scenes/0_B04.tif", "w", driver="COG", **kept) as tiff:
        tiff.write(values, 1)
    return before


def remade(before: dict[Any, Any], after: dict[Any, Any]) -> set[tuple[str, str]]:
    """The outputs that have another attempt than before, or had none."""
    return {place for place, record in after.items() if place not in before or before[place].attempt != record.attempt}


def test_a_tile_that_is_never_delivered(poisoned: Any, world: Path) -> None:
    # Training asks for imagery and labels of the sampling tiles alone.
    assert [result.failure for result in poisoned.run("model") if not result.success] == []
    for stage in ("tiffs", "reference", "eopatches", "features", "samples"):
        assert sorted(poisoned.store.records(stage)) == SAMPLED
    assert poisoned.store.records("predictions") == {}

    names = {tile.name for tile in poisoned.tiles}

    # The whole graph: the bad tile is named, every other one goes through, the map is made with a hole.
    failures = [result for result in poisoned.run() if not result.success]
    assert [result.launch.assets[-1] for result in failures] == ["features", "predictions"]
    assert f"tiffs/{BAD}: " in failures[0].failure and "poisoned pixel" in failures[0].failure
    good = names - {BAD}
    for stage in ("tiffs", "eopatches", "features", "predictions"):
        assert set(poisoned.store.records(stage)) == poisoned.materialized(stage) == good
    record = poisoned.store.record("maps", "32633")
    assert list(record.numbers["missing_tiles"]) == [BAD]
    with rasterio.open(poisoned.load("maps", "32633")) as tiff:
        values = tiff.read(1)
        assert list(json.loads(tiff.tags()["MISSING_TILES"])) == [BAD]
    assert (values[64:, 64:] == 255).all() and (values != 255).sum() == 3 * 64 * 64
    # What is checked of all tiles is told of those that are there.
    offset = dg.AssetCheckKey(dg.AssetKey(["fields", "predictions"]), OFFSET_CHECK)
    (check,) = poisoned.instance.event_log_storage.get_asset_check_execution_history(offset, limit=1)
    assert check.status is AssetCheckExecutionRecordStatus.SUCCEEDED

    # The scene is mended. The tile was asked for as often as the project allows, so a person says that it is worth it:
    # that tile, the map and what is published are made, and nothing else.
    before = poisoned.commits()
    poison(world, 700)
    assert [result.failure for result in poisoned.run(rebuy=(BAD,)) if not result.success] == []
    expected = {(stage, BAD) for stage in ("tiffs", "eopatches", "features", "predictions")}
    expected |= {("maps", "32633"), ("byoc_collection", "byoc_collection")}
    assert remade(before, poisoned.commits()) == expected
    assert poisoned.materialized("tiffs") == names
    with rasterio.open(poisoned.load("maps", "32633")) as tiff:
        assert (tiff.read(1) != 255).all()


def test_a_damaged_output_stops_its_tile_and_is_never_mixed_with_newer_ones(copied: Callable[..., Any]) -> None:
    """Features are to be made anew, and one tile's EOPatch has lost its bands: its old ones do not count."""
    graph = copied({"features": {"indices": {"NDVI": ["B11", "B04"]}}})
    before = graph.commits()
    shutil.rmtree(graph.store.live("eopatches", BAD) / "data/BANDS.zarr")
    failures = [result for result in graph.run() if not result.success]
    assert f"features/{BAD}: " in failures[0].failure and "is damaged" in failures[0].failure
    after = graph.commits()
    others = {tile.name for tile in graph.tiles} - {BAD}
    assert {name for stage, name in remade(before, after) if stage == "features"} == others
    assert {stage for stage, name in remade(before, after) if name == BAD} == set()
    assert list(after["training_data", "training_data"].numbers["left_out"]) == [BAD]
    # The published map shows the tile: one with a hole does not take its place unasked.
    assert ("maps", "32633") not in remade(before, after)
    told = next(result.failure for result in failures if result.launch.assets == ("maps",))
    assert f"the published map shows {BAD}" in told and "it is kept" in told
    assert {name for stage, name in remade(before, after) if stage == "predictions"} == others
    training = graph.load("training_data")
    assert len(np.unique(training["TILE_IDS"])) == 3


def test_a_model_that_is_missing_is_told_and_nothing_is_predicted(world: Path, graph_in: Callable[..., Any]) -> None:
    graph = graph_in(world, {"area": {"buffer": 0}})
    graph.run("features")
    result = graph.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=graph.instance,
        asset_selection=[dg.AssetKey(["fields", "predictions"])],
        tags={RANGE_START: GOOD, RANGE_END: GOOD},
        raise_on_error=False,
    )
    assert not result.success and graph.store.records("predictions") == {}
    told = [event.step_failure_data.error.to_string() for event in result.all_events if event.is_step_failure]
    assert f"eo-assets run {graph.loaded.file} --only model" in told[0]
