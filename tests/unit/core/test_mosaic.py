"""The pixel lattice, where tiles lie on it, and which tile owns a pixel."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_assets.core.mosaic import Lattice, lattice_of, map_bounds, mosaic_rows, owned_pixels, place
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import GridError, TileError

LEFT, TOP = 600_000, 5_000_040  # multiples of 120


def tile(name: str, left: float, top: float, size: float = 600, resolution: float = 60, buffer: int = 0) -> Tile:
    return Tile(name, 32633, Bounds(left, top - size, left + size, top), resolution, (buffer, buffer))


@st.composite
def tilings(draw: st.DrawFn) -> list[Tile]:
    """Tiles of a few pixels anywhere near each other, on the lattice and off it, of one or several sizes."""
    resolution = draw(st.sampled_from([10, 60, 120, 240, 360, 0.0001]))
    step = resolution / draw(st.sampled_from([1, 1, 2, 4, 6]))
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=2))
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True))
    tiles = []
    for name in names:
        size, buffer = draw(st.sampled_from(sizes)) * resolution, draw(st.integers(0, 2))
        left, top = draw(st.integers(-20, 20)) * step, draw(st.integers(-20, 20)) * step
        tiles.append(tile(name, left, top, size, resolution, buffer))
    return tiles


def ordinal(tiles: list[Tile]) -> dict[str, int]:
    return {name: number + 1 for number, name in enumerate(sorted(tile.name for tile in tiles))}


def owners(tiles: list[Tile], block: int = 1000) -> np.ndarray:
    """The map whose values are the ordinal of the owning tile's name, 0 for nodata."""
    numbers, lattice = ordinal(tiles), lattice_of(tiles)

    def read(tile: Tile, rows: slice) -> np.ndarray:
        return np.full((rows.stop - rows.start, tile.shape[1]), numbers[tile.name], np.int16)

    blocks = [mosaic_rows(lattice, tiles, rows, read, dtype="int16", nodata=0) for rows in lattice.row_blocks(block)]
    return np.concatenate(blocks)


def brute_force_owners(tiles: list[Tile]) -> np.ndarray:
    """Pixel by pixel, in rational numbers of pixels, straight from the rule."""
    lattice, numbers = lattice_of(tiles), ordinal(tiles)

    def pixels(length: float) -> Fraction:
        return Fraction(length / lattice.resolution).limit_denominator(720)

    candidates: dict[tuple[int, int], list[tuple[Fraction, str]]] = {}
    for one in tiles:
        bounds, (height, width) = one.bounds, one.shape
        x, y = pixels(bounds.left) - pixels(lattice.bounds.left), pixels(lattice.bounds.top) - pixels(bounds.top)
        first_row, first_column = (y + Fraction(1, 2)).__floor__(), (x + Fraction(1, 2)).__floor__()
        for row in range(first_row, first_row + height):
            for column in range(first_column, first_column + width):
                dy = row + Fraction(1, 2) - (y + Fraction(height, 2))
                dx = column + Fraction(1, 2) - (x + Fraction(width, 2))
                candidates.setdefault((row, column), []).append((dy * dy + dx * dx, one.name))
    expected = np.zeros(lattice.shape, np.int16)
    for pixel, claims in candidates.items():
        expected[pixel] = numbers[min(claims)[1]]
    return expected


@given(tilings())
@settings(max_examples=60, deadline=None)
def test_owner_is_the_tile_with_the_nearest_centre_then_the_first_name(tiles: list[Tile]) -> None:
    np.testing.assert_array_equal(owners(tiles), brute_force_owners(tiles))


@given(tilings())
@settings(max_examples=60, deadline=None)
def test_every_pixel_of_the_union_is_owned_once(tiles: list[Tile]) -> None:
    lattice = lattice_of(tiles)
    placements = [place(one, lattice) for one in tiles]
    owned, covered = np.zeros(lattice.shape, int), np.zeros(lattice.shape, bool)
    for placed in placements:
        owned[placed.rows, placed.columns] += owned_pixels(placed, placements, placed.rows)
        covered[placed.rows, placed.columns] = True
    np.testing.assert_array_equal(owned, covered)


