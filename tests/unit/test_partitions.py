"""Which ranges of tiles a run is made for."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.tile import Bounds, Tile
from eo_assets.partitions import GAP_TILES, MOST_RANGES, ranges_with_work

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


@given(st.sets(st.integers(0, len(TILES) - 1), min_size=1, max_size=200))
def test_every_waiting_tile_is_in_one_of_few_ranges_that_begin_and_end_with_work(places: set[int]) -> None:
    found = ranges(*places)
    assert len(found) <= MOST_RANGES
    assert all(first in places and last in places and first <= last for first, last in found)
    assert all(before[1] + GAP_TILES < after[0] for before, after in itertools.pairwise(found))
    assert all(sum(first <= place <= last for first, last in found) == 1 for place in places)
