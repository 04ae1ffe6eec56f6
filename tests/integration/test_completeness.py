"""A map knows its tiles, a table and a model those they were made of; when a map has holes, when it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
import shapely

from eo_assets.assets.maps import make_map, wanted_map
from eo_assets.assets.model import TRAINED_ON_FILE, make_model
from eo_assets.assets.training_data import LEFT_OUT_FILE, make_training_data
from eo_assets.assets.zone_tiles import zone_tiles
from eo_assets.core.completeness import cell_lonlat
from eo_assets.errors import StoreError

TILES = ["32633_x00782_y09062", "32633_x00782_y09063", "32633_x00783_y09062", "32633_x00783_y09063"]
EPSG = 32633


def forget(graph: Any, stage: str, *keys: str) -> None:
    for key in keys:
        Path(graph.store.record_place(stage, key)).unlink()


def three_absent(graph: Any) -> None:
    """One tile failed at its imagery, one at its prediction, one was never predicted; there is no map yet."""
    forget(graph, "maps", str(EPSG))
    forget(graph, "predictions", *TILES[:3])
    for stage in ("tiffs", "eopatches", "features"):
        forget(graph, stage, TILES[0])
    graph.store.note_failure("tiffs", TILES[0], "poisoned pixel")
    graph.store.note_failure("predictions", TILES[1], "out of range")


def test_a_map_tells_its_tiles_and_its_holes(copied: Callable[..., Any]) -> None:
    graph = copied({"maps": {"min_coverage": 0.25}})
    three_absent(graph)
    record = make_map(graph.loaded, graph.store, EPSG)
    counts = {name: value for name, value in record.numbers.items() if name.endswith("_tiles")}
    assert {name: value for name, value in counts.items() if isinstance(value, int)} == {
        "expected_tiles": 4,
        "present_tiles": 1,
        "empty_tiles": 0,
        "failed_tiles": 2,
        "stale_tiles": 0,
        "blocked_tiles": 0,
        "never_made_tiles": 1,
    }
    assert record.numbers["missing_tiles"] == {
        TILES[0]: "failed: tiffs: poisoned pixel",
        TILES[1]: "failed: out of range",
        TILES[2]: "missing",
    }
    assert (record.numbers["coverage"], record.numbers["hole_area_share"]) == (0.25, 0.75)
    holes = json.loads((graph.store.path(record) / "holes.geojson").read_text())["features"]
    assert [hole["properties"]["tile"] for hole in holes] == TILES[:3]
    cells = {tile.name: cell_lonlat(tile) for tile in graph.tiles}
    assert all(shapely.geometry.shape(hole["geometry"]).equals(cells[hole["properties"]["tile"]]) for hole in holes)
    whole = shapely.geometry.shape(record.numbers["holes"])
    assert whole.area == pytest.approx(sum(cells[name].area for name in TILES[:3]), rel=1e-6)
    with rasterio.open(graph.store.path(record) / "utm32633_result.tiff") as tiff:
        assert json.loads(tiff.tags()["MISSING_TILES"]) == TILES[:3]


def test_a_map_that_is_more_hole_than_map_is_refused(copied: Callable[..., Any]) -> None:
    graph = copied()
    three_absent(graph)
    for make in (make_map, wanted_map):
        with pytest.raises(StoreError) as told:
            make(graph.loaded, graph.store, EPSG)
        for said in (
            "of 4 tiles 1 present, 2 failed, 1 missing",
            f"{TILES[0]}: failed: tiffs: poisoned pixel",
            "25.0% are there, maps.min_coverage asks for 50.0%",
            f"lower maps.min_coverage in {graph.loaded.file}",
        ):
            assert said in str(told.value)
    assert graph.store.record("maps", str(EPSG)) is None


def test_the_coverage_that_is_asked_for_makes_no_map_stale(copied: Callable[..., Any]) -> None:
    graph = copied({"maps": {"min_coverage": 1.0}})
    before = graph.store.record("maps", str(EPSG))
    after = make_map(graph.loaded, graph.store, EPSG)
    assert after.attempt == before.attempt
    assert not (graph.store.path(after) / "holes.geojson").exists()
    assert (after.numbers["coverage"], "holes" in after.numbers) == (1.0, False)


def test_a_published_map_is_kept_whatever_the_coverage_allows(copied: Callable[..., Any]) -> None:
    graph = copied({"maps": {"min_coverage": 0}})
    forget(graph, "predictions", TILES[2])
    with pytest.raises(StoreError, match=rf"the published map shows {TILES[2]}, .*it is kept.* of 4 tiles 3 present"):
        make_map(graph.loaded, graph.store, EPSG)


def test_without_any_prediction_there_is_no_map_at_all(copied: Callable[..., Any]) -> None:
    graph = copied({"maps": {"min_coverage": 0}})
    forget(graph, "maps", str(EPSG))
    forget(graph, "predictions", *TILES)
    with pytest.raises(StoreError, match=r"none of the zone's 4 tiles has predictions: .*--only predictions"):
        make_map(graph.loaded, graph.store, EPSG)


def test_stale_tiles_are_told_apart_from_failed_ones(copied: Callable[..., Any]) -> None:
    graph = copied({"features": {"indices": {"NDVI": ["B11", "B04"]}}})
    graph.store.note_failure("features", TILES[0], "is damaged")
    found = zone_tiles(graph.loaded, graph.store, EPSG).found
    assert [found.told(name)[:6] for name in TILES] == ["failed", "stale:", "stale:", "stale:"]


def test_a_model_names_the_tiles_it_was_trained_on(copied: Callable[..., Any]) -> None:
    graph = copied()
    forget(graph, "samples", TILES[1])
    graph.store.note_failure("samples", TILES[1], "no such label")
    data = make_training_data(graph.loaded, graph.store)
    said = {name: data.numbers[name] for name in ("wanted_tiles", "used_tiles", "failed_tiles", "left_out")}
    assert said == {
        "wanted_tiles": 4,
        "used_tiles": 3,
        "failed_tiles": 1,
        "left_out": {TILES[1]: "failed: no such label"},
    }
    folder = graph.store.path(data)
    assert json.loads((folder / LEFT_OUT_FILE).read_text()) == said["left_out"]
    model = make_model(graph.loaded, graph.store)
    used = [TILES[0], *TILES[2:]]
    trained_on = json.loads((graph.store.path(model) / TRAINED_ON_FILE).read_text())
    assert set(trained_on.pop("dark")["before"]) == {"B04", "B08", "B11"}
    assert trained_on == {"training_data": data.digest, "tiles": used}
    assert model.numbers["trained_on_tiles"] == 3
    assert f"of 3 tiles ({', '.join(used)})" in (graph.store.path(model) / "model_card.md").read_text()
