"""Composites against a second, slow calculation, and against whatever may stand in pixels that are not clear."""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eo_assets.core import composite as module
from eo_assets.core.composite import Method, composite

unhurried = settings(deadline=None)  # the first example may have to compile a loop
METHODS: tuple[Method, ...] = ("median", "mean", "max_index", "geomedian")
Series = tuple[np.ndarray, np.ndarray, tuple[tuple[int, ...], ...]]


def run(numbers: np.ndarray, clear: np.ndarray | None, frames: Sequence[Sequence[int]], method: Method) -> Any:
    """A composite, with the index of the last band over the first where the method wants one."""
    return composite(numbers, clear, frames, method, (numbers.shape[3] - 1, 0) if method == "max_index" else None)


@st.composite
def series(draw: st.DrawFn, dtype: type = np.uint16) -> Series:
    """A small series, its mask, and periods that hold any acquisitions of it, also none."""
    times, height, width = draw(st.integers(0, 7)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    bands = draw(st.integers(2, 5))
    few = st.sampled_from([0, 1, 2, 7, 65_534, 65_535])
    elements = few | st.integers(0, 65_535) if dtype == np.uint16 else st.floats(-10, 10, width=32)
    numbers = draw(arrays(dtype, (times, height, width, bands), elements=elements))
    clear = draw(arrays(bool, (times, height, width)))
    edges = sorted(draw(st.lists(st.integers(0, times), min_size=2, max_size=4)))
    return numbers, clear, tuple(tuple(range(a, b)) for a, b in itertools.pairwise(edges))


def slowly(pixels: list[list[float]], method: Method) -> tuple[list[float], int]:
    """One pixel of one period from its clear observations, in Python numbers."""
    if method == "max_index":
        pixels = [p for p in pixels if p[-1] + p[0] != 0]
        pixels = [max(pixels, key=lambda p: (p[-1] - p[0]) / (p[-1] + p[0]))] * len(pixels) if pixels else []
    if not pixels:
        return [math.nan] * 9, 0
    middle = statistics.median if method == "median" else statistics.mean
    return [middle(values) for values in zip(*pixels, strict=True)], len(pixels)


@pytest.mark.parametrize("method", ["median", "mean", "max_index"])
@unhurried
@given(data=st.data())
def test_equals_the_slow_calculation_bit_by_bit(method: Method, data: st.DataObject) -> None:
    numbers, clear, frames = data.draw(series())
    values, counts = run(numbers, clear, frames, method)
    assert values.dtype == np.float32
    assert counts.dtype == np.uint16
    for period, y, x in np.ndindex(values.shape[:3]):
        pixels = [[int(n) for n in numbers[i, y, x]] for i in frames[period] if clear[i, y, x]]
        expected, count = slowly(pixels, method)
        assert counts[period, y, x] == count
        np.testing.assert_array_equal(values[period, y, x], np.float32(expected[: numbers.shape[3]]))


@pytest.mark.parametrize("method", METHODS)
@unhurried
@given(data=st.data())
def test_what_is_not_clear_changes_nothing(method: Method, data: st.DataObject) -> None:
    numbers, clear, frames = data.draw(series())
    poison = data.draw(arrays(np.uint16, numbers.shape, elements=st.sampled_from([0, 1, 65_535])))
    poisoned = np.where(clear[..., None], numbers, poison)
    for found, expected in zip(run(poisoned, clear, frames, method), run(numbers, clear, frames, method)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", METHODS)
@unhurried
@given(data=st.data())
def test_floats_that_are_not_clear_change_nothing(method: Method, data: st.DataObject) -> None:
    numbers, clear, frames = data.draw(series(np.float32))
    extreme = st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0])
    poison = data.draw(arrays(np.float32, numbers.shape, elements=extreme))
    poisoned = np.where(clear[..., None], numbers, poison)
    for found, expected in zip(run(poisoned, clear, frames, method), run(numbers, clear, frames, method)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_an_observation_with_one_band_unknown_is_left_out_whole(method: Method, unknown: float) -> None:
    numbers = np.array([[1, 2, 3], [4, unknown, 9], [2, 3, 4]], np.float32).reshape(3, 1, 1, 3)
    found = run(numbers, None, [(0, 1, 2)], method)
    expected = run(numbers[[0, 2]], None, [(0, 1)], method)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1].item() == 2


@pytest.mark.parametrize("method", METHODS)
@unhurried
@given(data=st.data())
def test_nothing_is_known_exactly_where_nothing_was_counted(method: Method, data: st.DataObject) -> None:
    numbers, clear, frames = data.draw(series())
    values, counts = run(numbers, clear, frames, method)
    np.testing.assert_array_equal(np.isnan(values), np.broadcast_to((counts == 0)[..., None], values.shape))


@pytest.mark.parametrize("method", METHODS)
@unhurried
@given(data=st.data())
def test_does_not_depend_on_the_block_a_pixel_is_in(method: Method, data: st.DataObject) -> None:
    numbers, clear, frames = data.draw(series())
    values, counts = run(numbers, clear, frames, method)
    x = data.draw(st.integers(0, numbers.shape[2] - 1))
    alone = run(numbers[:, :, x : x + 1], clear[:, :, x : x + 1], frames, method)
    np.testing.assert_array_equal(alone[0], values[:, :, x : x + 1])
    np.testing.assert_array_equal(alone[1], counts[:, :, x : x + 1])


