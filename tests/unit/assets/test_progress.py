"""What a run tells of its rate and of the time that is left."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from eo_assets.assets.progress import LogProgress, Pace, duration, per_time
from eo_assets.stages.walk import StageOutcome


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def outcomes(first: int, count: int, status: Any = "done") -> Iterator[StageOutcome]:
    for number in range(first, first + count):
        yield StageOutcome("features", f"tile_{number}", status)
        yield StageOutcome("samples", f"tile_{number}", status)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def advance(pace: Pace, clock: Clock, first: int, count: int, seconds_each: float) -> None:
    for number in range(first, first + count):
        clock.now += seconds_each
        for outcome in outcomes(number, 1):
            pace.add(outcome)


def test_up_to_date_tiles_are_through_and_not_part_of_the_rate(clock: Clock) -> None:
    pace = Pace(600, 2, clock)
    for outcome in outcomes(0, 500, "up_to_date"):
        pace.add(outcome)
    assert (pace.through, pace.pace()) == (500, "")
    clock.now += 1200  # the service is busy
    advance(pace, clock, 500, 21, 6.0)
    assert pace.pace() == "10 tiles/min, about 8 min left"
    assert str(pace) == ("521 of 600 tiles, 10 tiles/min, about 8 min left (stages: 1000 up to date, 42 done)")


def test_nothing_is_estimated_from_a_few_tiles_or_seconds(clock: Clock) -> None:
    few, soon = Pace(100, 2, clock), Pace(100, 2, clock)
    advance(few, clock, 0, 8, 30.0)
    assert few.pace() == ""
    advance(soon, clock, 0, 50, 0.3)
    assert soon.pace() == ""


def test_the_rate_is_that_of_the_last_minutes(clock: Clock) -> None:
    pace = Pace(10_000, 2, clock)
    advance(pace, clock, 0, 1000, 1.0)
    advance(pace, clock, 1000, 70, 10.0)
    assert pace.pace().startswith("6.0 tiles/min")


def test_a_tile_that_failed_counts_and_one_that_is_blocked_behind_it_does_not_count_twice(clock: Clock) -> None:
    pace = Pace(3, 2, clock)
    pace.add(StageOutcome("features", "a", "failed", "bad"))
    pace.add(StageOutcome("samples", "a", "blocked", "waits"))
    assert (pace.through, str(pace)) == (1, "1 of 3 tiles (stages: 1 failed, 1 blocked)")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (3, "10 s"),
        (44, "40 s"),
        (89, "90 s"),
        (100, "2 min"),
        (5000, "83 min"),
        (7190, "2 h"),
        (12_000, "3 h 20 min"),
        (43 * 3600, "1 day 19 h"),
        (10 * 86400, "10 days"),
    ],
)
def test_durations_are_as_precise_as_they_can_be(seconds: float, said: str) -> None:
    assert duration(seconds) == f"about {said}"


def test_rates_are_told_in_a_unit_that_fits() -> None:
    assert [per_time(rate) for rate in (5.0, 0.05, 0.01, 0.001)] == [
        "300 tiles/min", "3.0 tiles/min", "36 tiles/h", "3.6 tiles/h",
    ]  # fmt: skip


def test_the_log_tells_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = LogProgress()
    progress.started("demo: features, samples", 2, 2)
    for outcome in outcomes(0, 2):
        progress.advanced(outcome)
    progress.finished()
    assert caplog.messages == [
        "demo: features, samples: 2 tiles",
        "demo: features, samples: 2 of 2 tiles (stages: 4 done)",
    ]
