"""From jobs that run to tiles that have arrived, and what became of those that have not."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Mapping, Sequence

from eo_assets.core.tile import Tile
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, EoAssetsError, ServiceError, TransientError
from resources.batch_api import JobState
from resources.batch_desk import Delivery, Desk, Steps, Wanted, arrived, pause, recipes_of
from resources.batch_orders import NOTHING, Order
from resources.batch_side_files import TileEnd, read_execution
from resources.delivered_files import complete, local_file

LOG = logging.getLogger(__name__)
ENDED = ("DONE", "FAILED", "STOPPED")
LATE_LOOKS = 3
"""How often files are looked for again that the service says it has delivered."""


def collect(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], jobs: Sequence[Order], reasons: dict[str, str]
) -> Steps:
    """Every waiting tile as its job delivers it, until all jobs have ended; `reasons`: what may be asked for again."""
    running = list(jobs)
    silent: dict[str, float] = {}
    while running:
        for order in list(running):
            try:
                state = desk.api.look(order.job)  # before the files: what a job that has ended delivered is there
            except EoAssetsError as error:
                if _patient(desk, order, silent, error):
                    continue
                running.remove(order)
                for name in order.covers(recipes_of(wanted, waiting)):
                    yield Delivery(waiting.pop(name), None, f"{error}; the job may go on, a later run looks again")
                continue
            silent.pop(order.id, None)
            yield from arrived(desk, wanted, waiting, order)
            if state.status not in ENDED:
                _watch_cost(desk, order, state)
                continue
            running.remove(order)
            yield from _late(desk, wanted, waiting, order, state)
            yield from _ended(desk, wanted, waiting, order, state, reasons)
        if running:
            yield from pause(desk.polling.seconds)


def _patient(desk: Desk, order: Order, silent: dict[str, float], error: EoAssetsError) -> bool:
    """Is a job that can't be looked at still waited for? It runs on whether we see it or not."""
    since = silent.setdefault(order.id, time.monotonic())
    LOG.warning("batch request %s can't be looked at: %s", order.job, error)
    return time.monotonic() - since < 60 * desk.polling.patience_minutes


def _watch_cost(desk: Desk, order: Order, state: JobState) -> None:
    """Stop a job that costs more than the budget has left; the tiles that it has delivered are kept."""
    if state.cost is None or state.cost <= order.estimate or state.status != "PROCESSING":
        return
    try:
        desk.ledger.grow(order.id, state.cost, f"batch request {order.job}, which is running,")
    except (BudgetExceeded, ApprovalNeeded) as error:
        LOG.error("batch request %s has cost %.1f units and is stopped: %s", order.job, state.cost, error)
        desk.book.change(order, reason=f"it was stopped after {state.cost:,.1f} processing units: {error}")
        try:
            desk.api.stop(order.job)
        except (ServiceError, TransientError) as refusal:
            LOG.error("batch request %s does not stop, it is tried again: %s", order.job, refusal)


def _late(desk: Desk, wanted: Wanted, waiting: dict[str, Tile], order: Order, state: JobState) -> Steps:
    """Files of tiles that the service calls DONE may show later than its word: they are paid for."""
    for _ in range(LATE_LOOKS):
        ends = _ends(desk, order)
        mine = order.covers(recipes_of(wanted, waiting))
        if not any(name in ends and ends[name].status == "DONE" and not ends[name].empty for name in mine):
            return
        yield from pause(desk.polling.analysis_seconds)
        yield from arrived(desk, wanted, waiting, order)


def _ended(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], order: Order, state: JobState, reasons: dict[str, str]
) -> Steps:
    """Settle what a job has cost, and tell of every tile that it did not deliver.

    Asked for again is only what the service says it has not made: FATAL and PENDING tiles of a job that is DONE.
    """
    known = next((kept for kept in desk.book.all() if kept.id == order.id), order)
    ends = _ends(desk, order)
    failed = _failures(desk, wanted, order, ends)
    for name in order.covers(recipes_of(wanted, waiting)):
        end, told = ends.get(name), f"batch request {order.job} ({state.status}): "
        if end is not None and end.empty:
            yield Delivery(waiting.pop(name), _write_empty(desk, desk.place(order, name), end.error))
            continue
        if state.status == "DONE" and end is not None and end.status in ("FATAL", "PENDING"):
            reasons[name] = told + f"{end.status}: {end.error}"
        elif state.status == "DONE":
            said = f"{end.status}, but its files are not there" if end else "no word of it"
            yield Delivery(waiting.pop(name), None, told + said)
        else:
            yield Delivery(waiting.pop(name), None, told + _why(desk, known, state, end.status if end else ""))
    _settle(desk, order, state, failed)


def _failures(desk: Desk, wanted: Wanted, order: Order, ends: Mapping[str, TileEnd]) -> dict[str, str]:
    """What the service said of every tile of an order that it did not deliver, whoever waits for it."""
    failed, files = {}, desk.files(order)
    for name in order.tiles:
        end = ends.get(name, TileEnd("no word of it", ""))
        if not end.empty and not complete(files(name), wanted.imagery.outputs):
            failed[name] = f"{end.status}: {end.error}".removesuffix(": ")
    return failed


def _settle(desk: Desk, order: Order, state: JobState, failed: Mapping[str, str]) -> None:
    cost = order.estimate if state.cost is None else state.cost
    desk.ledger.settle(order.id, cost, "" if state.status == "DONE" else state.status)
    if state.status == "STOPPED":
        stopped = (state.changed or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds")
        desk.book.change(order, state="stopped", stopped=stopped)
    else:
        counted = failed if state.status == "DONE" else {}
        desk.book.change(order, state="ended", reason=state.error, failures=counted)


def _ends(desk: Desk, order: Order) -> dict[str, TileEnd]:
    key = f"{desk.api.folder}/{order.job}/execution-{order.job}.sqlite"
    with local_file(desk.api.store, key) as path:
        return read_execution(path)


def _why(desk: Desk, order: Order, state: JobState, tile_status: str) -> str:
    if state.status == "FAILED":
        return state.error or tile_status or "no reason given"
    if order.reason:
        return order.reason
    if state.stopped_reason == "USER_ACTION":
        return "stopped by somebody; --rebuy with one of its tiles starts it again"
    ready = desk.may_start_again(order, state)
    return (
        f"stopped, {state.stopped_reason or 'no reason given'}; a later run starts it again, from "
        f"{ready:%Y-%m-%d %H:%M} UTC on"
    )


def _write_empty(desk: Desk, key: str, said: str) -> str:
    """The service's word that a tile has no data, where its files would lie; it is committed like a delivery."""
    desk.api.store.put(f"{key}/{NOTHING}.json", json.dumps({"reason": f"the service says: {said}"}).encode())
    return key
