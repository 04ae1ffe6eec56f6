"""What an output wants and what is there: counts, shares, holes and their shape, small whatever the number of tiles."""

import json

import pytest
import shapely

from eo_assets.core.completeness import (
    MOST_POINTS,
    SHOWN,
    STATES,
    Completeness,
    cell_lonlat,
    first_of,
    hole_area_share,
    holes_geojson,
    holes_shape,
)
from eo_assets.core.tile import Bounds, Tile


def cell(column: int, row: int = 0, width: int = 1000) -> Tile:
    left, bottom = 500_000 + column * 1000, 700_000 + row * 1000
    return Tile(f"{column}_{row}", 32630, Bounds(left, bottom, left + width, bottom + 1000), 10.0, (5, 5))


TILES = [cell(column) for column in range(6)]
FOUND = Completeness(
    dict(zip((tile.name for tile in TILES), STATES)),
    {"2_0": "tiffs: poisoned pixel", "3_0": "stale", "4_0": "waits for model", "1_0": "no pixel is valid"},
)


def test_counts_shares_and_holes() -> None:
    assert FOUND.counts == dict.fromkeys(STATES, 1)
    assert FOUND.share == pytest.approx(2 / 6)
    assert FOUND.holes == ["2_0", "3_0", "4_0", "5_0"]
    assert [FOUND.told(name) for name in FOUND.states] == [
        "present",
        "empty: no pixel is valid",
        "failed: tiffs: poisoned pixel",
        "stale",
        "blocked: waits for model",
        "missing",
    ]
    assert FOUND.brief(1) == (
        "of 6 tiles 1 present, 1 empty, 1 failed, 1 stale, 1 blocked, 1 missing (2_0: failed: tiffs: poisoned pixel)"
    )


def test_failed_tiles_are_told_first() -> None:
    found = Completeness({"a": "missing", "b": "stale", "c": "failed", "d": "failed"})
    assert found.holes == ["c", "d", "b", "a"]


def test_nothing_wanted_is_all_there() -> None:
    assert (Completeness({}).share, Completeness({}).holes) == (1.0, [])
    assert hole_area_share(Completeness({}), []) == 0


def test_holes_are_cells_without_their_buffers() -> None:
    collection = holes_geojson(FOUND, TILES)
    assert collection["features"][0]["properties"] == {
        "tile": "2_0",
        "state": "failed",
        "reason": "tiffs: poisoned pixel",
    }
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in collection["features"]]
    # Two neighbours share an edge and no more.
    assert shapes[0].intersection(shapes[1]).area == pytest.approx(0, abs=1e-12)
    union = shapely.geometry.shape(holes_shape(FOUND, TILES))
    assert union.geom_type == "Polygon"
    assert union.symmetric_difference(shapely.union_all(shapes)).area == pytest.approx(0, abs=1e-9)
    assert -3.0001 < union.bounds[0] < union.bounds[2] < -2.9 and 6 < union.bounds[1] < 6.4


def test_the_share_of_the_area_counts_cells_by_their_size() -> None:
    tiles = [cell(0), cell(1, width=3000)]
    found = Completeness({"0_0": "present", "1_0": "failed"})
    assert (found.share, hole_area_share(found, tiles)) == (0.5, 0.75)


def test_what_is_shown_stays_small() -> None:
    # A chessboard of 50 x 50 holes: its outline has thousands of corners.
    tiles = [cell(column, row) for column in range(0, 100, 2) for row in range(50)]
    found = Completeness({tile.name: "missing" for tile in tiles})
    shape = holes_shape(found, tiles)
    assert shapely.get_num_coordinates(shapely.geometry.shape(shape)) == 5 <= MOST_POINTS
    assert len(json.dumps(shape)) < 1000
    assert first_of(list(range(100))) == list(range(SHOWN))
    assert list(first_of(dict.fromkeys(range(100), 0))) == list(range(SHOWN))  # type: ignore[type-var]
    assert len(holes_geojson(found, tiles)["features"]) == len(tiles)


def test_a_geographic_cell_is_itself() -> None:
    tile = Tile("a", 4326, Bounds(10.0, 50.0, 10.5, 50.5), 0.001)
    assert shapely.equals(cell_lonlat(tile), shapely.box(10.0, 50.0, 10.5, 50.5))
