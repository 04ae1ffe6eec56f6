"""Rounding, casting and nodata: nothing wrapped, clipped or swallowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eo_assets.core.encode import finish
from eo_assets.errors import ProjectError, TileError

INTEGERS = ["uint8", "int16", "uint16", "int32", "uint32"]


def test_nearest_and_truncate() -> None:
    values = np.array([[0.4, 0.6, 99.9, np.nan]], np.float32)
    common = {"dtype": "uint8", "source_nodata": np.nan, "nodata": 255}
    assert finish(values, rounding="nearest", **common).tolist() == [[0, 1, 100, 255]]
    assert finish(values, rounding="truncate", **common).tolist() == [[0, 0, 99, 255]]
    assert np.isnan(values[0, 3]), "the source is left alone"


def test_truncation_is_towards_zero() -> None:
    values = np.array([-1.7, 1.7])
    assert finish(values, rounding="truncate", dtype="int8", source_nodata=None, nodata=-128).tolist() == [-1, 1]


@given(st.sampled_from(INTEGERS), st.data())
def test_integers_pass_through_every_integer_type(dtype: str, data: st.DataObject) -> None:
    info = np.iinfo(dtype)
    values = data.draw(hnp.arrays(np.float64, 20, elements=st.integers(info.min, info.max - 1).map(float)))
    result = finish(values, rounding="nearest", dtype=dtype, source_nodata=np.nan, nodata=info.max)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.astype(np.float64), values)


@given(st.sampled_from(INTEGERS), st.floats(allow_nan=False, width=32), st.sampled_from(["nearest", "truncate"]))
def test_a_value_is_written_right_or_refused(dtype: str, value: float, rounding: str) -> None:
    info = np.iinfo(dtype)
    values = np.array([value], np.float32)
    expected = np.rint(value) if rounding == "nearest" else np.trunc(value)
    if info.min < expected <= info.max:
        result = finish(values, rounding=rounding, dtype=dtype, source_nodata=np.nan, nodata=info.min)
        assert int(result[0]) == int(expected)
    else:
        with pytest.raises(TileError):
            finish(values, rounding=rounding, dtype=dtype, source_nodata=np.nan, nodata=info.min)


def test_float32_does_not_hide_an_overflow_of_int32() -> None:
    with pytest.raises(TileError, match="do not fit int32"):
        finish(np.array([2.0**31], np.float32), rounding="nearest", dtype="int32", source_nodata=None, nodata=-1)


def test_a_valid_value_equal_to_nodata_is_refused_with_its_remedy() -> None:
    with pytest.raises(TileError, match=r"2 valid pixels have the value 255.*predictions\.clip"):
        finish(np.array([254.6, 255.0, 3.0]), rounding="nearest", dtype="uint8", source_nodata=np.nan, nodata=255)


def test_nan_is_data_only_by_mistake() -> None:
    for dtype in ("uint8", "float32"):
        with pytest.raises(TileError, match="NaN and not marked"):
            finish(np.array([np.nan]), rounding="nearest", dtype=dtype, source_nodata=-1.0, nodata=0)


def test_nodata_changes_code() -> None:
    values = np.array([0, 7, 9], np.uint8)
    result = finish(values, rounding="nearest", dtype="float32", source_nodata=0, nodata=np.nan)
    np.testing.assert_array_equal(result, np.array([np.nan, 7, 9], np.float32))
    coded = finish(
        np.array([-9999.9, 1], np.float32), rounding="nearest", dtype="uint8", source_nodata=-9999.9, nodata=0
    )
    assert coded.tolist() == [0, 1]
    assert finish(values, rounding="nearest", dtype="uint8", source_nodata=np.nan, nodata=255).tolist() == [0, 7, 9]


@pytest.mark.parametrize("nodata", [256, -1, 0.5, np.nan, np.inf])
def test_nodata_must_be_a_value_of_the_type(nodata: float) -> None:
    with pytest.raises(ProjectError, match="is no value of uint8"):
        finish(np.zeros(1), rounding="nearest", dtype="uint8", source_nodata=None, nodata=nodata)


def test_no_valid_pixel_and_no_pixel() -> None:
    assert (
        finish(np.full(3, np.nan), rounding="nearest", dtype="uint8", source_nodata=np.nan, nodata=9).tolist()
        == [9] * 3
    )
    assert finish(np.zeros((0, 4)), rounding="nearest", dtype="uint8", source_nodata=None, nodata=9).shape == (0, 4)


def test_a_float64_too_large_for_float32_is_refused() -> None:
    with pytest.raises(TileError, match="do not fit float32"):
        finish(np.array([1e300]), rounding="nearest", dtype="float32", source_nodata=np.nan, nodata=np.nan)
