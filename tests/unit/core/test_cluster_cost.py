"""What machines cost and how many are needed: exact where it is arithmetic, ordered where it is a choice."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.cluster_cost import (
    GIB,
    KINDS,
    START_HOURS,
    Hours,
    TileWork,
    choices,
    cost_of,
    hours_of,
    machines_for,
    tiles_at_a_time,
)


@dataclass(frozen=True)
class Dollars:
    on_demand: float
    spot: float | None = None


PRICES = {"c6i.4xlarge": Dollars(0.8, 0.3), "m6i.4xlarge": Dollars(0.9, 0.35)}


def test_hours_are_counted_by_type_and_market() -> None:
    hours = [Hours("c6i.4xlarge", True, 2.0), Hours("m6i.4xlarge", False, 0.5)]
    assert cost_of(hours, PRICES) == pytest.approx(2 * 0.3 + 0.5 * 0.9)
    assert cost_of([], PRICES) == 0


def test_without_a_price_there_is_no_cost() -> None:
    assert cost_of([Hours("c6i.4xlarge", False, 1), Hours("x1.32xlarge", False, 1)], PRICES) is None
    assert cost_of([Hours("c5.large", True, 1)], {"c5.large": Dollars(0.1)}) is None


def test_the_fewest_machines_that_are_done_in_time() -> None:
    (best,) = choices(
        TileWork(10_000, 60, GIB), ["c6i.4xlarge"], PRICES, spot=True, most=100, deadline_hours=2 + START_HOURS
    )
    cpu_hours = 10_000 * 60 / 3600
    assert (best.at_a_time, best.machines) == (16, 6)  # 166.7 CPU hours, 16 together, 2 hours of work: 5.2
    assert best.hours == pytest.approx(cpu_hours / 16 / 6 + START_HOURS)
    assert best.usd == pytest.approx(0.3 * 6 * best.hours)
    assert best.in_time


def test_memory_may_allow_fewer_tiles_than_cpus() -> None:
    assert tiles_at_a_time(KINDS["c6i.4xlarge"], TileWork(1, 60, 4 * GIB)) == 5
    assert tiles_at_a_time(KINDS["r6i.4xlarge"], TileWork(1, 60, 4 * GIB)) == 16
    assert tiles_at_a_time(KINDS["c6i.large"], TileWork(1, 60, 4 * GIB)) == 0


def test_types_too_small_or_unknown_are_left_out() -> None:
    assert (
        choices(TileWork(10, 60, 4 * GIB), ["c6i.large", "u9.mega"], PRICES, spot=True, most=9, deadline_hours=1) == []
    )


def test_what_comes_too_late_comes_last_and_says_so() -> None:
    types = ["c6i.large", "c6i.4xlarge"]
    found = choices(TileWork(10_000, 60, GIB), types, PRICES, spot=True, most=10, deadline_hours=3)
    assert [(one.instance_type, one.in_time) for one in found] == [("c6i.4xlarge", True), ("c6i.large", False)]
    assert found[1].machines == 10


def test_a_tile_that_takes_half_a_cpu_shares_one() -> None:
    assert tiles_at_a_time(KINDS["c6i.4xlarge"], TileWork(1, 60, GIB, 0.5)) == 22  # 70 % of 32 GiB
    assert tiles_at_a_time(KINDS["r6i.4xlarge"], TileWork(1, 60, GIB, 0.5)) == 32


def test_no_number_of_machines_is_faster_than_one_tile() -> None:
    work = TileWork(tiles=4, seconds_a_tile=7200, memory_a_tile=GIB)
    assert machines_for(work, 16, deadline_hours=2) is None
    (late,) = choices(work, ["c6i.4xlarge"], PRICES, spot=True, most=9, deadline_hours=2)
    assert (late.machines, late.hours, late.in_time) == (1, pytest.approx(2 + START_HOURS), False)


WORK = st.builds(
    TileWork, st.integers(1, 100_000), st.floats(0.1, 10_000), st.integers(1, 16 * GIB), st.sampled_from([0.5, 1.0, 2])
)


@given(work=WORK, deadline=st.floats(0.01, 100), most=st.integers(1, 500))
def test_never_more_than_most_and_in_time_when_it_says_so(work: TileWork, deadline: float, most: int) -> None:
    found = choices(work, KINDS, PRICES, spot=True, most=most, deadline_hours=deadline)
    assert [one.in_time for one in found] == sorted((one.in_time for one in found), reverse=True)
    for one in found:
        assert 1 <= one.machines <= most
        assert one.at_a_time * work.memory_a_tile <= KINDS[one.instance_type].memory_bytes
        assert one.at_a_time * work.cpus_a_tile <= KINDS[one.instance_type].vcpus
        assert one.in_time == (hours_of(work, one.machines, one.at_a_time) <= deadline)
        if one.in_time and one.machines > 1:
            assert hours_of(work, one.machines - 1, one.at_a_time) > deadline * (1 - 1e-9)
        if not one.in_time:
            needed = machines_for(work, one.at_a_time, deadline)
            assert needed is None or needed > most


@given(work=WORK, machines=st.integers(1, 1000), more=st.integers(1, 1000), at_a_time=st.integers(1, 64))
def test_more_machines_are_never_slower(work: TileWork, machines: int, more: int, at_a_time: int) -> None:
    assert hours_of(work, machines + more, at_a_time) <= hours_of(work, machines, at_a_time)
