"""Points as labels and as samples: their pixels, what they say, and what becomes of them on the way."""

from typing import Any

import geopandas
import numpy as np
import pytest
from shapely.geometry import Point, box

from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from eo_assets.stages.features import FEATURES
from eo_assets.stages.samples import MASK_OF_SAMPLES, PIXELS
from resources.eolearn_bridge import load_eopatch
from resources.eopatch_files import DATA, DATA_TIMELESS, MASK_TIMELESS, open_array
from resources.point_table import TABLE, read_points

LEFT, TOP = 330_000, 5_801_300
SOURCE = {"kind": "points", "file": "points.gpkg", "id": "id", "column": "class", "date": "day", "weight": "w"}


def place(row: float, column: float) -> Point:
    """A place by row and column of the cell, in pixels."""
    return Point(LEFT + 10 * column, TOP - 10 * row)


PLACES = [place(0, 0), place(0.5, 0.9), place(128.2, 23.5), place(5, 24), place(70.3, 11.1), place(-0.1, 3)]
"""On the cell's corner, in the same pixel, in the second block, on the right edge (the next tile's), inside, above."""


def points(world: Any, places: list[Any] = PLACES, **columns: list[Any]) -> None:
    n = len(places)
    said = {
        "id": [f"p{i}" for i in range(n)],
        "class": [10 * i for i in range(n)],
        "day": ["2020-01-05"] * n,
        "w": [1.0 + i for i in range(n)],
        **columns,
    }
    world.input_folder.mkdir(exist_ok=True)
    frame = geopandas.GeoDataFrame(said, geometry=places, crs=32633)
    frame.to_file(world.input_folder / "points.gpkg", engine="pyogrio")
    world.reference["source"] = SOURCE
    world.sampling = {}


def make(world: Any, *stages: str, **delivery: Any) -> dict[str, Any]:
    outcomes = world.run("tiffs", "reference", "eopatches", "features", *stages, delivery=world.deliver(**delivery))
    assert {outcome.status for outcome in outcomes.values()} <= {"done", "up_to_date"}, outcomes
    return {name: outcome.record for name, outcome in outcomes.items()}


def test_the_reference_shows_the_points_of_the_cell_and_keeps_their_table(world: Any) -> None:
    points(world)
    record = make(world)["reference"]
    folder = world.store.live("reference", world.tile.name)
    labels = open_array(folder, DATA_TIMELESS, "GHSL")[..., 0]
    assert {(int(row), int(column)): int(labels[row, column]) for row, column in np.argwhere(labels != 255)} == {
        (0, 0): 10,
        (128, 23): 20,
        (70, 11): 40,
    }
    table = read_points(folder)
    assert table.ids.tolist() == ["p0", "p1", "p2", "p4"]
    assert table.pixels.tolist() == [[0, 0], [0, 0], [128, 23], [70, 11]]
    assert (record.numbers["points"], record.numbers["labelled_pixels"]) == (4, 3)


def test_every_point_is_a_sample_with_what_it_says(world: Any) -> None:
    points(world)
    record = make(world, "samples")["samples"]
    folder = world.store.live("samples", world.tile.name)
    features = open_array(world.store.live("features", world.tile.name), DATA, FEATURES)[:]
    table = read_points(folder)
    rows, columns = table.pixels.T
    np.testing.assert_array_equal(open_array(folder, DATA, FEATURES)[:, :, 0], features[:, rows, columns])
    assert open_array(folder, DATA_TIMELESS, "GHSL")[:].ravel().tolist() == [0, 10, 20, 40], "each its own label"
    np.testing.assert_array_equal(open_array(folder, DATA_TIMELESS, PIXELS)[:, 0], table.pixels)
    assert open_array(folder, MASK_TIMELESS, MASK_OF_SAMPLES)[0, 0] == 2
    assert table.weights.tolist() == [1, 2, 3, 5]
    assert table.dates.astype(str).tolist() == ["2020-01-05"] * 4
    assert record.numbers["samples"] == record.numbers["points"] == 4
    patch = load_eopatch(folder)
    assert patch.data[FEATURES].shape == (2, 4, 1, 2)
    assert load_eopatch(world.store.live("reference", world.tile.name)).data_timeless["GHSL"].shape[:2] == (130, 24)


def test_points_of_the_buffer_are_another_tiles(world: Any, digital_numbers: Any) -> None:
    world.tile = Tile(world.tile.name, 32633, world.tile.cell, 10.0, (7, 9))
    points(world)
    make(world, "samples", outputs=digital_numbers(world.tile))
    table = read_points(world.store.live("samples", world.tile.name))
    assert table.ids.tolist() == ["p0", "p1", "p2", "p4"]
    assert table.pixels.tolist() == [[7, 9], [7, 9], [135, 32], [77, 20]]


def test_points_on_invalid_pixels_are_left_out(world: Any, digital_numbers: Any) -> None:
    points(world)
    delivered = digital_numbers(world.tile)
    delivered["QM"][:] = 1
    delivered["QM"][:, 100:] = 0
    record = make(world, "samples", outputs=delivered)["samples"]
    assert read_points(world.store.live("samples", world.tile.name)).ids.tolist() == ["p0", "p1", "p4"]
    assert record.numbers["points_on_invalid_pixels"] == 1


def test_a_tile_without_points_or_without_valid_ones_is_empty(world: Any, digital_numbers: Any) -> None:
    points(world, [place(-500, 0)])
    records = make(world, "samples")
    assert (records["reference"].empty, records["samples"].reason) == (True, "no pixel has a label")
    points(world, [place(3, 3)])
    delivered = digital_numbers(world.tile)
    delivered["QM"][:, :10] = 0
    record = make(world, "samples", outputs=delivered)["samples"]
    assert (record.empty, record.reason) == (True, "no point lies on a valid pixel")


def test_the_same_points_are_the_same_output(world: Any) -> None:
    points(world)
    make(world)
    folder = world.store.live("reference", world.tile.name)
    first = (folder / TABLE).read_bytes()
    digest = world.store.record("reference", world.tile.name).digest
    world.store.store.delete("reference/_commits/33UUU_3_7.json")
    make(world)
    assert (world.store.live("reference", world.tile.name) / TABLE).read_bytes() == first
    assert world.store.record("reference", world.tile.name).digest == digest


def test_a_point_that_is_none_fails_its_tile_with_the_remedy(world: Any) -> None:
    points(world, [place(1, 1), box(LEFT, TOP - 50, LEFT + 50, TOP)])
    outcome = world.run("reference")["reference"]
    assert outcome.status == "failed"
    assert "feature 2 has a Polygon, and kind: points needs single points" in outcome.reason


@pytest.mark.parametrize("label", [255, 256, None])
def test_a_bad_label_is_found_before_any_tile_is_made(world: Any, label: Any) -> None:
    points(world, **{"class": [label] * len(PLACES)})
    [stage] = world.walk().selected(["reference"])
    with pytest.raises(TileError, match="feature 1: column class holds"):
        stage.check_file()
