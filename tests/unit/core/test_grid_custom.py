"""Grids of given cells."""

from __future__ import annotations

from dataclasses import replace

import pytest
import shapely

from eo_assets.core.custom_grid import Cell, CustomGrid
from eo_assets.core.tile import Bounds
from eo_assets.core.utm_grid import UtmGrid
from eo_assets.errors import AreaError, GridError


def cells_of(area: shapely.Polygon, size: float = 5000) -> tuple[Cell, ...]:
    """The cells that cover an area, under names of their own, in no order."""
    return tuple((f"plot-{n}", tile.epsg, tile.cell) for n, tile in enumerate(UtmGrid(size, 10).tiles(area)))[::-1]


AREA = shapely.box(11.9, 50, 12.1, 50.1)
CELL: Cell = ("plot", 32633, Bounds(500_000, 5_000_000, 501_000, 5_002_000))


def test_cells_keep_their_names_and_boxes_in_several_zones() -> None:
    cells = cells_of(AREA)
    grid = CustomGrid(cells, 10, (2, 3))
    tiles = grid.tiles(AREA)
    assert {tile.epsg for tile in tiles} == {32632, 32633}
    assert {(tile.name, tile.epsg, tile.cell) for tile in tiles} == set(cells)
    assert [tile.order for tile in tiles] == sorted(tile.order for tile in tiles)
    assert [grid.tile(tile.name) for tile in tiles] == tiles
    assert tiles[0].shape == (504, 506)


def test_only_the_cells_that_the_area_reaches_into_are_claimed() -> None:
    part = shapely.box(12.02, 50.02, 12.03, 50.03)
    assert set(CustomGrid(cells_of(AREA), 10).tiles(part)) < set(CustomGrid(cells_of(AREA), 10).tiles(AREA))


def test_cells_in_other_crs_work_too() -> None:
    degrees = CustomGrid((("a", 4326, Bounds(0, 0, 1, 1)), ("b", 4326, Bounds(1, 0, 2, 1))), 0.1)
    assert [tile.name for tile in degrees.tiles(shapely.box(0.5, 0.5, 1, 0.9))] == ["a"]
    europe = CustomGrid((("e", 3035, Bounds(4_300_000, 3_000_000, 4_400_000, 3_100_000)),), 100)
    assert [tile.name for tile in europe.tiles(shapely.box(10.1, 50.2, 10.3, 50.4))] == ["e"]


def test_cells_across_the_antimeridian_are_found_from_both_sides() -> None:
    fiji = CustomGrid((("f", 3832, Bounds(3_300_000, -2_000_000, 3_400_000, -1_900_000)),), 100)
    area = shapely.MultiPolygon([shapely.box(179.7, -17.2, 180, -17), shapely.box(-180, -17.2, -179.9, -17)])
    assert [tile.name for tile in fiji.tiles(area)] == ["f"]


def test_an_area_that_reaches_beyond_the_cells_is_refused_naming_a_place() -> None:
    with pytest.raises(
        AreaError, match=r"reaches beyond the custom grid, for example at longitude 12\.\d+, latitude 50"
    ):
        CustomGrid(cells_of(shapely.box(11.9, 50, 12.05, 50.1)), 10).tiles(AREA)
    with pytest.raises(AreaError, match="claims no cell"):
        CustomGrid(cells_of(AREA), 10).tiles(shapely.box(-60, 0, -59, 1))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ((), "has no cells"),
        ((CELL, CELL), "2 cells called 'plot'"),
        ((("../up", 32633, CELL[2]),), r"cell '\.\./up' can't be a folder's name"),
        (((".hidden", 32633, CELL[2]),), "can't be a folder's name"),
        ((("", 32633, CELL[2]),), "can't be a folder's name"),
        ((("plot", 999_999, CELL[2]),), "EPSG:999999 is not known"),
        (
            (("plot", 32633, Bounds(0, 0, 1005, 1000)),),
            r"cell plot \(EPSG:32633\) is 1005 wide, no whole number of pixels",
        ),
        ((("plot", 32633, Bounds(0, 0, 1000, 1003)),), "is 1003 high, no whole number of pixels of 10: mend the cell"),
        ((("plot", 32633, Bounds(10, 0, 0, 10)),), "is -10 wide"),
        ((("plot", 32633, Bounds(0, 0, float("nan"), 10)),), "is nan wide"),
    ],
)
def test_broken_cells_are_refused_by_name(cells: tuple[Cell, ...], message: str) -> None:
    with pytest.raises(GridError, match=message):
        CustomGrid(cells, 10)


def test_a_tile_that_is_not_there_is_refused() -> None:
    with pytest.raises(GridError, match="custom grid has no tile '30NXL_0_0': its names look like 'plot'"):
        CustomGrid((CELL,), 10).tile("30NXL_0_0")


def test_grids_are_values() -> None:
    grid = CustomGrid((CELL,), 10)
    assert grid.tile("plot") and grid == CustomGrid((CELL,), 10) != replace(grid, resolution=100)
    assert hash(grid) == hash(CustomGrid((CELL,), 10))