@pytest.mark.parametrize("method", ["median", "mean", "geomedian"])
@unhurried
@given(data=st.data())
def test_lies_between_the_least_and_the_greatest(method: Method, data: st.DataObject) -> None:
    numbers, _, _ = data.draw(series().filter(lambda s: len(s[0]) > 0))
    values, _ = run(numbers, None, [range(len(numbers))], method)
    assert (values >= numbers.min(axis=0) - 0.02).all()
    assert (values <= numbers.max(axis=0) + 0.02).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32, np.float64])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_does_not_depend_on_how_numbers_are_stored(method: Method, dtype: type, data: st.DataObject) -> None:
    numbers, clear, frames = data.draw(series())
    expected, counts = run(numbers, clear, frames, method)
    strided = np.asfortranarray(numbers.astype(dtype))
    strided.flags.writeable = False
    for stored in (numbers.astype(dtype), strided):
        found = run(stored, np.asfortranarray(clear), frames, method)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], counts)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_are_left_as_they_were(method: Method) -> None:
    numbers, clear = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3), np.ones((4, 1, 2), bool)
    numbers[1, 0, 0, 0] = np.nan
    before = numbers.copy()
    run(numbers, clear, [(0, 1, 2, 3)], method)
    np.testing.assert_array_equal(numbers, before)
    assert clear.all()


def test_the_median_of_an_even_number_is_exact_in_half_numbers() -> None:
    numbers = np.array([65_535, 65_534, 0, 65_535], np.uint16).reshape(4, 1, 1, 1)
    assert run(numbers, None, [(0, 1)], "median")[0].item() == 65_534.5
    assert run(numbers, None, [(0, 1, 2, 3)], "median")[0].item() == 65_534.5


@unhurried
@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=200))
@example([1] * 150)
@example(list(range(150)))
@example(list(range(150, 0, -1)))
def test_the_median_of_many_is_numpys(numbers: list[int]) -> None:
    array = np.array(numbers, np.uint16).reshape(-1, 1, 1, 1)
    assert run(array, None, [range(len(numbers))], "median")[0].item() == np.median(numbers)


def test_of_equal_indices_the_earliest_acquisition_is_taken() -> None:
    numbers = np.array([[1, 2], [2, 4], [400, 800], [5, 5]], np.uint16).reshape(4, 1, 1, 2)
    assert run(numbers, None, [(0, 1, 2, 3)], "max_index")[0].ravel().tolist() == [1, 2]
    assert run(numbers, None, [(2, 0, 1)], "max_index")[0].ravel().tolist() == [400, 800]


def test_an_undefined_index_loses_to_every_other_and_alone_is_nothing() -> None:
    numbers = np.array([[0, 0], [9, 1], [0, 0]], np.uint16).reshape(3, 1, 1, 2)
    values, counts = run(numbers, None, [(0, 1), (0, 2)], "max_index")
    assert values[0].ravel().tolist() == [9, 1]
    assert np.isnan(values[1]).all()
    assert counts.ravel().tolist() == [1, 0]


@pytest.mark.parametrize("method", METHODS)
def test_any_periods_of_no_acquisitions(method: Method) -> None:
    values, counts = run(np.ones((0, 2, 3, 4), np.uint16), np.ones((0, 2, 3), bool), [(), ()], method)
    assert values.shape == (2, 2, 3, 4)
    assert np.isnan(values).all()
    assert not counts.any()
    assert run(np.ones((1, 2, 3, 4), np.float32), None, [], method)[0].shape == (0, 2, 3, 4)


NUMBERS = np.ones((2, 1, 1, 3), np.uint16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NUMBERS[0], None, [(0,)], "median"), r"\(1, 1, 3\) are not \(time, y, x, band\)"),
        ((NUMBERS, np.ones((2, 1, 2), bool), [(0,)], "median"), r"clear is bool \(2, 1, 2\), for numbers"),
        ((NUMBERS, np.ones((2, 1, 1), np.uint8), [(0,)], "median"), "clear is uint8 .* bool"),
        ((NUMBERS, None, [(0,), (2,)], "mean"), "acquisition 2 of 2"),
        ((NUMBERS, None, [(-3,)], "mean"), "acquisition -3 of 2"),
        ((NUMBERS, None, [(0,)], "max_index"), "max_index with index None"),
        ((NUMBERS, None, [(0,)], "mean", (0, 1)), r"mean with index \(0, 1\)"),
        ((NUMBERS, None, [(0,)], "max_index", (0, 3)), r"\(0, 3\) names a band"),
    ],
)
def test_what_compiled_loops_can_not_check_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        composite(*arguments)


def test_more_acquisitions_than_can_be_counted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FRAMES", 1)
    with pytest.raises(ValueError, match=r"more than 1 acquisitions.*make more periods"):
        composite(NUMBERS, None, [(0, 1)], "median")
