"""A tile's box, shape and transform agree with one another."""

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import array_bounds, rowcol

from eo_assets.core.tile import Bounds, Tile


@st.composite
def tiles(draw: st.DrawFn) -> Tile:
    resolution = draw(st.sampled_from([10.0, 20.0, 60.0, 0.0001, 0.0002]))
    height, width = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    left, bottom = draw(st.integers(-5000, 5000)) * resolution, draw(st.integers(-5000, 5000)) * resolution
    cell = Bounds(left, bottom, left + width * resolution, bottom + height * resolution)
    return Tile("t", 32633, cell, resolution, (draw(st.integers(0, 50)), draw(st.integers(0, 50))))


@given(tiles())
def test_shape_and_transform_give_the_bounds(tile: Tile) -> None:
    assert array_bounds(*tile.shape, tile.transform) == pytest.approx(tuple(tile.bounds), abs=1e-6 * tile.resolution)


@given(tiles())
def test_the_buffer_is_whole_pixels_on_each_side(tile: Tile) -> None:
    bare = dataclasses.replace(tile, buffer_px=(0, 0))
    assert bare.bounds == tile.cell
    assert tile.shape == (bare.shape[0] + 2 * tile.buffer_px[0], bare.shape[1] + 2 * tile.buffer_px[1])
    row, column = rowcol(tile.transform, tile.cell.left, tile.cell.top, op=float)
    assert (row, column) == pytest.approx(tile.buffer_px, abs=1e-3)


def test_a_buffer_is_y_then_x() -> None:
    tile = Tile("t", 32633, Bounds(0, 0, 100, 200), 10.0, (1, 3))
    assert tile.shape == (22, 16)
    assert tile.bounds == Bounds(-30, -10, 130, 210)


def test_tiles_are_values() -> None:
    tile = Tile("33UUU_3_7", 32633, Bounds(0, 0, 100, 100), 10.0)
    assert pickle.loads(pickle.dumps(tile)) == tile  # noqa: S301
    assert tile.order == (32633, "33UUU_3_7")
    with pytest.raises(dataclasses.FrozenInstanceError):
        tile.name = "other"  # type: ignore[misc]
