"""Periods: they follow on one another without gap or overlap, and are named without their year."""

import datetime as dt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eo_assets.core.periods import Period, centres_of, frames_of, labels_of, periods_of

DAYS = st.dates(dt.date(1972, 1, 1), dt.date(2099, 1, 1))
YEAR = (dt.date(2017, 1, 1), dt.date(2017, 12, 31))


@st.composite
def intervals(draw: st.DrawFn) -> tuple[dt.date, dt.date]:
    first = draw(DAYS)
    return first, first + dt.timedelta(days=draw(st.integers(0, 1500)))


@given(intervals(), st.one_of(st.integers(1, 400), st.just("months")))
def test_periods_fill_the_interval_without_gap_or_overlap(interval, cut) -> None:  # type: ignore[no-untyped-def]
    assume(cut == "months" or cut <= (interval[1] - interval[0]).days + 1)
    periods = periods_of(interval, cut)
    assert periods[0].start == dt.datetime.combine(interval[0], dt.time.min)
    assert periods[-1].end == dt.datetime.combine(interval[1] + dt.timedelta(days=1), dt.time.min)
    assert [period.end for period in periods[:-1]] == [period.start for period in periods[1:]]
    assert all(period.start < period.centre < period.end for period in periods)
    assert len(set(labels_of(periods))) == len(periods)


@given(intervals(), st.lists(st.datetimes(dt.datetime(1972, 1, 1), dt.datetime(2103, 1, 1)), max_size=20))
def test_an_acquisition_of_the_interval_is_in_one_period(interval, times) -> None:  # type: ignore[no-untyped-def]
    periods = periods_of(interval, "months")
    held = [frame for frames in frames_of(periods, times) for frame in frames]
    inside = [i for i, time in enumerate(times) if interval[0] <= time.date() <= interval[1]]
    assert sorted(held) == inside


def test_equal_periods_are_equally_long() -> None:
    periods = periods_of(YEAR, 12)
    assert {period.end - period.start for period in periods} == {dt.timedelta(days=365) / 12}
    assert labels_of(periods)[0] == "p01"
    assert labels_of(periods)[-1] == "p12"
    assert labels_of(periods_of(YEAR, 4)) == ("p1", "p2", "p3", "p4")


def test_months_are_those_of_the_calendar_also_where_the_interval_cuts_them() -> None:
    periods = periods_of((dt.date(2020, 1, 15), dt.date(2020, 3, 1)), "months")
    assert labels_of(periods) == ("m01", "m02", "m03")
    assert [period.end for period in periods] == [
        dt.datetime(2020, 2, 1),
        dt.datetime(2020, 3, 1),
        dt.datetime(2020, 3, 2),
    ]


def test_names_have_no_year_so_that_the_next_one_has_the_same() -> None:
    following = (dt.date(2018, 1, 1), dt.date(2018, 12, 31))
    for cut in (7, "months"):
        assert labels_of(periods_of(YEAR, cut)) == labels_of(periods_of(following, cut))  # type: ignore[arg-type]


def test_a_month_that_comes_again_has_the_place_of_its_year_in_front() -> None:
    labels = labels_of(periods_of((dt.date(2017, 11, 1), dt.date(2018, 11, 30)), "months"))
    assert labels[:3] == ("y1m11", "y1m12", "y2m01")
    assert labels[-1] == "y2m11"


def test_given_days_are_the_edges() -> None:
    periods = periods_of(YEAR, (dt.date(2017, 3, 15), dt.date(2017, 5, 1), dt.date(2017, 8, 1)))
    assert periods == (
        Period("d0315", dt.datetime(2017, 3, 15), dt.datetime(2017, 5, 1)),
        Period("d0501", dt.datetime(2017, 5, 1), dt.datetime(2017, 8, 1)),
    )
    assert frames_of(periods, [dt.datetime(2017, 3, 14, 23, 59), dt.datetime(2017, 5, 1), dt.datetime(2017, 8, 1)]) == (
        (),
        (1,),
    )


@pytest.mark.parametrize("cut", [1, 5, "months"])
def test_centres_are_whole_seconds_that_a_file_gives_back(cut) -> None:  # type: ignore[no-untyped-def]
    for centre in centres_of(periods_of(YEAR, cut)):
        assert dt.datetime.fromisoformat(centre.isoformat()) == centre
        assert centre.microsecond == 0
