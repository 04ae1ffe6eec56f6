"""Periods in the text of an evalscript: behind its first line, and holding what our own periods hold."""

import datetime as dt
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_mini_racer import MiniRacer

from eo_assets.core.evalscript_periods import uses_periods, with_periods
from eo_assets.core.periods import Period, periods_of

YEAR = (dt.date(2020, 1, 1), dt.date(2020, 12, 31))
EDGES = re.compile(r"const PERIODS = (\[.*?\]\]);")


def edges_of(script: str) -> list[list[int]]:
    found = EDGES.search(script)
    assert found is not None
    edges: list[list[int]] = json.loads(found[1])
    return edges


def test_they_stand_behind_the_first_line_and_no_line_moves() -> None:
    script = "//VERSION=3\n// a comment\nfunction setup() { return PERIODS.length; }\n"
    made = with_periods(script, periods_of(YEAR, "months")[:1])
    assert made == (
        "//VERSION=3\nconst PERIODS = [[1577836800000, 1580515200000]]; // a comment\n"
        "function setup() { return PERIODS.length; }\n"
    )


@pytest.mark.parametrize(
    "first", ["//VERSION=3\n", "// VERSION = 3\n", "//VERSION=3 (a note)\r\n", "\ufeff//VERSION=3\n"]
)
def test_any_first_line_that_says_the_version_will_do(first: str) -> None:
    with MiniRacer() as context:
        context.eval(with_periods(f"{first}const n = PERIODS.length;", periods_of(YEAR, 4)).removeprefix("\ufeff"))
        assert context.eval("n") == 4


@pytest.mark.parametrize("script", ["", "function setup() {}", "//VERSION=2\n", "//VERSION=31\n", "//VERSION=3"])
def test_another_first_line_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match="the first line is not //VERSION=3"):
        with_periods(script, periods_of(YEAR, 4))


@pytest.mark.parametrize(
    ("script", "used"),
    [
        ("const n = PERIODS.length;", True),
        ("// PERIODS\n/* PERIODS\nPERIODS */", False),
        ("MY_PERIODS; PERIODS_OF", False),
        ("/* a */ PERIODS /* b */", True),
    ],
)
def test_a_comment_is_no_use(script: str, used: bool) -> None:
    assert uses_periods(script) is used


@given(st.integers(1, 400), st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2020, 12, 31, 23)))
def test_an_acquisition_lies_in_the_same_period_in_the_script_as_here(number: int, time: dt.datetime) -> None:
    # The service tells times to the millisecond at most; equal periods begin at any microsecond.
    time = time.replace(microsecond=time.microsecond // 1000 * 1000)
    periods = periods_of(YEAR, number)
    milliseconds = (time - dt.datetime(1970, 1, 1)) // dt.timedelta(milliseconds=1)
    held = [start <= milliseconds < end for start, end in edges_of(with_periods("//VERSION=3\n", periods))]
    assert held == [period.holds(time) for period in periods]


@given(st.integers(1, 400))
def test_a_centre_worked_out_by_the_script_lies_in_its_period(number: int) -> None:
    periods: tuple[Period, ...] = periods_of(YEAR, number)
    for period, (start, end) in zip(periods, edges_of(with_periods("//VERSION=3\n", periods)), strict=True):
        told = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=(start + end) // 2000)
        assert period.holds(told)
        assert abs(told - period.centre) <= dt.timedelta(seconds=1)
