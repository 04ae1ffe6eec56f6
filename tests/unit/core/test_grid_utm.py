"""The UTM lattice: places by arithmetic, names, the edges of zones."""

from __future__ import annotations

import pytest
import shapely

from eo_assets.core.tile import Bounds
from eo_assets.core.utm_grid import UtmGrid
from eo_assets.errors import GridError


def test_a_name_says_where_the_cell_lies() -> None:
    tile = UtmGrid(10_000, 10, (4, 6)).tile("32633_x0050_y0513")
    assert (tile.epsg, tile.cell) == (32633, Bounds(500_000, 5_130_000, 510_000, 5_140_000))
    assert tile.shape == (1008, 1012)


def test_small_cells_have_longer_names_that_sort_as_numbers() -> None:
    tiles = UtmGrid(500, 10).tiles(shapely.box(14.99, 45, 15.01, 45.01))
    assert tiles[0].name.startswith("32633_x00998_y0")
    assert [tile.cell.left for tile in tiles] == sorted(tile.cell.left for tile in tiles)


def test_across_a_zone_edge_each_side_is_claimed_in_its_own_zone_alone() -> None:
    west, east = shapely.box(11.9, 50, 12, 50.1), shapely.box(12, 50, 12.1, 50.1)
    grid = UtmGrid(5000, 10)
    assert {tile.epsg for tile in grid.tiles(west)} == {32632}
    assert {tile.epsg for tile in grid.tiles(east)} == {32633}
    both = grid.tiles(shapely.union(west, east))
    assert both == grid.tiles(west) + grid.tiles(east)


def test_on_the_equator_the_north_starts_at_row_0_and_no_index_is_negative() -> None:
    grid = UtmGrid(10_000, 10)
    assert {tile.name for tile in grid.tiles(shapely.box(14.9, 0, 14.95, 0.05))} == {
        "32633_x0048_y0000",
        "32633_x0049_y0000",
    }
    south = grid.tiles(shapely.box(14.9, -0.05, 14.95, 0))
    assert {tile.name for tile in south} == {"32733_x0048_y0999", "32733_x0049_y0999"}


@pytest.mark.parametrize(
    "name",
    [
        "32633_x0000_y0000",  # far west of the strip
        "32633_x0050_y9999",  # beyond the pole
        "32633_x0050_y0940",  # beyond 84 N
        "32733_x0050_y0050",  # beyond 80 S
        "32733_x0050_y1000",  # north of the equator
        "32661_x0050_y0513",
        "3857_x0050_y0513",
        "32633_x50_y513",
        "32633_x00050_y00513",
        "32633_x0050_y0513 ",
        "32633_x-050_y0513",
    ],
)
def test_a_cell_outside_of_its_zone_does_not_exist(name: str) -> None:
    with pytest.raises(GridError, match=r"UTM grid of 10000 m has no tile .*: a name is 32633_x0050_y0513"):
        UtmGrid(10_000, 10).tile(name)


@pytest.mark.parametrize(
    ("size", "resolution", "message"),
    [
        (1005, 10, "tile size 1005 m is not a multiple of the resolution 10 m: the nearest is 1000 m"),
        (5, 10, "not a multiple .* the nearest is 10 m"),
        (0, 10, "tile size 0 m is not between 0 and 1,000,000 m"),
        (float("inf"), 10, "tile size inf m is not between"),
        (1000, 0, "resolution 0 is not a positive number"),
        (1000, float("nan"), "resolution nan is not a positive number"),
    ],
)
def test_a_cell_must_be_of_whole_pixels(size: float, resolution: float, message: str) -> None:
    with pytest.raises(GridError, match=message):
        UtmGrid(size, resolution)


def test_a_fraction_of_a_metre_is_fine_where_it_divides() -> None:
    assert UtmGrid(1000, 0.1).tile("32633_x0500_y5130").shape == (10_000, 10_000)
