"""Which ranges of tiles a run is made for."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.tile import Bounds, Tile
from eo_assets.partitions import GAP_TILES, MOST_RANGES, RUN_TILES, ranges_with_work

TILES = [Tile(f"33UUU_{index:04d}", 32633, Bounds(0, 0, 10, 10), 10) for index in range(3000)]
PLACE = {tile.name: place for place, tile in enumerate(TILES)}


def ranges(*places: int) -> list[tuple[int, int]]:
    found = ranges_with_work(TILES, {TILES[place].name for place in places})
    return [(PLACE[working[0].name], PLACE[working[-1].name]) for working in found]


def test_neighbours_and_near_neighbours_share_a_run_and_far_ones_do_not() -> None:
    assert ranges() == []
    assert ranges(5) == [(5, 5)]
    assert ranges(5, 6, 6 + GAP_TILES) == [(5, 6 + GAP_TILES)]
    assert ranges(5, 6, 7 + GAP_TILES, 2000) == [(5, 6), (7 + GAP_TILES, 7 + GAP_TILES), (2000, 2000)]


def test_a_run_holds_a_thousand_tiles_at_most() -> None:
    assert ranges(*range(0, 2500)) == [(0, 999), (1000, 1999), (2000, 2499)]


@given(st.sets(st.integers(0, len(TILES) - 1), min_size=1, max_size=200))
def test_every_waiting_tile_is_in_one_of_few_ranges(places: set[int]) -> None:
    found = ranges(*places)
    assert len(found) <= MOST_RANGES + len(TILES) // RUN_TILES
    assert all(first <= last < first + RUN_TILES for first, last in found)
    assert found[0][0] == min(places) and found[-1][1] == max(places)
    cut = [(before, after) for before, after in itertools.pairwise(found) if before[1] + 1 < after[0]]
    assert all(before[1] in places and after[0] in places for before, after in cut)
    assert all(before[1] + GAP_TILES < after[0] for before, after in cut)
    assert all(sum(first <= place <= last for first, last in found) == 1 for place in places)
