"""Dates in order, columns by name, tiles that differ refused by name."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.periods import centres_of, periods_of
from eo_assets.core.time_axis import ascending, columns, common_dates, labels
from eo_assets.errors import ModelError, TileError


@given(st.lists(st.datetimes()))
def test_ascending_sorts_and_says_how(times: list[dt.datetime]) -> None:
    order, found = ascending(times)
    assert found == sorted(times)
    assert [times[i] for i in order] == found
    assert sorted(order) == list(range(len(times)))


def test_equal_times_keep_their_order() -> None:
    time = dt.datetime(2020, 1, 1)
    assert ascending([time, time, dt.datetime(2019, 1, 1)])[0] == [2, 0, 1]


def test_a_label_is_the_day() -> None:
    assert labels([dt.datetime(2020, 12, 31, 23, 59, 59), dt.datetime(2021, 1, 1)]) == ("2020-12-31", "2021-01-01")


def test_with_periods_a_label_is_the_period() -> None:
    periods = periods_of((dt.date(2020, 1, 1), dt.date(2020, 2, 29)), "months")
    assert labels(centres_of(periods), periods) == ("m01", "m02")


def test_dates_that_are_not_the_periods_are_refused() -> None:
    periods = periods_of((dt.date(2020, 1, 1), dt.date(2020, 2, 29)), "months")
    with pytest.raises(TileError, match=r"1 dates that are not the centres of the 2 periods .*--only features"):
        labels(centres_of(periods)[:1], periods)


def test_columns_are_date_by_date() -> None:
    assert columns(["a", "b"], ["NDVI", "B08"]) == ("NDVI_a", "B08_a", "NDVI_b", "B08_b")


def test_tiles_with_the_same_dates_agree() -> None:
    assert common_dates({"30NXL_0_0": ("2020-01-01",), "30NXL_0_1": ["2020-01-01"]}) == ("2020-01-01",)


@pytest.mark.parametrize("other", [("2020-01-01", "2020-01-03"), ("2020-01-01",), ("2020-01-02", "2020-01-01")])
def test_tiles_that_differ_are_refused_with_both_names(other: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=r"30NXL_0_0 and 30NXL_0_9 .*time_interval") as caught:
        common_dates({"30NXL_0_0": ("2020-01-01", "2020-01-02"), "30NXL_0_1": ("2020-01-01", "2020-01-02"),
                      "30NXL_0_9": other})  # fmt: skip
    if "2020-01-03" in other:
        assert "2020-01-03 alone" in str(caught.value)


def test_a_day_twice_is_refused_since_columns_would_share_a_name() -> None:
    with pytest.raises(ModelError, match=r"30NXL_0_0 has 2 acquisitions on 2020-01-01.*evalscript"):
        common_dates({"30NXL_0_0": ("2020-01-01", "2020-01-01")})
