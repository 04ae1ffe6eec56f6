"""Valid pixels: by class, by probability, grown by a disc, and frames by their share of them."""

import datetime as dt
from typing import Any

import numpy as np
import pytest
from eolearn.core import EOPatch, FeatureType
from eolearn.features import SimpleFilterTask
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from sentinelhub import CRS, BBox

from eo_assets.core.mask_classes import CLASSES, NO_DATA, SCHEMES, Scheme, class_value
from eo_assets.core.masks import (
    Below,
    ByValue,
    NotZero,
    dilated,
    invalid_classes,
    kept_frames,
    one_of,
    valid_classes,
    valid_pixels,
)

EVERY_BYTE = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
schemes = st.sampled_from(SCHEMES)


def disc(radius: int) -> NDArray[np.bool_]:
    """scikit-image's disk."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius)


def valid_values(rule: ByValue | NotZero | Below) -> list[int]:
    """The bytes that a rule lets through."""
    return np.flatnonzero(valid_pixels(EVERY_BYTE, rule)).tolist()


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=30)), st.integers(1, 35))
def test_an_area_grows_by_a_disc_and_each_frame_for_itself(area: NDArray[np.bool_], radius: int) -> None:
    before = area.copy()
    np.testing.assert_array_equal(dilated(area, radius), binary_dilation(area, disc(radius)[None]))
    np.testing.assert_array_equal(area, before)


@given(schemes, st.data())
def test_what_is_listed_as_valid_and_the_rest_as_invalid_say_the_same(scheme: Scheme, data: st.DataObject) -> None:
    names = [name for name in CLASSES[scheme] if name != NO_DATA]
    valid = data.draw(st.lists(st.sampled_from(names), unique=True))
    one = valid_classes(valid, scheme)
    other = invalid_classes([name for name in names if name not in valid], scheme)
    for found, expected in zip(one.split(EVERY_BYTE), other.split(EVERY_BYTE), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert valid_values(one) == sorted(CLASSES[scheme][name] for name in valid)


@given(schemes, st.data())
def test_names_and_numbers_say_the_same(scheme: Scheme, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(CLASSES[scheme])), min_size=1))
    numbers = [class_value(name, scheme) for name in names]
    assert valid_classes(names, scheme) == valid_classes(numbers, scheme)
    assert invalid_classes(names, scheme) == invalid_classes(numbers, scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_data_and_values_of_no_class_are_never_valid_where_classes_are_known(scheme: Scheme) -> None:
    known = CLASSES[scheme]
    first = next(name for name in known if name != NO_DATA)
    found = valid_values(invalid_classes([first], scheme))
    assert found == sorted(set(known.values()) - {known[first], known[NO_DATA]})


def test_clouds_spread_and_what_was_not_seen_does_not() -> None:
    # One row: no data, land x 4, cloud, land x 4, a value of no class, land x 4.
    values = np.zeros((1, 1, 16), np.uint8)
    values[0, 0, [0, 5, 10]] = 255, 4, 77
    rows = {
        "fmask": invalid_classes(["cloud"], "fmask"),
        "by valid": valid_classes(["clear_land"], "fmask"),
        "no data too": invalid_classes(["cloud", NO_DATA], "fmask"),
        "numbers": invalid_classes([4], None),
        "valid numbers": valid_classes([0], None),
    }
    found = {name: np.flatnonzero(~valid_pixels(values, rule, 2)).tolist() for name, rule in rows.items()}
    assert found == {
        "fmask": [0, 3, 4, 5, 6, 7, 10],
        "by valid": [0, 3, 4, 5, 6, 7, 10],
        "no data too": [0, 1, 2, 3, 4, 5, 6, 7, 10],
        "numbers": [3, 4, 5, 6, 7],
        "valid numbers": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    }


def test_a_probability_is_valid_below_its_threshold() -> None:
    assert valid_values(Below(102)) == list(range(102))
    values = np.array([[0.0, 0.39, 0.4, 1.0, -9999.0, np.nan]], np.float32)
    assert valid_pixels(values, Below(0.4)).tolist() == [[True, True, False, False, False, False]]


def test_a_probability_spreads_from_its_threshold_on_and_no_data_does_not() -> None:
    values = np.array([[np.nan, 0, 0, -1, 0, 0, 102, 0, 0]], np.float32)
    found = valid_pixels(values, Below(102), 1)
    assert found.tolist() == [[False, True, True, False, True, False, False, False, True]]


def test_nan_is_never_valid_by_a_list() -> None:
    values = np.array([[np.nan, 1.0, 4.0]])
    assert valid_pixels(values, invalid_classes([4], None)).tolist() == [[False, True, False]]
    assert valid_pixels(values, valid_classes([1], None)).tolist() == [[False, True, False]]


def test_a_bare_cast_lets_everything_through_but_zero() -> None:
    assert valid_values(NotZero()) == list(range(1, 256))
    values = np.array([[[0, 1, 1]]], np.uint8)
    assert valid_pixels(values, NotZero(), 1).tolist() == [[[False, False, True]]]


@given(
    st.sampled_from([np.uint8, np.int16, np.float32, np.bool_]).flatmap(lambda t: arrays(t, 20)),
    st.lists(st.integers(-300, 300)),
)
def test_one_of_a_few_is_what_numpy_says(values: NDArray[Any], listed: list[int]) -> None:
    np.testing.assert_array_equal(one_of(values, listed), np.isin(values, listed))


def coverage_above(threshold: float) -> Any:
    """eo-grow 1.7's ValidDataFractionPredicate."""

    def predicate(array: NDArray[Any]) -> Any:
        coverage = np.sum(array.astype(np.uint8)) / np.prod(array.shape)
        return (coverage > threshold).astype(bool)

    return predicate


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 8), st.integers(1, 8), st.just(1))), st.integers(0, 64))
def test_frames_are_dropped_as_eo_learn_drops_them(mask: NDArray[np.bool_], of_64: int) -> None:
    pixels = mask[0].size
    # A threshold that frames meet exactly: at it they are dropped.
    threshold = min(of_64, pixels) / pixels
    times = [dt.datetime(2020, 1, 1 + frame) for frame in range(len(mask))]
    patch = EOPatch(bbox=BBox((0, 0, 80, 80), CRS(32633)), timestamps=times, mask={"VALID": mask})
    kept = SimpleFilterTask((FeatureType.MASK, "VALID"), coverage_above(threshold)).execute(patch).timestamps
    counts = mask.sum(axis=(1, 2, 3)).tolist()
    assert kept == [times[frame] for frame in kept_frames(counts, pixels, threshold)]


def test_no_pixels_keep_no_frame() -> None:
    assert kept_frames([0, 0], 0, 0.5) == ()
