"""Features against a second, slow calculation, and against the ways in which bands may be stored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from eo_assets.core.features import FeaturePlan, feature_block, feature_stack, whole_pixels

FACTOR = 0.0001
PLAN = FeaturePlan(names=("NDVI", "NDWI", "B04", "B08"), indices=((2, 1), (0, 2)), bands=(1, 2))

stacks = arrays(np.uint16, array_shapes(min_dims=4, max_dims=4, max_side=4).map(lambda shape: (*shape[:3], 3)))


def slowly(numbers: np.ndarray, factor: float) -> np.ndarray:
    """PLAN, pixel by pixel, in Python floats."""
    out = np.empty((*numbers.shape[:3], 4), dtype=np.float32)
    for place in np.ndindex(numbers.shape[:3]):
        green, red, nir = (float(number) * factor for number in numbers[place])
        ndvi = (nir - red) / (nir + red) if nir + red else float("nan")
        ndwi = (green - nir) / (green + nir) if green + nir else float("nan")
        out[place] = (ndvi, ndwi, red, nir)
    return out


@settings(deadline=None)  # the first example compiles
@given(stacks)
def test_equals_the_slow_calculation_bit_by_bit(numbers: np.ndarray) -> None:
    found = feature_stack(numbers, FACTOR, None, PLAN)
    assert found.dtype == np.float32
    assert found.tobytes() == slowly(numbers, FACTOR).tobytes() or np.array_equal(
        found, slowly(numbers, FACTOR), equal_nan=True
    )


@settings(deadline=None)  # and so does each type
@given(stacks, st.sampled_from([np.int32, np.int64, np.uint32, np.float32, np.float64]))
def test_does_not_depend_on_how_numbers_are_stored(numbers: np.ndarray, dtype: type) -> None:
    first = feature_stack(numbers, FACTOR, None, PLAN)
    np.testing.assert_array_equal(feature_stack(numbers.astype(dtype), FACTOR, None, PLAN), first)
    np.testing.assert_array_equal(feature_stack(np.asfortranarray(numbers), FACTOR, None, PLAN), first)


@settings(deadline=None)
@given(stacks, st.data())
def test_invalid_pixels_are_nan_in_every_column_and_change_no_other(numbers: np.ndarray, data: st.DataObject) -> None:
    valid = data.draw(arrays(bool, numbers.shape[:3]))
    found = feature_stack(numbers, FACTOR, valid, PLAN)
    assert np.isnan(found[~valid]).all()
    np.testing.assert_array_equal(found[valid], feature_stack(numbers, FACTOR, None, PLAN)[valid])


def test_an_index_of_zeros_is_nan_and_its_bands_are_zero() -> None:
    found = feature_stack(np.zeros((1, 1, 1, 3), np.uint16), FACTOR, None, PLAN)[0, 0, 0]
    assert np.isnan(found[:2]).all()
    assert (found[2:] == 0).all()


def normalized_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    plan = FeaturePlan(("INDEX",), ((0, 1),), ())
    return feature_stack(np.stack([first, second], axis=-1)[None, None], 1.0, None, plan)[0, 0, :, 0]


@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, 20, elements=st.floats(0, 1)), arrays(np.float64, 20, elements=st.floats(0, 1)))
def test_an_index_of_reflectances_lies_between_minus_one_and_one(first: np.ndarray, second: np.ndarray) -> None:
    index = normalized_difference(first, second)
    assert (np.isnan(index) == (first + second == 0)).all()
    assert (np.abs(index[~np.isnan(index)]) <= 1).all()


def test_opposite_values_are_nan_and_not_infinite() -> None:
    assert np.isnan(normalized_difference(np.array([0.25]), np.array([-0.25]))).all()


@settings(deadline=None)
@given(stacks, st.data())
def test_complete_pixels_are_those_without_a_nan(numbers: np.ndarray, data: st.DataObject) -> None:
    valid = data.draw(st.none() | arrays(bool, numbers.shape[:3]))
    stack, complete = feature_block(numbers, FACTOR, valid, PLAN)
    assert complete == (~np.isnan(stack)).all(axis=-1).sum()


def test_nan_bands_stay_nan() -> None:
    numbers = np.array([[[[np.nan, 1.0, 2.0]]]])
    found = feature_stack(numbers, 1.0, None, PLAN)[0, 0, 0]
    np.testing.assert_array_equal(np.isnan(found), [False, True, False, False])


@pytest.mark.parametrize("dates", [0, 3])
def test_any_number_of_dates(dates: int) -> None:
    assert feature_stack(np.ones((dates, 2, 2, 3), np.uint16), FACTOR, None, PLAN).shape == (dates, 2, 2, 4)


def test_what_would_leave_an_array_is_refused() -> None:
    numbers = np.ones((1, 2, 2, 3), np.uint16)
    with pytest.raises(ValueError, match="1 names for 1 indices and 2 bands"):
        FeaturePlan(("NDVI",), ((0, 1),), (1, 2))
    with pytest.raises(ValueError, match="band 3 of 3"):
        feature_block(numbers, FACTOR, None, FeaturePlan(("NDVI",), ((0, 3),), ()))
    with pytest.raises(ValueError, match="a mask of"):
        feature_block(numbers, FACTOR, np.ones((1, 2, 1), bool), PLAN)


floats = st.floats(width=32, allow_nan=False) | st.just(float("nan"))


@settings(deadline=None)
@given(arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=4), elements=floats), st.booleans())
def test_a_pixel_is_whole_if_some_date_has_all_features(block: np.ndarray, turned: bool) -> None:
    stored = np.asfortranarray(block) if turned else block
    np.testing.assert_array_equal(whole_pixels(stored), (~np.isnan(block)).all(axis=-1).any(axis=0))
