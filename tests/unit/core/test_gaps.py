"""Filled gaps against numpy's own interpolation, and against the ends and the longest gap."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eo_assets.core.gaps import GapMethod, fill_gaps

unhurried = settings(deadline=None)  # the first example may have to compile a loop


def pixel(*values: float) -> np.ndarray:
    """One pixel with one band, a value a period."""
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def filled(values: np.ndarray, days: Any, method: GapMethod, max_days: float | None = None) -> list[Any]:
    """The values of one pixel with one band, None where nothing is known."""
    found, _ = fill_gaps(values, np.asarray(days, np.float64), method, max_days)
    return [None if np.isnan(value) else float(value) for value in found.ravel()]


@st.composite
def composites(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Values with gaps, and days to the second."""
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    values = draw(arrays(np.float32, shape, elements=st.floats(0, 65_535, width=32)))
    values[draw(arrays(bool, shape[:3]))] = np.nan
    steps = draw(st.lists(st.integers(1, 200 * 86_400), min_size=shape[0], max_size=shape[0]))
    return values, np.cumsum(steps) / 86_400


@unhurried
@given(composites())
def test_linear_is_numpys_interpolation_between_clear_periods(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    values, days = drawn
    found, where = fill_gaps(values, days, "linear")
    for y, x, band in np.ndindex(values.shape[1:]):
        series = values[:, y, x, band].astype(np.float64)
        known = ~np.isnan(series)
        expected = np.full(len(series), np.nan)
        if known.any():
            expected = np.interp(days, days[known], series[known], left=np.nan, right=np.nan)
        np.testing.assert_allclose(found[:, y, x, band], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(where, np.isnan(values[..., 0]) & ~np.isnan(found[..., 0]))


@pytest.mark.parametrize("method", ["linear", "nearest", "none"])
@unhurried
@given(drawn=composites(), max_days=st.none() | st.floats(0.1, 400))
def test_what_is_clear_stays_and_what_was_filled_is_told(method: GapMethod, drawn: Any, max_days: float | None) -> None:
    values, days = drawn
    before = values.copy()
    found, where = fill_gaps(values, days, method, max_days)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(found[~where], values[~where])
    assert not np.isnan(found[where]).any()
    assert np.isnan(values[where]).all()


@unhurried
@given(composites(), st.floats(0.1, 400))
def test_nearest_is_the_nearest_that_is_near_enough(drawn: tuple[np.ndarray, np.ndarray], max_days: float) -> None:
    values, days = drawn
    found, _ = fill_gaps(values, days, "nearest", max_days)
    seconds, limit = np.round(days * 86_400).astype(int), round(max_days * 86_400)
    for gap, y, x in np.ndindex(values.shape[:3]):
        known = [p for p in range(len(days)) if not np.isnan(values[p, y, x]).any()]
        near = [p for p in known if abs(seconds[p] - seconds[gap]) <= limit]
        best = min(near, key=lambda p: abs(seconds[p] - seconds[gap]), default=None)
        expected = values[gap, y, x] if gap in known or best is None else values[best, y, x]
        np.testing.assert_array_equal(found[gap, y, x], expected)


def test_linear_weighs_days_and_not_periods() -> None:
    assert filled(pixel(10, np.nan, 20), [0, 9, 10], "linear") == [10, 19, 20]


def test_linear_never_goes_beyond_the_clear_periods() -> None:
    values = pixel(np.nan, 1, np.nan, 3, np.nan)
    assert filled(values, range(5), "linear") == [None, 1, 2, 3, None]
    assert filled(values, range(5), "nearest") == [1, 1, 1, 3, 3]
    assert filled(values, range(5), "none") == [None, 1, None, 3, None]


def test_the_longest_gap_lies_between_the_clear_periods_or_to_the_nearest() -> None:
    values = pixel(1, np.nan, np.nan, 4)
    assert filled(values, [0, 30, 60, 90], "linear", 90) == [1, 2, 3, 4]
    assert filled(values, [0, 30, 60, 90], "linear", 89.9) == [1, None, None, 4]
    assert filled(values, [0, 30, 60, 90], "nearest", 30) == [1, 1, 4, 4]
    assert filled(values, [0, 30, 60, 90], "nearest", 29.9) == [1, None, None, 4]


def test_a_gap_just_as_long_is_filled_whatever_days_round_to() -> None:
    start = 14_000.1 + 1 / 3
    assert filled(pixel(1, np.nan, 3), [start, start + 30, start + 60], "linear", 60) == [1, 2, 3]
    assert filled(pixel(1, np.nan, 3), [start, start + 30, start + 60], "nearest", 30) == [1, 1, 3]


def test_a_gap_of_one_band_is_a_gap_of_the_pixel() -> None:
    values = np.array([[1, 1], [7, np.nan], [3, 3]], np.float32).reshape(3, 1, 1, 2)
    found, where = fill_gaps(values, np.arange(3.0), "linear")
    assert found[1].ravel().tolist() == [2, 2]
    assert where.ravel().tolist() == [False, True, False]


@pytest.mark.parametrize("method", ["linear", "nearest", "none"])
def test_no_period_and_no_clear_period(method: GapMethod) -> None:
    assert fill_gaps(np.empty((0, 2, 2, 3), np.float32), np.empty(0), method)[0].shape == (0, 2, 2, 3)
    assert filled(pixel(np.nan, np.nan), [0, 1], method) == [None, None]


@pytest.mark.parametrize(
    ("values", "days", "message"),
    [
        (pixel(1, 2), [0.0], r"\(1,\) days for values \(2, 1, 1, 1\)"),
        (pixel(1, 2)[0], [0.0], r"\(period, y, x, band\) is wanted"),
        (pixel(1, 2), [1.0, 0.0], "not in order of time"),
        (pixel(1, 2), [1.0, 1.0], "not in order of time"),
    ],
)
def test_days_that_do_not_fit_are_refused(values: np.ndarray, days: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fill_gaps(values, np.array(days), "linear")
