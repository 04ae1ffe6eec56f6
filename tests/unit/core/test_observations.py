"""Days a tile against counting one by one, and boxes that cross the antimeridian."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_assets.core.observations import days_a_tile, lonlat_box
from eo_assets.core.tile import Bounds, Tile

FIRST = dt.date(2020, 1, 1)
TILES = [
    Tile(f"x{column}_y{row}", 32633, Bounds(left, bottom, left + 10_000, bottom + 10_000), 10.0, (4, 4))
    for column, left in enumerate(range(300_000, 340_000, 10_000))
    for row, bottom in enumerate(range(5_800_000, 5_830_000, 10_000))
]
BOXES = [lonlat_box(tile) for tile in TILES]
# The western edge of zone 1: 180 degrees is at about 166,021 m on the equator.
DATELINE = Tile("dateline", 32601, Bounds(160_000, 0, 172_000, 12_000), 10.0)
WEST_OF_IT = Tile("west", 32660, Bounds(800_000, 0, 812_000, 12_000), 10.0)
EAST_OF_IT = Tile("east", 32601, Bounds(180_000, 0, 192_000, 12_000), 10.0)

degrees = st.tuples(st.floats(12.0, 12.8), st.floats(52.2, 52.7), st.floats(0.01, 0.5), st.floats(0.01, 0.3))
sightings = st.lists(st.tuples(st.integers(0, 4), degrees), max_size=12)


@settings(deadline=None, max_examples=40)
@given(sightings)
def test_days_are_counted_as_one_by_one(found: list[tuple[int, tuple[float, float, float, float]]]) -> None:
    days = [FIRST + dt.timedelta(days) for days, _ in found]
    footprints = [shapely.box(west, south, west + width, south + height) for _, (west, south, width, height) in found]
    expected = []
    for box in BOXES:
        met = set()
        for day, footprint in zip(days, footprints):
            if footprint.intersects(box):
                met.add(day)
        expected.append(len(met))
    counts = days_a_tile(TILES, days, footprints)
    assert counts.dtype == np.int64
    assert counts.tolist() == expected


def test_two_footprints_of_a_day_are_one_day() -> None:
    world = shapely.box(-180, -90, 180, 90)
    counts = days_a_tile(TILES, [FIRST, FIRST, FIRST + dt.timedelta(1)], [world, world, world])
    assert set(counts.tolist()) == {2}


@pytest.mark.parametrize("tiles", [[], TILES[:2]])
def test_nothing_seen_and_nothing_to_see(tiles: list[Tile]) -> None:
    assert days_a_tile(tiles, [], []).tolist() == [0] * len(tiles)
    assert days_a_tile(tiles, [FIRST], [shapely.box(0, 0, 1, 1)]).tolist() == [0] * len(tiles)


def test_a_box_holds_the_buffer() -> None:
    bare = Tile("bare", 32633, TILES[0].cell, 10.0)
    assert lonlat_box(TILES[0]).area > lonlat_box(bare).area
    assert lonlat_box(TILES[0]).contains(lonlat_box(bare))


def test_a_box_over_the_antimeridian_has_a_part_on_each_side() -> None:
    box = lonlat_box(DATELINE)
    west, east = sorted(box.geoms, key=lambda part: part.bounds[0], reverse=True)
    assert west.bounds[2] == 180 and west.bounds[0] > 179.9
    assert east.bounds[0] == -180 and east.bounds[2] < -179.9
    assert shapely.area(box) == pytest.approx(lonlat_box(EAST_OF_IT).area, rel=0.01)


def test_a_tile_over_the_antimeridian_is_seen_from_both_sides_and_from_nowhere_else() -> None:
    footprints = [
        shapely.box(179.0, -1, 180, 1),
        shapely.box(-180, -1, -179.99, 1),
        shapely.box(-100, -1, 100, 1),  # half the globe away
        shapely.union_all([shapely.box(179.0, -1, 180, 1), shapely.box(-180, -1, -179, 1)]),
    ]
    tiles = [WEST_OF_IT, DATELINE, EAST_OF_IT]
    met = [days_a_tile(tiles, [FIRST], [footprint]).tolist() for footprint in footprints]
    assert met == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]]
    days = [FIRST + dt.timedelta(index) for index in range(len(footprints))]
    assert days_a_tile(tiles, days, footprints).tolist() == [2, 3, 1]
