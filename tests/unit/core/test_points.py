"""Points on pixels: each in one tile, in one pixel, whatever the edges and the buffers."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.points import Points, in_cell, label_raster, once, outside, pixels_of
from eo_assets.core.tile import Bounds, Tile

RESOLUTIONS = (10.0, 120.0, 0.0001, 0.3)


def neighbours(resolution: float, buffer: int) -> list[Tile]:
    """2 x 2 tiles of 5 x 4 pixels that share their edges, in a corner of the world that has no round numbers."""
    x = [resolution * (1234 + 4 * i) for i in range(3)]
    y = [resolution * (777 + 5 * i) for i in range(3)]
    return [
        Tile(f"{row}{column}", 32630, Bounds(x[column], y[row], x[column + 1], y[row + 1]), resolution, (buffer, 2))
        for row in range(2)
        for column in range(2)
    ]


@given(st.sampled_from(RESOLUTIONS), st.integers(0, 3), st.integers(0, 32), st.integers(0, 40), st.booleans())
def test_a_point_lies_in_one_tile_and_in_the_pixel_that_holds_it(
    resolution: float, buffer: int, column: int, row: int, at_quarters: bool
) -> None:
    # Quarters of a pixel: edges of pixels and cells, and what lies between.
    tiles = neighbours(resolution, buffer)
    step = resolution / (4 if at_quarters else 3)
    x = np.array([min(tiles[0].cell.left + column * step, tiles[1].cell.right)])
    y = np.array([max(tiles[2].cell.top - row * step, tiles[0].cell.bottom)])
    holding = [tile for tile in tiles if in_cell(x, y, tile)[0]]
    outermost = x[0] >= tiles[1].cell.right or y[0] <= tiles[0].cell.bottom
    assert len(holding) == (0 if outermost else 1)
    for tile in holding:
        [[pixel_row, pixel_column]] = pixels_of(x, y, tile)
        left, top = tile.transform @ (pixel_column, pixel_row)
        slack = 1e-6 * resolution
        assert left - slack <= x[0] <= left + resolution + slack
        assert top - resolution - slack <= y[0] <= top + slack
        assert buffer <= pixel_row < buffer + 5 and 2 <= pixel_column < 2 + 4, "never in the buffer"


def test_a_pixel_owns_its_left_and_upper_edge() -> None:
    tile = Tile("t", 32633, Bounds(0, 0, 40, 30), 10.0, (1, 2))
    x, y = np.array([0.0, 10.0, 9.999, 20.0]), np.array([30.0, 20.0, 20.0, 10.001])
    assert in_cell(x, y, tile).all()
    assert pixels_of(x, y, tile).tolist() == [[1, 2], [2, 3], [2, 2], [2, 4]]
    assert not in_cell(np.array([40.0, 0, -0.001, np.inf]), np.array([30.0, 0, 30, 5]), tile).any()


def table(pixels: list[list[int]], labels: list[float], dtype: str = "uint8") -> Points:
    n = len(pixels)
    return Points(
        np.array(pixels, np.int32).reshape(n, 2),
        np.array([f"p{i}" for i in range(n)], dtype=np.str_),
        np.array(labels, dtype),
        np.full(n, "NaT", "datetime64[D]"),
        np.ones(n, np.float32),
    )


def test_of_several_points_in_a_pixel_the_raster_shows_the_last() -> None:
    points = table([[4, 1], [5, 0], [4, 1], [4, 1]], [1, 2, 3, 4])
    assert label_raster(points, slice(4, 6), 3, 255).tolist() == [[255, 4, 255], [2, 255, 255]]
    assert points.take(np.array([True, False, True, False])).ids.tolist() == ["p0", "p2"]


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", float("nan"))])
def test_without_points_all_is_nodata(dtype: str, nodata: float) -> None:
    raster = label_raster(table([], [], dtype), slice(0, 2), 2, nodata)
    np.testing.assert_array_equal(raster, np.full((2, 2), nodata, dtype))


def test_of_points_in_several_tiles_the_first_is_kept() -> None:
    assert once(np.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 3]
    assert once(np.empty(0, "U1")).tolist() == []


def test_the_days_of_an_interval_belong_to_it_and_an_unknown_date_is_nowhere() -> None:
    dates = np.array(["2019-12-31", "2020-01-01", "2020-12-31", "2021-01-01", "NaT"], "datetime64[D]")
    found = outside(dates, dt.date(2020, 1, 1), dt.date(2020, 12, 31))
    assert found.tolist() == [True, False, False, True, False]
