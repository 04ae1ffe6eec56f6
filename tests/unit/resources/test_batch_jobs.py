"""Orders of imagery against a service that lags, fails, stops, loses answers, overcharges and leaves tiles out."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
import shapely

from eo_assets.core.tile import Bounds
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, ServiceError, StoreError
from resources.batch_api import TilingGrid
from resources.batch_desk import Polling
from resources.batch_jobs import deliveries
from resources.batch_orders import NOTHING
from tests.unit.resources.batch_service import (
    FILES,
    NAMES,
    TILES,
    Batch,
    Job,
    collected,
    desk_of,
    orders,
    spendings,
    wanted,
)

DONE: list[Any] = [("DONE", NAMES, {"costPU": 100.0})]
FIRST, SECOND, THIRD = NAMES


def test_tiles_are_told_as_they_arrive_once_each(http_service: Any, tmp_path: Path) -> None:
    steps: list[Any] = [
        ("PROCESSING", [], {}),
        ("PROCESSING", [SECOND], {"costPU": 40.0}),
        ("PROCESSING", [], {}),
        ("DONE", NAMES, {"costPU": 123.4}),
    ]
    batch = Batch(tmp_path, [steps])
    desk = desk_of(http_service, batch)
    found = [delivery for delivery in deliveries(desk, wanted()) if delivery]
    assert [delivery.tile.name for delivery in found] == [SECOND, FIRST, THIRD]
    assert found[0].folder == f"tiffs/job-1/{SECOND}"
    assert all(delivery.error is None for delivery in found)
    assert spendings(desk) == [(100.0, 123.4)]
    assert [order["state"] for order in orders(desk)] == ["ended"]


def test_a_chosen_subset_is_handed_over_as_a_geopackage(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    collected(desk_of(http_service, batch), wanted(TILES[:2]))
    body = batch.jobs[0].body
    assert body["input"]["type"] == "geopackage"
    assert batch.asked(batch.jobs[0]) == NAMES[:2]
    place = body["output"]["delivery"]["s3"]["url"]
    assert place == "s3://bucket/tiffs/<requestId>/<tileName>/<outputId>.<format>"
    assert {each["identifier"] for each in body["processRequest"]["output"]["responses"]} == {"B01", "B02", "userdata"}


def test_a_whole_area_is_asked_for_by_the_tiling_grid(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    grid = TilingGrid(1, shapely.box(12.4, 52.3, 12.9, 52.4))
    collected(desk_of(http_service, batch), wanted(tiling_grid=grid))
    asked = batch.jobs[0].body["input"]
    assert (asked["type"], asked["id"], asked["resolution"]) == ("tiling-grid", 1, 10.0)
    assert (asked["bufferX"], asked["bufferY"]) == (3, 2)
    assert "bounds" in batch.jobs[0].body["processRequest"]["input"]


def test_a_request_that_is_not_known_yet_is_asked_for_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE], lag=5)
    assert len(collected(desk_of(http_service, batch), wanted())) == 3


def test_a_request_that_stays_unknown_is_an_error_and_is_gone_on_with(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE], lag=1000)
    desk = desk_of(http_service, batch)
    with pytest.raises(ServiceError, match="test: batch request"):
        collected(desk, wanted())
    batch.lag = 0
    found = collected(desk, wanted())
    assert {delivery.error for delivery in found.values()} == {None}


# What a killed run leaves, at every instant


class Killed(BaseException):
    """The process is gone."""


def kill_at(desk: Any, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool) -> None:
    """Die at a call, before or after it was carried out."""
    original = getattr(owner, name)

    def die(self: Any, *args: Any, **kwargs: Any) -> Any:
        if after:
            original(self, *args, **kwargs)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, die)
        with pytest.raises(Killed):
            collected(desk, wanted())


INSTANTS = [
    ("book", "add", True),
    ("ledger", "reserve", False),
    ("ledger", "reserve", True),
    ("api", "create", False),
    ("api", "create", True),
    ("ledger", "note_job", True),
    ("api", "analyse", False),
    ("api", "analyse", True),
    ("ledger", "grow", True),
    ("api", "start", False),
    ("api", "start", True),
    ("ledger", "settle", False),
    ("ledger", "settle", True),
]


@pytest.mark.parametrize(("owner", "name", "after"), INSTANTS, ids=lambda value: str(value))
def test_a_run_that_dies_at_any_instant_is_gone_on_with_and_nothing_is_paid_twice(
    http_service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, name: str, after: bool
) -> None:
    batch = Batch(tmp_path, [[("PROCESSING", [FIRST], {"costPU": 50.0}), ("DONE", NAMES, {"costPU": 100.0})]])
    desk = desk_of(http_service, batch, {"limit": 150.0})
    kill_at(desk, monkeypatch, type(getattr(desk, owner)), name, after=after)
    found = collected(desk, wanted())
    assert {delivery.error for delivery in found.values()} == {None}
    assert set(found) == set(NAMES)
    assert batch.started == [batch.jobs[0].id]
    assert desk.ledger.headroom() == 50.0
    assert {order["state"] for order in orders(desk)} == {"ended"}


def test_a_lost_answer_to_the_creation_makes_no_second_job(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE], lose_answers_of=["create"] * 20, unlisted=3)
    desk = desk_of(http_service, batch)
    batch.lose_answers_of = ["create"]
    collected(desk, wanted())
    assert len(batch.jobs) <= 2  # one that was answered; the client itself may have asked once more
    assert len(batch.started) == 1
    assert spendings(desk) == [(100.0, 100.0)]


def test_a_lost_answer_to_the_start_starts_once(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    batch.refuse["start"] = (400, "start is not possible in status PROCESSING")
    with pytest.raises(ServiceError, match="not possible"):
        collected(desk, wanted())
    assert spendings(desk) == [(100.0, None)]  # nobody knows whether it runs: the reservation stays
    batch.refuse.clear()
    batch.jobs[0].status = "PROCESSING"
    collected(desk, wanted())
    assert batch.started == []
    assert spendings(desk) == [(100.0, 100.0)]


def test_what_was_delivered_and_never_taken_up_is_not_ordered_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    collected(desk, wanted())
    found = collected(desk, wanted())
    assert {delivery.folder for delivery in found.values()} == {f"tiffs/job-1/{name}" for name in NAMES}
    assert len(batch.jobs) == 1


def test_an_earlier_delivery_that_is_damaged_is_ordered_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    collected(desk, wanted())
    (tmp_path / f"tiffs/job-1/{SECOND}/B01.tif").write_text("bad")
    found = collected(desk, wanted())
    assert found[SECOND].folder == f"tiffs/job-2/{SECOND}"
    assert batch.asked(batch.jobs[1]) == [SECOND]


def test_a_delivery_of_other_settings_is_not_taken(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    collected(desk, wanted())
    collected(desk, wanted(recipe="other"))
    assert len(batch.jobs) == 2


def test_what_somebody_else_has_committed_meanwhile_is_told_and_not_ordered(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch, there=lambda tile: tile.name == FIRST)
    found = collected(desk, wanted())
    assert (found[FIRST].folder, found[FIRST].error) == (None, None)
    assert batch.asked(batch.jobs[0]) == [SECOND, THIRD]


def test_an_order_that_never_began_is_not_started_for_a_part_of_it(
    http_service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    kill_at(desk, monkeypatch, type(desk.api), "start", after=False)
    collected(desk, wanted(TILES[:1]))
    assert batch.started == ["job-2"]
    assert batch.asked(batch.jobs[1]) == [FIRST]


def test_a_job_that_somebody_stopped_stays_so_until_somebody_asks(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("STOPPED", [FIRST], {"costPU": 60.0, "stoppedStatusReason": "USER_ACTION"})]])
    desk = desk_of(http_service, batch)
    assert "stopped by somebody" in (collected(desk, wanted())[SECOND].error or "")
    told = collected(desk, wanted(TILES[1:]))[SECOND].error or ""
    assert "was stopped by somebody and stays so; --rebuy" in told
    assert batch.started == ["job-1"]
    batch.jobs[0].steps = [("DONE", NAMES, {"costPU": 100.0})]
    assert collected(desk, wanted(TILES[1:], again=frozenset({SECOND})))[SECOND].error is None
    assert batch.started == ["job-1", "job-1"]


def test_a_stopped_job_that_can_not_be_started_again_is_given_up(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("STOPPED", [FIRST], {"costPU": 60.0, "stoppedStatusReason": "OUT_OF_PU"})], DONE])
    desk = desk_of(http_service, batch)
    collected(desk, wanted())
    batch.refuse["start"] = (400, "the request is too old")
    assert "too old" in (collected(desk, wanted(TILES[1:]))[SECOND].error or "")
    assert spendings(desk) == [(100.0, 60.0)]
    batch.refuse.clear()
    assert collected(desk, wanted(TILES[1:]))[SECOND].folder == f"tiffs/job-2/{SECOND}"


def test_a_job_that_does_not_stop_at_once_is_told_again_and_goes_on_being_watched(
    http_service: Any, tmp_path: Path
) -> None:
    steps: list[Any] = [("PROCESSING", [FIRST], {"costPU": 500.0})] * 6
    batch = Batch(tmp_path, [steps])
    desk = desk_of(http_service, batch, {"limit": 150.0})
    batch.refuse["stop"] = (403, "not now")
    original = batch._step

    def step(job: Any) -> None:
        original(job)
        if len(job.steps) == 1:
            batch.refuse.clear()

    batch._step = step  # type: ignore[method-assign]
    found = collected(desk, wanted())
    assert ("stop", "job-1") in batch.acts
    assert "it was stopped after 500.0" in (found[SECOND].error or "")


def test_values_that_only_the_service_knows_are_no_crash(http_service: Any, tmp_path: Path) -> None:
    reason = {"costPU": 60.0, "stoppedStatusReason": "MAINTENANCE", "userAction": "RESTING"}
    batch = Batch(tmp_path, [[("STOPPED", [FIRST], reason)]])
    found = collected(desk_of(http_service, batch), wanted())
    assert "stopped, MAINTENANCE" in (found[SECOND].error or "")


def test_a_caller_that_stops_lets_go_of_the_lock(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("PROCESSING", [], {})]])
    desk = desk_of(http_service, batch)
    batch._analyse = lambda job: None  # type: ignore[method-assign]  # an analysis that takes for ever
    begun = deliveries(dataclasses.replace(desk, polling=Polling(0.01, 30.0, 0.0)), wanted())
    assert next(begun) is None and desk.api.store.held("tiffs/ordering")
    begun.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while desk.api.store.held("tiffs/ordering"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_order_of_other_settings_that_never_began_is_given_up(
    http_service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch, {"limit": 150.0})
    kill_at(desk, monkeypatch, type(desk.api), "start", after=False)
    collected(desk, wanted(recipe="other"))
    assert batch.started == ["job-2"]
    assert spendings(desk) == [(100.0, 0.0), (100.0, 100.0)]


def test_a_job_that_the_service_has_forgotten_is_counted_and_ordered_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("PROCESSING", [], {})], DONE])
    desk = desk_of(http_service, batch)
    begun = deliveries(desk, wanted())
    while not batch.started:
        next(begun)
    batch.jobs.clear()
    batch.refuse["job-1"] = (404, "no such request")
    found = collected(desk, wanted())
    assert "no such request" in (found[FIRST].error or "")  # it may not know it yet
    [order] = desk.book.open()
    desk.book.change(order, created="2026-01-01T00:00:00+00:00")
    batch.refuse["process"] = (404, "no such page")  # a wrong address says 404 to everything
    assert "no such request" in (collected(desk, wanted())[FIRST].error or "")
    assert len(desk.book.open()) == 1
    del batch.refuse["process"]
    batch.jobs.append(Job("job-1", {"input": {"type": "tiling-grid"}}, []))
    found = collected(desk, wanted())
    assert {delivery.folder for delivery in found.values()} == {f"tiffs/job-2/{name}" for name in NAMES}
    assert [actual for _, actual in spendings(desk)] == [100.0, 100.0]


def test_an_order_at_another_service_is_left_alone(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    elsewhere = desk.book.add("elsewhere", {FIRST: "other"}, 100.0)
    collected(desk, wanted())
    assert elsewhere in desk.book.open()


def test_an_order_that_can_not_be_looked_at_holds_up_nobody_else(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    other = desk.book.add("test", {FIRST: "other"}, 100.0)
    desk.book.change(other, job="job-9", state="started")
    batch.refuse["job-9"] = (403, "not yours")
    assert len(collected(desk, wanted())) == 3


def test_a_torn_record_of_an_order_stops_ordering(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    desk.api.store.put("tiffs/_orders/20260101T000000-0.json", b"{torn")
    with pytest.raises(StoreError, match="not a record of an order"):
        collected(desk, wanted())
    assert batch.jobs == []


# What the service fails to make


def test_only_what_failed_is_asked_for_again_a_bounded_number_of_times(http_service: Any, tmp_path: Path) -> None:
    first: list[Any] = [("DONE", [FIRST], {"costPU": 100.0})]
    second: list[Any] = [("DONE", [SECOND], {"costPU": 100.0})]
    third: list[Any] = [("DONE", [], {"costPU": 100.0})]
    batch = Batch(tmp_path, [first, second, third])
    batch.ends = {
        "job-1": {FIRST: ("DONE", ""), SECOND: ("FATAL", "out of memory"), THIRD: ("PENDING", "")},
        "job-2": {THIRD: ("FATAL", "script failed")},
        "job-3": {THIRD: ("FATAL", "script failed again")},
    }
    desk = desk_of(http_service, batch)
    found = collected(desk, wanted())
    assert [batch.asked(job) for job in batch.jobs] == [NAMES, [SECOND, THIRD], [THIRD]]
    assert found[SECOND].folder == f"tiffs/job-2/{SECOND}"
    assert found[THIRD].folder is None
    assert found[THIRD].error == "batch request job-3 (DONE): FATAL: script failed again"
    assert [actual for _, actual in spendings(desk)] == [100.0, 100.0, 100.0]


def test_what_failed_is_not_asked_for_again_without_the_means(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("DONE", [FIRST, SECOND], {"costPU": 100.0})]])
    batch.ends = {"job-1": {THIRD: ("FATAL", "out of memory")}}
    found = collected(desk_of(http_service, batch, {"limit": 150.0}), wanted())
    assert len(batch.jobs) == 1
    told = found[THIRD].error or ""
    assert told.startswith("batch request job-1 (DONE): FATAL: out of memory; not asked for again: ")
    assert "budget.max_processing_units: 150" in told


def test_no_data_is_a_result(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("DONE", [FIRST, THIRD], {"costPU": 100.0})]])
    batch.ends = {"job-1": {SECOND: ("DONE", "No data")}}
    desk = desk_of(http_service, batch)
    found = collected(desk, wanted())
    assert found[SECOND].folder == f"tiffs/job-1/{SECOND}"
    assert (tmp_path / f"tiffs/job-1/{SECOND}/{NOTHING}.json").read_text() == '{"reason": "the service says: No data"}'
    assert len(batch.jobs) == 1


@pytest.mark.parametrize("database", [None, b"", b"not a database"])
def test_without_a_readable_database_the_tiles_are_told_and_not_bought_again(
    http_service: Any, tmp_path: Path, database: bytes | None
) -> None:
    batch = Batch(tmp_path, [[("PROCESSING", [], {}), ("DONE", [], {})]])
    desk = desk_of(http_service, batch)
    original = batch._step

    def step(job: Any) -> None:
        original(job)
        if database is not None:
            (batch.folder(job.id) / f"execution-{job.id}.sqlite").write_bytes(database)

    batch._step = step  # type: ignore[method-assign]
    found = collected(desk, wanted())
    assert {delivery.error for delivery in found.values()} == {"batch request job-1 (DONE): no word of it"}
    assert len(batch.jobs) == 1


def test_files_that_come_late_are_waited_for_and_never_bought_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("DONE", [FIRST], {"costPU": 100.0})]])
    batch.ends = {"job-1": {FIRST: ("DONE", ""), SECOND: ("DONE", ""), THIRD: ("DONE", "")}}
    desk = desk_of(http_service, batch, polling=Polling(0.01, 0.2, 0.0))
    found = []
    for delivery in deliveries(desk, wanted()):
        if delivery:
            found.append(delivery)
            if len(found) == 1:
                for file in FILES:
                    (batch.folder("job-1") / SECOND).mkdir(exist_ok=True)
                    (batch.folder("job-1") / SECOND / file).touch()
    told = {delivery.tile.name: delivery for delivery in found}
    assert told[SECOND].folder == f"tiffs/job-1/{SECOND}"
    assert told[THIRD].error == "batch request job-1 (DONE): DONE, but its files are not there"
    assert len(batch.jobs) == 1


def test_what_is_whole_and_wrong_is_handed_on_and_not_bought_again(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    collected(desk, wanted())
    (tmp_path / f"tiffs/job-1/{SECOND}/B01.tif").write_text("wrong")
    found = collected(desk, wanted())
    assert found[SECOND].folder == f"tiffs/job-1/{SECOND}"  # its walk says what is wrong with it
    again = collected(desk, wanted(again=frozenset({SECOND})))
    assert again[SECOND].folder == f"tiffs/job-2/{SECOND}"
    assert batch.asked(batch.jobs[1]) == [SECOND]


def test_tiles_that_fail_for_good_are_not_paid_for_by_every_run(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("DONE", [FIRST, THIRD], {"costPU": 100.0})], [("DONE", [], {"costPU": 100.0})]])
    batch.ends = {f"job-{number}": {SECOND: ("FATAL", "script failed")} for number in range(1, 9)}
    desk = desk_of(http_service, batch)
    collected(desk, wanted())
    assert len(batch.jobs) == 3
    told = collected(desk, wanted(TILES[1:2]))[SECOND].error or ""
    assert told == (
        "batch request job-3: FATAL: script failed; asked for 3 times in vain (imagery.tries: 3), and not again before "
        "somebody says so: --rebuy 33UUU_4_7"
    )
    assert len(batch.jobs) == 3
    collected(desk, wanted(TILES[1:2], again=frozenset({SECOND})))
    assert len(batch.jobs) == 4


def test_tiles_of_a_later_run_are_ordered_along_and_waiting_there(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch)
    first = dataclasses.replace(wanted(), tiles=TILES[:1], also=TILES[2:])
    assert set(collected(desk, first)) == {FIRST}
    assert batch.asked(batch.jobs[0]) == [FIRST, THIRD]
    assert collected(desk, wanted(TILES[2:]))[THIRD].folder == f"tiffs/job-1/{THIRD}"
    assert len(batch.jobs) == 1


def test_a_folder_with_odd_signs_hides_no_word_of_the_service(http_service: Any, tmp_path: Path) -> None:
    root = tmp_path / "map #1 ? 100%"
    root.mkdir()
    batch = Batch(root, [[("DONE", [FIRST, THIRD], {"costPU": 100.0})]])
    batch.ends = {"job-1": {SECOND: ("DONE", "No data")}}
    assert collected(desk_of(http_service, batch), wanted())[SECOND].error is None


def test_a_half_delivered_tile_is_not_told(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("PROCESSING", NAMES[:2], {}), ("DONE", [], {})]])
    original = batch._step

    def step(job: Any) -> None:
        original(job)
        (batch.folder(job.id) / SECOND / "B02.tif").unlink(missing_ok=True)

    batch._step = step  # type: ignore[method-assign]
    found = collected(desk_of(http_service, batch, tries=1), wanted())
    assert {name: delivery.folder for name, delivery in found.items()} == {
        FIRST: f"tiffs/job-1/{FIRST}",
        SECOND: None,
        THIRD: None,
    }


def test_a_failed_job_is_told_and_not_tried_again_by_itself(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [[("FAILED", [FIRST], {"error": "the bucket refuses us", "costPU": 12.0})]])
    desk = desk_of(http_service, batch)
    found = collected(desk, wanted())
    assert found[FIRST].folder is not None
    assert found[SECOND].error == "batch request job-1 (FAILED): the bucket refuses us"
    assert len(batch.jobs) == 1
    assert spendings(desk) == [(100.0, 12.0)]


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_failed_analysis_starts_nothing_and_costs_nothing(http_service: Any, tmp_path: Path, status: str) -> None:
    batch = Batch(tmp_path, [DONE])

    def analyse(job: Any) -> None:
        job.status, job.extra = status, {"error": "the script is wrong"}

    batch._analyse = analyse  # type: ignore[method-assign]
    desk = desk_of(http_service, batch)
    with pytest.raises(ServiceError, match=f"job-1 ended as {status} in its analysis: the script is wrong"):
        collected(desk, wanted())
    assert batch.started == []
    assert spendings(desk) == [(100.0, 0.0)]


# What the service says differently than the grid


def test_other_tiles_than_asked_for_are_refused_before_anything_is_spent(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE], manifest=list(TILES[:2]))
    with pytest.raises(ServiceError, match=r"would make 2 tiles, the grid has 3; .*33UUU_5_7.*nothing was started"):
        collected(desk_of(http_service, batch), wanted())
    assert batch.started == []


def test_a_tile_that_lies_elsewhere_is_shown_in_both_versions(http_service: Any, tmp_path: Path) -> None:
    moved = dataclasses.replace(TILES[1], cell=Bounds(340_060, 5_800_000, 350_060, 5_810_000))
    batch = Batch(tmp_path, [DONE], manifest=[TILES[0], moved, TILES[2]])
    with pytest.raises(ServiceError) as raised:
        collected(desk_of(http_service, batch), wanted())
    told = str(raised.value)
    assert "places 1 tiles differently than the grid: 33UUU_4_7: there EPSG:32633 [340030, 5799980, 350090" in told
    assert "here EPSG:32633 [339970, 5799980, 350030, 5810020] (1004, 1006)" in told
    assert batch.started == []


def test_the_manifest_may_draw_tiles_without_their_buffer(http_service: Any, tmp_path: Path) -> None:
    bare = [dataclasses.replace(tile, buffer_px=(0, 0)) for tile in TILES]
    batch = Batch(tmp_path, [DONE], manifest=bare)
    with pytest.raises(ServiceError, match=r"\(1000, 1000\), here .* \(1004, 1006\)"):
        collected(desk_of(http_service, batch), wanted())  # the number of pixels still has to fit


@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_a_manifest_that_can_not_be_read_starts_nothing(
    http_service: Any, tmp_path: Path, content: bytes | None
) -> None:
    batch = Batch(tmp_path, [DONE])
    original = batch._analyse

    def analyse(job: Any) -> None:
        original(job)
        manifest = batch.folder(job.id) / f"featureManifest-{job.id}.gpkg"
        manifest.unlink()
        if content is not None:
            manifest.write_bytes(content)

    batch._analyse = analyse  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match=r"featureManifest-job-1.gpkg: the service's list of tiles can't be read"):
        collected(desk_of(http_service, batch), wanted())
    assert batch.started == []


# What it costs


def test_over_budget_nothing_is_created(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    with pytest.raises(BudgetExceeded, match=r"max_processing_units: 99: imagery of 3 tiles would cost about 100.0"):
        collected(desk_of(http_service, batch, {"limit": 99.0}), wanted())
    assert batch.jobs == []


def test_more_by_the_services_own_count_than_the_budget_has_is_never_started(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch, {"limit": 200.0})
    counts = iter([100.0, 250.0])
    desk = dataclasses.replace(desk, estimate=lambda shapes: next(counts))
    with pytest.raises(
        BudgetExceeded, match=r"200: batch request job-1, 3 tiles by the service's analysis, would cost"
    ):
        collected(desk, wanted())
    assert batch.started == []
    assert spendings(desk) == [(100.0, 0.0)]


def test_nobody_has_approved(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE])
    desk = desk_of(http_service, batch, {"require_approval": True})
    with pytest.raises(ApprovalNeeded, match=r"eo-assets approve project.yaml --units 100"):
        collected(desk, wanted())
    assert batch.jobs == []
    desk.ledger.approve(120.0, "jane")
    collected(desk, wanted())
    month = desk.ledger.months()[desk.ledger.month()]
    assert [(entry.approval, entry.actual) for entry in month.spendings.values()] == [(month.approvals[0].id, 100.0)]
    assert (month.approvals[0].user, month.approvals[0].units) == ("jane", 120.0)


def test_a_job_that_costs_more_than_is_left_is_stopped_and_its_tiles_are_kept(
    http_service: Any, tmp_path: Path
) -> None:
    steps: list[Any] = [
        ("PROCESSING", [FIRST], {"costPU": 90.0}),
        ("PROCESSING", [FIRST], {"costPU": 140.0}),
        ("PROCESSING", [SECOND], {"costPU": 210.0}),
        ("DONE", NAMES, {"costPU": 300.0}),
    ]
    batch = Batch(tmp_path, [steps])
    desk = desk_of(http_service, batch, {"limit": 200.0})
    found = collected(desk, wanted())
    assert ("stop", "job-1") in batch.acts
    assert found[FIRST].folder is not None and found[SECOND].folder is not None
    told = found[THIRD].error or ""
    assert "it was stopped after 210.0 processing units" in told and "budget.max_processing_units: 200" in told
    assert spendings(desk) == [(140.0, 210.0)]
    assert [order["state"] for order in orders(desk)] == ["stopped"]
    # It is not started again as long as the budget is what it is; with a larger one it goes on.
    found = collected(desk, wanted(TILES[2:]))
    assert "budget.max_processing_units: 200" in (found[THIRD].error or "")
    batch.jobs[0].steps = [("DONE", NAMES, {"costPU": 300.0})]
    desk = dataclasses.replace(desk, ledger=dataclasses.replace(desk.ledger, limit=400.0))
    assert collected(desk, wanted(TILES[2:]))[THIRD].folder is not None
    assert spendings(desk) == [(210.0, 300.0)]
    assert len(batch.jobs) == 1


def test_a_job_that_ran_out_of_units_rests_and_is_started_again_later(http_service: Any, tmp_path: Path) -> None:
    stopped = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    reason = {"costPU": 60.0, "stoppedStatusReason": "OUT_OF_PU", "lastUpdated": stopped}
    batch = Batch(tmp_path, [[("STOPPED", [FIRST], reason)]])
    desk = desk_of(http_service, batch, polling=Polling(0.01, 0.01, 30.0))
    found = collected(desk, wanted())
    assert "stopped, OUT_OF_PU; a later run starts it again, from 20" in (found[SECOND].error or "")
    found = collected(desk, wanted(TILES[1:]))
    assert "was stopped (OUT_OF_PU) and may be started again from" in (found[SECOND].error or "")
    assert batch.started == ["job-1"]
    batch.jobs[0].steps = [("DONE", NAMES, {"costPU": 130.0})]
    found = collected(dataclasses.replace(desk, polling=Polling(0.01, 0.01, 0.0)), wanted(TILES[1:]))
    assert {delivery.error for delivery in found.values()} == {None}
    assert batch.started == ["job-1", "job-1"] and len(batch.jobs) == 1
    assert spendings(desk) == [(100.0, 130.0)]


def test_a_refused_order_is_told_and_costs_nothing(http_service: Any, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [DONE], refuse={"create": (400, "tile limit exceeded")})
    desk = desk_of(http_service, batch)
    with pytest.raises(ServiceError, match="tile limit exceeded"):
        collected(desk, wanted())
    assert spendings(desk) == [(100.0, 0.0)]
