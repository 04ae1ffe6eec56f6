"""Composites, indices and filled gaps beside eo-learn's own tasks on the same EOPatch."""

from __future__ import annotations

import datetime as dt
import warnings

import numpy as np
import pytest
import scipy.interpolate
from eolearn.core import EOPatch, FeatureType, merge_eopatches
from eolearn.features import NormalizedDifferenceIndexTask
from eolearn.features.extra.interpolation import InterpolationTask, LinearInterpolationTask
from sentinelhub import CRS, BBox

from eo_assets.core.composite import Method, composite
from eo_assets.core.gaps import fill_gaps
from eo_assets.core.periods import centres_of, frames_of, periods_of

BBOX = BBox((500_000, 5_000_000, 500_080, 5_000_060), CRS.UTM_33N)
BANDS, INDEX = (FeatureType.DATA, "BANDS"), (FeatureType.DATA, "INDEX")
YEAR = dt.date(2021, 1, 1), dt.date(2021, 12, 31)
PERIODS = periods_of(YEAR, "months")
RNG = np.random.default_rng(7)
TIMES = [dt.datetime(2021, 1, 1, 10) + dt.timedelta(days=5 * step) for step in range(73)]
NUMBERS = RNG.integers(0, 10_000, (len(TIMES), 6, 8, 3)).astype(np.uint16)
CLEAR = RNG.random(NUMBERS.shape[:3]) < 0.2  # of 576 months of pixels 146 have no clear observation
UNKNOWN_AS_NAN = np.where(CLEAR[..., None], NUMBERS, np.nan)


def patch(values: np.ndarray, times: list[dt.datetime]) -> EOPatch:
    """Bands in an EOPatch of eo-learn."""
    made = EOPatch(bbox=BBOX, timestamps=times)
    made[BANDS] = values
    return made


def ours(method: Method) -> np.ndarray:
    """The composite of twelve months."""
    index = (1, 0) if method == "max_index" else None
    return composite(NUMBERS, CLEAR, frames_of(PERIODS, TIMES), method, index)[0]


@pytest.mark.parametrize("method", ["median", "mean"])
def test_equals_the_merging_of_acquisitions_of_one_timestamp(method: Method) -> None:
    patches = [
        patch(UNKNOWN_AS_NAN[i : i + 1].astype(np.float32), [period.centre])
        for period, frames in zip(PERIODS, frames_of(PERIODS, TIMES))
        for i in frames
    ]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of slices that are NaN alone
        merged = merge_eopatches(*patches, time_dependent_op=method)
    assert merged.timestamps == list(centres_of(PERIODS))
    found = ours(method)
    assert np.isnan(found).any()
    np.testing.assert_allclose(found, merged[BANDS], rtol=0 if method == "median" else 2e-6)


def test_takes_the_acquisition_of_the_highest_normalised_difference() -> None:
    index = NormalizedDifferenceIndexTask(BANDS, INDEX, (1, 0)).execute(patch(UNKNOWN_AS_NAN, TIMES))[INDEX][..., 0]
    found = ours("max_index")
    for period, frames in enumerate(frames_of(PERIODS, TIMES)):
        known = ~np.isnan(index[list(frames)]).all(axis=0)
        best = np.array(frames)[np.nanargmax(np.where(known, index[list(frames)], 0), axis=0)]
        expected = np.take_along_axis(NUMBERS, best[None, ..., None], axis=0)[0]
        np.testing.assert_array_equal(found[period][known], expected[known])
        assert np.isnan(found[period][~known]).all()


def days() -> np.ndarray:
    """The centres of the months."""
    return np.array([(centre - dt.datetime(2021, 1, 1)).total_seconds() / 86_400 for centre in centres_of(PERIODS)])


def test_linear_gaps_are_those_of_the_linear_interpolation_task() -> None:
    values = ours("median")
    task = LinearInterpolationTask(BANDS, scale_time=1)
    expected = task.execute(patch(values.copy(), list(centres_of(PERIODS))))[BANDS]
    found, filled = fill_gaps(values, days(), "linear")
    assert filled.any()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_nearest_gaps_are_those_of_the_interpolation_task_with_nearest() -> None:
    values = ours("median")
    values[0, ...] = values[-1, ...] = 1.0  # scipy goes no further than the first and the last known value
    task = InterpolationTask(BANDS, scipy.interpolate.interp1d, kind="nearest", scale_time=1)
    expected = task.execute(patch(values.copy(), list(centres_of(PERIODS))))[BANDS]
    found, filled = fill_gaps(values, days(), "nearest")
    assert filled.any()
    np.testing.assert_array_equal(found, expected)
