"""From jobs that run to tiles that have arrived, and what became of those that have not."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Sequence

from eo_assets.core.tile import Tile
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, TransientError
from resources.batch_api import JobState
from resources.batch_desk import Delivery, Desk, Steps, Wanted, arrived, pause, recipes_of
from resources.batch_orders import NOTHING, Order
from resources.batch_side_files import read_execution

LOG = logging.getLogger(__name__)


def collect(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], jobs: Sequence[Order], reasons: dict[str, str]
) -> Steps:
    """Every waiting tile as its job delivers it, until all jobs have ended; `reasons`: what may be asked for again."""
    running, heard = list(jobs), time.monotonic()
    while running:
        for order in list(running):
            state = _look(desk, order, heard)  # before the files: what a job that has ended delivered is there
            if state is None:
                continue
            heard = time.monotonic()
            yield from arrived(desk, wanted, waiting, order)
            if state.status not in ("DONE", "FAILED", "STOPPED"):
                _watch_cost(desk, order, state)
            else:
                running.remove(order)
                yield from _ended(desk, wanted, waiting, order, state, reasons)
        if running:
            yield from pause(desk.polling.seconds)


def _look(desk: Desk, order: Order, heard: float) -> JobState | None:
    """How a job is; None while its service can't be reached. A job runs on whether we see it or not."""
    try:
        return desk.api.look(order.job)
    except TransientError as error:
        if time.monotonic() - heard > 60 * desk.polling.patience_minutes:
            raise
        LOG.warning("batch request %s can't be looked at, it is asked for again: %s", order.job, error)
        return None


def _watch_cost(desk: Desk, order: Order, state: JobState) -> None:
    """Stop a job that costs more than the budget has left; the tiles that it has delivered are kept."""
    reserved = max(order.estimate, 0.0)
    if state.cost is None or state.cost <= reserved or state.status != "PROCESSING":
        return
    try:
        desk.ledger.grow(order.id, state.cost, f"batch request {order.job}, which is running,")
    except (BudgetExceeded, ApprovalNeeded) as error:
        LOG.error("batch request %s has cost %.1f units and is stopped: %s", order.job, state.cost, error)
        desk.book.change(order, reason=f"it was stopped after {state.cost:,.1f} processing units: {error}")
        desk.api.stop(order.job)


def _ended(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], order: Order, state: JobState, reasons: dict[str, str]
) -> Steps:
    """Settle what a job has cost, and tell of every tile that it did not deliver."""
    cost = order.estimate if state.cost is None else state.cost
    known = next((kept for kept in desk.book.all() if kept.id == order.id), order)
    desk.ledger.settle(order.id, cost, "" if state.status == "DONE" else state.status)
    if state.status == "STOPPED":
        stopped = (state.changed or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds")
        desk.book.change(order, state="stopped", stopped=stopped)
    else:
        desk.book.change(order, state="ended", reason=state.error)
    ends = read_execution(desk.path(f"{desk.api.folder}/{order.job}/execution-{order.job}.sqlite"))
    for name in order.covers(recipes_of(wanted, waiting)):
        end = ends.get(name)
        told = f"batch request {order.job} ({state.status}): "
        if end is not None and end.empty:
            yield Delivery(waiting.pop(name), _write_empty(desk, desk.place(order, name), end.error))
        elif state.status == "DONE":
            reasons[name] = told + (f"{end.status}: {end.error}" if end else "no word of it")
        else:
            yield Delivery(waiting.pop(name), None, told + _why(desk, known, state, end.status if end else ""))


def _why(desk: Desk, order: Order, state: JobState, tile_status: str) -> str:
    if state.status == "FAILED":
        return state.error or tile_status or "no reason given"
    if order.reason:
        return order.reason
    ready = desk.may_start_again(order, state)
    return (
        f"stopped, {state.stopped_reason or 'no reason given'}; a later run starts it again, from "
        f"{ready:%Y-%m-%d %H:%M} UTC on"
    )


def _write_empty(desk: Desk, key: str, said: str) -> str:
    """The service's word that a tile has no data, where its files would lie; it is committed like a delivery."""
    desk.api.store.put(f"{key}/{NOTHING}.json", json.dumps({"reason": f"the service says: {said}"}).encode())
    return key
