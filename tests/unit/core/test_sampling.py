"""Blocks of samples against brute force, tile by tile and on the ground."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from eo_assets.core.sampling import (
    block_pixels,
    cell_window,
    draw_blocks,
    eligible_blocks,
    generator,
    ground_blocks,
    labelled,
    sample_counts,
)
from eo_assets.core.tile import Bounds, Tile

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))
sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(masks, sizes)
def test_eligible_blocks_equal_brute_force(mask: np.ndarray, block: tuple[int, int]) -> None:
    height, width = mask.shape[0] - block[0] + 1, mask.shape[1] - block[1] + 1
    found = eligible_blocks(mask, block)
    if height <= 0 or width <= 0:
        assert not found.size
        return
    assert found.shape == (height, width)
    for row, column in np.ndindex(height, width):
        assert found[row, column] == mask[row : row + block[0], column : column + block[1]].any()


@given(masks, sizes, st.integers(1, 100), st.integers(0, 99))
def test_drawn_blocks_lie_inside_and_hold_a_sampleable_pixel(
    mask: np.ndarray, block: tuple[int, int], number: int, seed: int
) -> None:
    eligible = eligible_blocks(mask, block)
    corners = draw_blocks(eligible, number, None, np.random.default_rng(seed))
    assert len(corners) == min(number, eligible.sum())
    assert len({tuple(corner) for corner in corners}) == len(corners)
    pixels = block_pixels(corners, block)
    assert pixels.shape == (len(corners) * block[0], block[1], 2)
    assert not pixels.size or ((pixels >= 0).all() and (pixels.max(axis=(0, 1)) < mask.shape).all())
    for one in pixels.reshape(len(corners), *block, 2):
        assert mask[one[..., 0], one[..., 1]].any()


@given(masks, st.floats(0.001, 1))
def test_a_fraction_is_of_the_eligible_blocks(mask: np.ndarray, fraction: float) -> None:
    eligible = eligible_blocks(mask, (1, 1))
    corners = draw_blocks(eligible, None, fraction, np.random.default_rng(0))
    assert len(corners) == round(fraction * eligible.sum())


@given(masks)
def test_all_pixels_can_be_drawn(mask: np.ndarray) -> None:
    corners = draw_blocks(eligible_blocks(mask, (1, 1)), mask.size, None, np.random.default_rng(0))
    np.testing.assert_array_equal(corners, np.argwhere(mask))


def test_blocks_stand_below_one_another_row_by_row() -> None:
    pixels = block_pixels(np.array([[0, 0], [10, 20]], np.int32), (2, 3))
    assert pixels.tolist()[0] == [[0, 0], [0, 1], [0, 2]]
    assert pixels.tolist()[3] == [[11, 20], [11, 21], [11, 22]]


def test_patchlets_of_32_pixels() -> None:
    mask = np.zeros((70, 70), bool)
    mask[40, 40] = True
    eligible = eligible_blocks(mask, (32, 32))
    assert eligible.sum() == (38 - 9 + 1) ** 2
    assert block_pixels(draw_blocks(eligible, 2, None, generator(1, "a")), (32, 32)).shape == (64, 32, 2)


def test_the_cell_is_the_tile_without_its_buffer() -> None:
    tile = Tile("t", 32633, Bounds(0, 0, 50, 40), 10.0, (1, 2))
    mask = np.zeros(tile.shape, bool)
    mask[cell_window(tile)] = True
    assert mask.sum() == 4 * 5
    assert not mask[:1].any() and not mask[-1:].any() and not mask[:, :2].any() and not mask[:, -2:].any()


def test_a_tiles_draw_depends_on_seed_and_name_alone() -> None:
    def draw(seed: int, name: str) -> list[int]:
        return generator(seed, name).integers(0, 1 << 30, 5).tolist()

    assert draw(42, "30NXL_0_0") == draw(42, "30NXL_0_0")
    assert draw(42, "30NXL_0_0") != draw(42, "30NXL_0_1")
    assert draw(42, "30NXL_0_0") != draw(43, "30NXL_0_0")
    assert draw(4, "2/a") != draw(42, "a")
    # Samples of a finished project must be drawn again alike, on any machine and in any version.
    assert draw(42, "30NXL_0_0") == [790992878, 391824005, 721325510, 448300188, 98447191]


def test_samples_are_counted_where_blocks_overlap() -> None:
    pixels = block_pixels(np.array([[0, 0], [0, 1]], np.int32), (2, 2))
    assert sample_counts(pixels, (3, 4))[..., 0].tolist() == [[1, 2, 1, 0], [1, 2, 1, 0], [0, 0, 0, 0]]
    many = block_pixels(np.zeros((300, 2), np.int32), (1, 1))
    assert sample_counts(many, (1, 1)) == 255


@given(
    st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 70), st.sampled_from([10.0, 120.0, 0.0001]),
    st.integers(0, 8),
)  # fmt: skip
def test_a_piece_of_ground_is_in_one_block_whichever_tile_shows_it(
    dx: int, dy: int, block_px: int, resolution: float, buffer: int
) -> None:
    def tile(name: str, column: int, row: int) -> Tile:
        left, top = column * resolution, row * resolution
        cell = Bounds(left, top - 40 * resolution, left + 40 * resolution, top)
        return Tile(name, 32630, cell, resolution, (buffer, buffer))

    first, second = tile("a", 50_000, 12_345), tile("b", 50_000 + dx, 12_345 + dy)
    rows, columns = np.meshgrid(np.arange(0, 40, 3), np.arange(0, 40, 3), indexing="ij")
    here = np.stack([rows.ravel(), columns.ravel()], axis=1)
    there = here + np.array([dy, -dx])
    np.testing.assert_array_equal(ground_blocks(here, first, block_px), ground_blocks(there, second, block_px))


def test_ground_blocks_are_whole_squares_of_pixels() -> None:
    tile = Tile("t", 32633, Bounds(0, -1280, 1280, 0), 10.0)
    pixels = np.argwhere(np.ones(tile.shape, bool))
    blocks, counts = np.unique(ground_blocks(pixels, tile, 64), axis=0, return_counts=True)
    assert counts.tolist() == [64 * 64] * 4
    assert blocks.tolist() == [[32633, -2, 0], [32633, -2, 1], [32633, -1, 0], [32633, -1, 1]]


@pytest.mark.parametrize(
    ("values", "nodata", "known"),
    [
        (np.array([0, 1, 255], np.uint8), 255, [True, True, False]),
        (np.array([0, 1, 255], np.uint8), 0, [False, True, True]),
        (np.array([0, 1, -9999], np.int16), -9999, [True, True, False]),
        (np.array([0, np.nan, 2], np.float32), np.nan, [True, False, True]),
        (np.array([0, np.nan, -1], np.float32), -1, [True, False, False]),
        (np.array([0, 255], np.uint8), np.nan, [True, True]),
        (np.array([0, 255], np.uint8), -1, [True, True]),
    ],
)
def test_nodata_is_what_the_project_says_and_not_zero(values: np.ndarray, nodata: float, known: list[bool]) -> None:
    assert labelled(values, nodata).tolist() == known
