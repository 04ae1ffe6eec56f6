"""What a project may spend: figures, refusals, months, approvals, damage, and sixteen processes at once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import multiprocessing
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_assets.core.spendings import Spending
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, StoreError
from resources.local_folder import LocalFolder
from resources.spending import Ledger, current_user, open_spendings

NOVEMBER = dt.datetime(2026, 11, 30, 23, 59, 30, tzinfo=dt.UTC)
DECEMBER = dt.datetime(2026, 12, 1, 0, 0, 30, tzinfo=dt.UTC)
FILE = "/projects/fields/project.yaml"
PROCESSES, ROUNDS = 16, 30


def ledger_in(
    folder: Path, limit: float | None = None, *, approval: bool = False, now: dt.datetime = NOVEMBER
) -> Ledger:
    return Ledger(LocalFolder(folder), "spending/fields", FILE, limit, approval, lambda: now)


def spending(identity: str, units: float, user: str = "") -> Spending:
    return Spending(identity, "batch", "sentinel_hub", 4, units, units, user)


def reserve(ledger: Ledger, identity: str, units: float) -> None:
    ledger.reserve(spending(identity, units), "imagery of 4 tiles")


def entry(ledger: Ledger, identity: str) -> Spending:
    found = [month.spendings[identity] for month in ledger.months().values() if identity in month.spendings]
    assert len(found) == 1
    return found[0]


def counted(ledger: Ledger) -> float:
    return sum(month.counted for month in ledger.months().values())


# Reserved, grown, settled


def test_a_reservation_is_settled_with_what_was_charged(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 500)
    ledger.reserve(spending("a", 120, "jane"), "imagery")
    assert ledger.headroom() == 380
    ledger.note_job("a", "job-1")
    ledger.settle("a", 101.23456)
    assert entry(ledger, "a") == Spending(
        "a",
        "batch",
        "sentinel_hub",
        4,
        120,
        120,
        user="jane",
        created="2026-11-30T23:59:30+00:00",
        job="job-1",
        actual=101.2346,
    )
    assert ledger.headroom() == pytest.approx(500 - 101.2346)


def test_whoever_runs_it_is_written_down(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger, "a", 1)
    assert entry(ledger, "a").user == current_user() != ""


def test_reserving_and_settling_twice_is_doing_it_once(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 100)
    reserve(ledger, "a", 60)
    reserve(ledger, "a", 60)
    assert counted(ledger) == 60
    for _ in range(2):
        ledger.settle("a", 55, "DONE")
        document = (tmp_path / "spending/fields/2026-11.json").read_bytes()
    assert (tmp_path / "spending/fields/2026-11.json").read_bytes() == document
    reserve(ledger, "a", 60)  # a run that comes back to an order that has ended
    assert (entry(ledger, "a").actual, counted(ledger)) == (55, 55)


def test_settling_what_was_never_reserved_is_nothing(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 100)
    ledger.settle("nobody", 50)
    assert ledger.months() == {}
    with pytest.raises(StoreError, match="spending/fields: no spending nobody is reserved there"):
        ledger.grow("nobody", 1, "imagery")


def test_a_reservation_never_shrinks_by_growing(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 100)
    reserve(ledger, "a", 60)
    ledger.grow("a", 40, "imagery")
    assert entry(ledger, "a").reserved == 60
    ledger.grow("a", 80, "imagery")
    assert ledger.headroom() == 20
    ledger.settle("a", 10)
    reserve(ledger, "b", 85)
    ledger.grow("a", 15, "a job that is started again")  # there is room for 15, and none for the 80 that it had
    assert (entry(ledger, "a").actual, ledger.headroom()) == (None, 0)


def test_what_is_refused_is_not_entered(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 100)
    reserve(ledger, "a", 60)
    before = ledger.months()
    for refused in (lambda: reserve(ledger, "b", 41), lambda: ledger.grow("a", 101, "imagery")):
        with pytest.raises(BudgetExceeded):
            refused()
    assert ledger.months() == before
    reserve(ledger, "c", 40)
    assert ledger.headroom() == 0


def test_open_spendings_are_those_without_an_end(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    for name in "abc":
        reserve(ledger, name, 10)
    ledger.settle("b", 9)
    assert sorted(kept.id for kept in open_spendings(ledger)) == ["a", "c"]


actions = st.lists(
    st.tuples(st.sampled_from(["reserve", "grow", "settle"]), st.sampled_from("abcd"), st.integers(0, 80)), max_size=25
)


@settings(deadline=None, max_examples=60)
@given(actions)
def test_whatever_is_done_a_reservation_never_passes_the_limit(actions: list[tuple[str, str, int]]) -> None:
    """A model beside it: the same acts on a plain dictionary. Only what a service charged may pass the limit."""
    limit = 100
    with tempfile.TemporaryDirectory() as folder:
        ledger = ledger_in(Path(folder), limit)
        model: dict[str, float] = {}
        still_open: set[str] = set()
        for act, name, units in actions:
            before, others = counted(ledger), sum(taken for key, taken in model.items() if key != name)
            wanted = max(units, model[name]) if name in still_open else units
            try:
                if act == "reserve":
                    reserve(ledger, name, units)
                    still_open |= set() if name in model else {name}
                    model.setdefault(name, units)
                elif act == "grow" and name in model:
                    ledger.grow(name, units, "imagery")
                    model[name] = wanted
                    still_open.add(name)
                elif act == "settle":
                    ledger.settle(name, units)
                    model |= {name: units} if name in model else {}
                    still_open.discard(name)
            except BudgetExceeded:
                assert others + units > limit
                assert counted(ledger) == before
            else:
                assert act == "settle" or counted(ledger) <= max(limit, before)
            assert counted(ledger) == sum(model.values())


# What a refusal says


def test_over_budget_in_full(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 1500)
    with pytest.raises(BudgetExceeded) as raised:
        ledger.require(1600.04, "imagery of 12 tiles")
    assert str(raised.value) == (
        "/projects/fields/project.yaml: budget.max_processing_units: 1500: imagery of 12 tiles would cost about "
        "1,600.0 processing units in 2026-11; nothing was started for it. Raise the limit, or ask for fewer tiles (-t)"
    )
    reserve(ledger, "a", 1400)
    with pytest.raises(BudgetExceeded) as raised:
        reserve(ledger, "b", 100.26)
    assert str(raised.value) == (
        "/projects/fields/project.yaml: budget.max_processing_units: 1500: imagery of 4 tiles would cost about "
        "100.3 processing units, 1,400.0 are spent or reserved already in 2026-11; nothing was started for it. Raise "
        "the limit, or ask for fewer tiles (-t)"
    )


def test_not_approved_in_full(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    with pytest.raises(ApprovalNeeded) as raised:
        reserve(ledger, "a", 100.4)
    assert str(raised.value) == (
        "/projects/fields/project.yaml: budget.require_approval: true: imagery of 4 tiles would cost about 100.4 "
        "processing units and nobody has approved that; nothing was started for it. Approve it: `eo-assets approve "
        "/projects/fields/project.yaml --units 101` (or more), or the run tag eo-assets/approve; then run again"
    )
    ledger.approve(101)  # the remedy that it names
    reserve(ledger, "a", 100.4)


def test_what_costs_nothing_is_allowed_when_the_budget_is_used_up_and_nobody_has_approved(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 100)
    reserve(ledger, "a", 90)
    ledger.settle("a", 140)  # the service charged more
    assert ledger.headroom() == -40
    ledger.require(0, "a run that asks for nothing")
    ledger_in(tmp_path, approval=True).require(0, "a run that asks for nothing")
    with pytest.raises(BudgetExceeded):
        ledger.require(0.01, "labels of one tile")


# Months


def test_a_spending_stays_in_its_month_and_the_next_one_is_fresh(tmp_path: Path) -> None:
    november, december = ledger_in(tmp_path, 100), ledger_in(tmp_path, 100, now=DECEMBER)
    reserve(november, "a", 90)
    assert december.headroom() == 100
    reserve(december, "a", 90)  # the same order, seen again after midnight
    december.settle("a", 95)
    assert december.headroom() == 100
    reserve(december, "b", 100)
    months = december.months()
    assert list(months) == ["2026-11", "2026-12"]
    assert {name: dict(month.spendings).keys() for name, month in months.items()} == {
        "2026-11": {"a"},
        "2026-12": {"b"},
    }
    assert (november.headroom(), december.headroom()) == (5, 0)


def test_what_an_earlier_month_began_takes_the_rest_from_this_one(tmp_path: Path) -> None:
    november, december = ledger_in(tmp_path, 100), ledger_in(tmp_path, 100, now=DECEMBER)
    reserve(november, "a", 90)
    november.settle("a", 105)  # it cost more than the month had, and was stopped
    with pytest.raises(BudgetExceeded, match=r"would cost about 101\.0 processing units in 2026-12;"):
        december.grow("a", 206, "starting batch request job-1 again")
    assert list(december.months()) == ["2026-11"]
    december.grow("a", 150, "starting batch request job-1 again")
    assert december.headroom() == 55
    december.grow("a", 160, "batch request job-1, which is running,")
    assert (november.headroom(), december.headroom()) == (-5, 45)
    december.settle("a", 171)
    assert december.headroom() == 34
    assert sum(month.counted for month in december.months().values()) == 171


def test_what_runs_over_midnight_keeps_its_reservation_and_draws_the_rest(tmp_path: Path) -> None:
    november, december = ledger_in(tmp_path, 100), ledger_in(tmp_path, 100, now=DECEMBER)
    reserve(november, "a", 90)
    december.grow("a", 80, "imagery")  # less than was reserved: nothing of this month
    assert list(december.months()) == ["2026-11"]
    december.grow("a", 110, "imagery")
    assert (november.headroom(), december.headroom()) == (10, 80)
    december.settle("a", 95)
    assert december.headroom() == 95


def test_months_are_those_of_utc(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    assert dataclasses.replace(ledger, now=Ledger(LocalFolder(tmp_path), "x").now).now().tzinfo is dt.UTC
    assert (ledger.month(), ledger_in(tmp_path, now=DECEMBER).month()) == ("2026-11", "2026-12")


def test_an_approval_is_of_its_month(tmp_path: Path) -> None:
    ledger_in(tmp_path, approval=True).approve(100)
    with pytest.raises(ApprovalNeeded):
        reserve(ledger_in(tmp_path, approval=True, now=DECEMBER), "a", 10)


# Approvals


def test_approvals_are_drawn_down(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    made = ledger.approve(100, "jane", "first")
    reserve(ledger, "a", 60)
    with pytest.raises(ApprovalNeeded):
        reserve(ledger, "b", 50)
    ledger.settle("a", 45)  # what was reserved and not charged is free again
    reserve(ledger, "b", 50)
    month = ledger.months()["2026-11"]
    assert month.left_of(made) == 5
    assert {kept.id: kept.approval for kept in month.spendings.values()} == {"a": "first", "b": "first"}
    assert (made.user, made.created, made.units) == ("jane", "2026-11-30T23:59:30+00:00", 100)


def test_of_several_approvals_the_smallest_that_covers_it_is_taken(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    for identity, units in (("large", 300), ("small", 50), ("middle", 120)):
        ledger.approve(units, "jane", identity)
    for identity, units in (("a", 100), ("b", 40), ("c", 250)):
        reserve(ledger, identity, units)
    assert {name: entry(ledger, name).approval for name in "abc"} == {"a": "middle", "b": "small", "c": "large"}
    with pytest.raises(ApprovalNeeded):  # 20, 10 and 50 are left: no one of them covers it
        reserve(ledger, "d", 60)


def test_the_same_approval_is_recorded_once(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    for _ in range(2):
        ledger.approve(100, "jane", "run-1")
    assert [kept.id for kept in ledger.months()["2026-11"].approvals] == ["run-1"]


def test_an_approval_is_no_way_around_the_limit(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, 100, approval=True)
    ledger.approve(1000)
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "a", 101)


@pytest.mark.parametrize("units", [0.0, -5.0, float("nan"), float("inf")])
def test_what_is_no_figure_is_not_approved(tmp_path: Path, units: float) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    with pytest.raises(ApprovalNeeded, match="is no number of processing units to approve; give a figure above zero"):
        ledger.approve(units)
    assert ledger.months() == {}


def test_what_grows_past_its_approval_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    """A job that was stopped at its approval is started again after somebody has approved more, as the refusal says."""
    ledger = ledger_in(tmp_path, approval=True)
    ledger.approve(100, "jane", "first")
    reserve(ledger, "a", 100)
    with pytest.raises(ApprovalNeeded, match="--units 140"):
        ledger.grow("a", 140, "batch request job-1, which is running,")
    ledger.approve(140, "joe", "second")
    ledger.grow("a", 140, "starting batch request job-1 again")
    assert (entry(ledger, "a").approval, entry(ledger, "a").reserved) == ("second", 140)
    month = ledger.months()["2026-11"]
    assert [month.left_of(approval) for approval in month.approvals] == [100, 0]


def test_what_grows_within_its_approval_keeps_it(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    ledger.approve(150, identity="own")
    reserve(ledger, "a", 100)
    ledger.approve(145, identity="other")
    ledger.grow("a", 140, "imagery")
    assert entry(ledger, "a").approval == "own"


def test_what_began_without_an_approval_may_grow_with_one(tmp_path: Path) -> None:
    reserve(ledger_in(tmp_path), "a", 100)
    ledger = ledger_in(tmp_path, approval=True)
    with pytest.raises(ApprovalNeeded):
        ledger.grow("a", 120, "imagery")
    ledger.approve(120)
    ledger.grow("a", 120, "imagery")
    assert entry(ledger, "a").reserved == 120


# Damage


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b'{"format": 1, "spend', "Unterminated string"),
        (b"", "Expecting value"),
        (b"\x80\x81", "decode"),
        (b"[]", "list indices"),
        (b'{"format": 1, "approvals": []}', "'spendings'"),
        (b'{"format": 1, "approvals": [], "spendings": []}', "items"),
        (b'{"format": 1, "approvals": [], "spendings": {"a": {"id": "a"}}}', "missing 5 required"),
        (b'{"format": 3, "approvals": [], "spendings": {}}', "written by a newer version, format 3"),
    ],
)
def test_a_document_that_can_not_be_read_lets_nothing_be_bought(tmp_path: Path, document: bytes, reason: str) -> None:
    path = tmp_path / "spending/fields/2026-11.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(document)
    ledger = ledger_in(tmp_path, 100)
    for act in (lambda: ledger.require(1, "x"), lambda: reserve(ledger, "a", 1), ledger.headroom, ledger.months):
        with pytest.raises(StoreError) as raised:
            act()
        told = str(raised.value)
        assert told.startswith(f"{path}: not a record of spending (") and reason in told
        assert told.endswith("restore it from a copy, or move it away if you know what was spent")
    assert path.read_bytes() == document


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, approval=True)
    ledger.approve(20, "jane", "first")
    reserve(ledger, "a", 10)
    document = json.loads((tmp_path / "spending/fields/2026-11.json").read_text())
    assert document["format"] == 2
    assert document["spendings"]["a"]["approval"] == "first"
    (approval,) = document["approvals"]
    assert approval == {
        "id": "first",
        "user": "jane",
        "created": "2026-11-30T23:59:30+00:00",
        "units": 20,
        "signed_in": "unauthenticated",
    }


# Several processes


def _race(folder: Path, number: int, barrier: Barrier, told: multiprocessing.Queue[str]) -> None:
    """Reserve 10 of 100 in every round, in step with the other processes."""
    for round_number in range(ROUNDS):
        ledger = ledger_in(folder / str(round_number), 100)
        barrier.wait(60)
        try:
            reserve(ledger, f"process-{number}", 10)
            told.put("reserved")
        except BudgetExceeded:
            told.put("refused")
        except Exception as error:
            told.put(f"{type(error).__name__}: {error}")


def test_of_sixteen_processes_that_each_want_a_tenth_ten_get_it(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, told = spawn.Barrier(PROCESSES), spawn.Queue()
    processes = [spawn.Process(target=_race, args=(tmp_path, each, barrier, told)) for each in range(PROCESSES)]
    for process in processes:
        process.start()
    answers = [told.get(timeout=120) for _ in range(PROCESSES * ROUNDS)]
    for process in processes:
        process.join(60)
    assert set(answers) == {"reserved", "refused"}
    assert answers.count("reserved") == 10 * ROUNDS
    for round_number in range(ROUNDS):
        ledger = ledger_in(tmp_path / str(round_number), 100)
        assert (len(ledger.months()["2026-11"].spendings), ledger.headroom()) == (10, 0)


def _hold(folder: Path, ready: Barrier, over: Barrier) -> None:
    with LocalFolder(folder).exclusive("spending/run-1", lambda: None):
        ready.wait(60)
        over.wait(60)


def test_a_lock_is_held_as_long_as_its_process_lives(tmp_path: Path) -> None:
    store, spawn = LocalFolder(tmp_path), multiprocessing.get_context("spawn")
    assert not store.held("spending/run-1")
    ready, over = spawn.Barrier(2), spawn.Barrier(2)
    for killed in (False, True):
        process = spawn.Process(target=_hold, args=(tmp_path, ready, over))
        process.start()
        ready.wait(60)
        assert store.held("spending/run-1")
        assert not store.held("spending/run-2")
        if killed:
            process.kill()
        else:
            over.wait(60)
        process.join(60)
        assert not store.held("spending/run-1")
    with store.exclusive("spending/run-1", lambda: None):
        assert store.held("spending/run-1")  # by this very process too