@given(tilings(), st.randoms(use_true_random=False), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_neither_the_order_of_tiles_nor_the_height_of_blocks_matters(tiles: list[Tile], random, block: int) -> None:
    shuffled = random.sample(tiles, len(tiles))
    np.testing.assert_array_equal(owners(tiles), owners(shuffled, block))


@given(tilings())
@settings(max_examples=60, deadline=None)
def test_lattice_is_anchored_and_tiles_move_by_half_a_pixel_at_most(tiles: list[Tile]) -> None:
    lattice = lattice_of(tiles)
    for edge in lattice.bounds:
        assert edge / lattice.resolution == pytest.approx(round(edge / lattice.resolution), abs=1e-6)
    for one in tiles:
        placed = place(one, lattice)
        y, x = placed.shift
        assert max(abs(y), abs(x)) <= lattice.resolution * 0.5000001
        assert placed.row >= 0 and placed.column >= 0
        assert placed.rows.stop <= lattice.shape[0] and placed.columns.stop <= lattice.shape[1]
        moved = map_bounds(one)
        assert (moved.left - one.bounds.left, moved.top - one.bounds.top) == pytest.approx((x, y), abs=1e-6)
        left, top = lattice.transform @ (placed.column, placed.row)
        assert (left, top) == pytest.approx((moved.left, moved.top), abs=1e-6)


def test_neighbours_off_the_lattice_leave_no_gap() -> None:
    """Tiling grid 2 at 120 m: phases of 60 m, cells that touch or overlap. Halves to even would tear them apart."""
    for phase in (0, 60, 120, 180):
        left = tile("a", LEFT + phase, TOP, 600, 120)
        right = tile("b", LEFT + phase + 600, TOP, 600, 120)
        below = tile("c", LEFT + phase, TOP - 600, 1200, 120)
        assert (owners([left, right, below]) > 0)[:5].all()


def test_aligned_tiles_without_overlap_are_copied_exactly() -> None:
    random = np.random.default_rng(1)
    tiles = [tile(f"{x}{y}", LEFT + 600 * x, TOP - 600 * y) for x in range(3) for y in range(2)]
    values = {one.name: random.normal(size=one.shape).astype(np.float32) for one in tiles}
    lattice = lattice_of(tiles)
    result = mosaic_rows(lattice, tiles, slice(0, 20), lambda t, r: values[t.name][r], dtype="float32", nodata=np.nan)
    expected = np.block([[values[f"{x}{y}"] for x in range(3)] for y in range(2)])
    np.testing.assert_array_equal(result, expected)
    assert lattice == Lattice(32633, 60, Bounds(LEFT, TOP - 1200, LEFT + 1800, TOP))
    assert [place(one, lattice).shift for one in tiles] == [(0.0, 0.0)] * 6


def test_a_tile_without_data_is_a_hole_that_no_buffer_fills() -> None:
    left, right = tile("a", LEFT, TOP, buffer=3), tile("b", LEFT + 600, TOP, buffer=3)

    def read(one: Tile, rows: slice) -> np.ndarray | None:
        return None if one.name == "b" else np.ones((rows.stop - rows.start, one.shape[1]), np.uint8)

    result = mosaic_rows(lattice_of([left, right]), [left, right], slice(0, 16), read, dtype="uint8", nodata=255)
    assert (result[:, :13] == 1).all() and (result[:, 13:] == 255).all()


def test_only_tiles_that_own_pixels_of_the_rows_are_read_once_each() -> None:
    column = [tile(f"t{i}", LEFT, TOP - 600 * i) for i in range(4)]
    hidden = [tile("x", LEFT, TOP, 600), tile("y", LEFT, TOP, 600)]  # the same place: x owns all of it
    seen: list[tuple[str, int, int]] = []

    def read(one: Tile, rows: slice) -> np.ndarray:
        seen.append((one.name, rows.start, rows.stop))
        return np.zeros((rows.stop - rows.start, one.shape[1]), np.uint8)

    mosaic_rows(lattice_of(column), column, slice(5, 15), read, dtype="uint8", nodata=255)
    mosaic_rows(lattice_of(hidden), hidden, slice(0, 10), read, dtype="uint8", nodata=255)
    assert seen == [("t0", 5, 10), ("t1", 0, 5), ("x", 0, 10)]


def test_what_belongs_to_another_map_is_nodata() -> None:
    class EastHalf:
        def mask(self, rows: slice) -> np.ndarray:
            return np.tile(np.arange(10) >= 5, (rows.stop - rows.start, 1))

    only = tile("a", LEFT, TOP)
    result = mosaic_rows(
        lattice_of([only]), [only], slice(0, 10), lambda t, r: np.ones((10, 10), np.uint8), dtype="uint8", nodata=9,
        claims=EastHalf(),
    )  # fmt: skip
    assert (result[:, :5] == 1).all() and (result[:, 5:] == 9).all()


def test_degrees_tie_as_exactly_as_metres() -> None:
    """0.0001 degrees is no binary fraction: float64 coordinates would decide this tie by rounding noise."""
    west = Tile("w", 4326, Bounds(5, 10, 5.001, 10.001), 0.0001, (1, 1))
    east = Tile("e", 4326, Bounds(5.001, 10, 5.002, 10.001), 0.0001, (2, 2))
    np.testing.assert_array_equal(owners([west, east]), brute_force_owners([west, east]))


@pytest.mark.parametrize(
    ("tiles", "words"),
    [
        ([], "at least one tile"),
        ([tile("a", 0, 0), tile("a", 600, 0)], "named twice: a"),
        ([tile("a", 0, 0), tile("b", 600, 0, resolution=10)], "a in EPSG:32633 at 60"),
    ],
)
def test_tiles_that_can_not_make_one_map_are_refused(tiles: list[Tile], words: str) -> None:
    with pytest.raises(GridError, match=words):
        lattice_of(tiles)


def test_a_tile_of_another_resolution_can_not_be_placed() -> None:
    with pytest.raises(GridError, match="Tile b is in EPSG:32633 at 10"):
        place(tile("b", 0, 0, resolution=10), lattice_of([tile("a", 0, 0)]))


@pytest.mark.parametrize("wrong", [np.zeros((10, 9), np.uint8), np.zeros((10, 10), np.float32)])
def test_a_source_that_does_not_fit_names_its_tile(wrong: np.ndarray) -> None:
    only = tile("33UUU_3_7", LEFT, TOP)
    with pytest.raises(TileError, match=r"33UUU_3_7.*run the stage before it again"):
        mosaic_rows(lattice_of([only]), [only], slice(0, 10), lambda t, r: wrong, dtype="uint8", nodata=0)
