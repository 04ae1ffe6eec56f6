"""Points as labels through the whole graph, to the training data; a bad file stops the run before any pay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
from shapely.geometry import LineString, Point

from eo_assets.assets.training_data import BLOCK_IDS, DATES, SAMPLE_IDS, TILE_IDS, TILES_FILE, WEIGHTS
from eo_assets.stages.features import FEATURES

LEFT, TOP, SIDE, RESOLUTION = 640 * 782, 640 * 9064, 128, 10
POINTS: dict[str, Any] = {
    "reference": {
        "source": {
            "kind": "points", "file": "points.parquet", "id": "id", "column": "cover", "date": "seen", "weight": "w",
        },
    },
    "sampling": {"block_size": 1, "number": None},
}  # fmt: skip


def place(row: float, column: float) -> Point:
    """A place by row and column of the scene, in pixels."""
    return Point(LEFT + RESOLUTION * column, TOP - RESOLUTION * row)


def write(folder: Path, scene: Any, extra: dict[str, Any] | None = None) -> geopandas.GeoDataFrame:
    """A point in every other pixel of every third row, and some on the edges where tiles meet."""
    pixels = [(row, column) for row in range(15, SIDE - 15, 3) for column in range(15, SIDE - 15, 2)]
    edges = [(64, 64), (64, 20), (20, 64), (63.999, 64), (64, 63.999)]
    places = [(row + 0.5, column + 0.25) for row, column in pixels] + edges
    frame = geopandas.GeoDataFrame(
        {
            "id": [f"point {n}" for n in range(len(places))],
            "cover": [int(scene.cover[int(row), int(column)]) for row, column in places],
            "seen": [f"2020-0{6 + n % 2}-02" for n in range(len(places))],
            "w": [1.0 + n % 3 for n in range(len(places))],
        },
        geometry=[place(*each) for each in places],
        crs=32633,
    )
    twin = frame.iloc[[0]].assign(id="twin", cover=frame.cover.iloc[0], w=9.0)
    added = [] if extra is None else [geopandas.GeoDataFrame(extra, crs=32633)]
    frame = geopandas.GeoDataFrame(pandas.concat([frame, twin, *added], ignore_index=True), crs=32633)
    frame.to_crs(4326).to_parquet(folder / "input-data/points.parquet")
    return frame


def test_points_reach_the_model_with_all_they_say(world: Path, scene: Any, graph_in: Callable[..., Any]) -> None:
    said = write(world, scene)
    graph = graph_in(world, POINTS)
    assert [result.failure for result in graph.run("model") if not result.success] == []
    folder = graph.store.live("training_data", "training_data")
    names = (FEATURES, "LAND_COVER", TILE_IDS, BLOCK_IDS, SAMPLE_IDS, WEIGHTS, DATES)
    table = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in names}
    assert {len(values) for values in table.values()} == {len(said)}
    assert sorted(table[SAMPLE_IDS]) == sorted(said.id), "each point once, those on the edges of tiles too"
    rows = said.set_index("id").loc[table[SAMPLE_IDS]]
    np.testing.assert_array_equal(table["LAND_COVER"], rows.cover)
    np.testing.assert_array_equal(table[WEIGHTS], rows.w.astype(np.float32))
    np.testing.assert_array_equal(table[DATES].astype(str), rows.seen)
    tiles = json.loads((folder / TILES_FILE).read_text())
    cells = {tile.name: tile.cell for tile in graph.tiles}
    for index, point in zip(table[TILE_IDS], rows.geometry):
        left, bottom, right, top = cells[tiles[index]]
        assert left - 1e-3 <= point.x <= right + 1e-3 and bottom - 1e-3 <= point.y <= top + 1e-3
    first, twin = (np.flatnonzero(table[SAMPLE_IDS] == name)[0] for name in ("point 0", "twin"))
    np.testing.assert_array_equal(table[FEATURES][first], table[FEATURES][twin])
    np.testing.assert_array_equal(table[BLOCK_IDS][first], table[BLOCK_IDS][twin])
    loaded = graph.load("training_data")
    assert loaded[SAMPLE_IDS][0] == table[SAMPLE_IDS][0] and loaded[DATES].dtype == "datetime64[D]"
    numbers = graph.store.record("training_data", "training_data").numbers
    assert numbers["points_in_several_tiles"] == 0
    assert numbers["points_outside_interval"] == int(said.seen.str.startswith("2020-07").sum())
    assert graph.store.record("model", "model").numbers["samples"] == len(said)


def test_a_bad_points_file_stops_the_run_before_imagery_is_ordered(
    world: Path, scene: Any, graph_in: Callable[..., Any]
) -> None:
    line = LineString([place(20, 20), place(40, 40)])
    write(world, scene, {"id": ["road"], "cover": [10], "seen": ["2020-06-02"], "w": [1.0], "geometry": [line]})
    graph = graph_in(world, POINTS)
    failures = [result.failure for result in graph.run("model") if not result.success]
    assert "points.parquet: feature" in str(failures[0]) and "has a LineString" in str(failures[0])
    assert "reference.source: " in str(failures[0])
    assert graph.store.records("tiffs") == {}
    assert not list((world / "tiffs").rglob("*.tif"))
