"""Imagery for many tiles: jobs that were begun are gone on with, the rest is ordered, and tiles come back one by one.

A job is state in the project folder (`batch_orders.py`), so a run that dies, at whatever instant, leaves a job that the
next run finds. The folder of a job holds what the service puts there: `<tile>/<output>.tif`, `<tile>/userdata.json` and
the side files `featureManifest-<id>.gpkg` and `execution-<id>.sqlite`.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eo_assets.core.cost import Shape
from eo_assets.core.tile import Tile
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, EoAssetsError, ServiceError, TileError, TransientError
from resources.batch_api import BatchApi, Imagery, JobState, TilingGrid
from resources.batch_orders import NOTHING, Order, OrderBook
from resources.batch_side_files import read_execution, read_manifest, reconcile
from resources.spending import Ledger, Spending

__all__ = ["BatchApi", "Delivery", "Desk", "Imagery", "Polling", "TilingGrid", "Wanted", "deliveries"]

LOG = logging.getLogger(__name__)
SLICE_SECONDS = 0.5
"""The longest that a caller is kept waiting for a sign of life."""
UNPLACED = "never reached the service"


@dataclass(frozen=True, slots=True)
class Polling:
    """How often a job is looked at, and how long a stopped one must rest before it may be started again."""

    seconds: float = 60.0
    analysis_seconds: float = 5.0
    restart_minutes: float = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tiles that are asked for, with the recipes that their tiffs are wanted with.

    `grid` is every tile of the project by name: a job that is gone on with may be for others too. `tiling_grid` is
    given when all of it is asked for and the service has the same grid.
    """

    imagery: Imagery
    tiles: tuple[Tile, ...]
    recipes: Mapping[str, str]
    grid: Mapping[str, Tile]
    tiling_grid: TilingGrid | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """Where orders are placed. `estimate` gives processing units of one request for tiles of these shapes.

    `check` raises TileError for a delivered folder that can't be used; `there` tells whether a tile has been committed
    by somebody else meanwhile; `before_create` may refuse, before a job is made.
    """

    api: BatchApi
    book: OrderBook
    ledger: Ledger
    estimate: Callable[[Sequence[Shape]], float]
    check: Callable[[Tile, Path], None]
    there: Callable[[Tile], bool]
    before_create: Callable[[], None] = field(default=lambda: None)
    polling: Polling = Polling()
    tries: int = 3

    def place(self, order: Order, name: str) -> str:
        """The key under which a tile of an order is delivered."""
        return f"{self.api.folder}/{order.job}/{name}"

    def path(self, key: str) -> Path:
        """Where a key lies."""
        return self.api.store.path(key)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A tile that has arrived under `folder`, or was given up, with its reason; neither: it is committed already."""

    tile: Tile
    folder: str | None
    error: str | None = None


Steps = Generator[Delivery | None, None, None]


def deliveries(desk: Desk, wanted: Wanted) -> Iterator[Delivery | None]:
    """Yield every wanted tile once, as it arrives; None whenever there is nothing new to tell.

    What earlier orders delivered or still deliver is taken from them. What the service fails to make is asked for
    again, in one request, at most `desk.tries` times in all. Raises EoAssetsError if nothing can be ordered: then the
    tiles that had arrived have been told, and the rest are not.
    """
    waiting = {tile.name: tile for tile in wanted.tiles}
    reasons: dict[str, str] = {}
    for attempt in range(1, desk.tries + 1):
        jobs: list[Order] = []
        try:
            yield from _place(desk, wanted, waiting, jobs)
        except EoAssetsError as error:
            if not jobs and not reasons:
                raise
            covered = {name for order in jobs for name in order.tiles}
            for name in [name for name in waiting if name not in covered]:
                before = f"{reasons[name]}; not asked for again: " if name in reasons else ""
                yield Delivery(waiting.pop(name), None, f"{before}{error}")
        reasons.clear()
        yield from _collect(desk, wanted, waiting, jobs, reasons)
        if not reasons or attempt == desk.tries:
            break
        LOG.warning("%d tiles were not made; they are asked for again: %s", len(reasons), ", ".join(reasons))
    for name, tile in waiting.items():
        yield Delivery(tile, None, reasons.get(name, "the service says nothing of it"))


def _place(desk: Desk, wanted: Wanted, waiting: dict[str, Tile], jobs: list[Order]) -> Steps:
    """Find or make the jobs of the waiting tiles, one process at a time; every job in `jobs` runs or has ended."""
    told = "another run is ordering imagery; waiting for it"
    with desk.api.store.exclusive(f"{desk.api.folder}/ordering", lambda: LOG.warning(told)):
        yield from _already_there(desk, wanted, waiting)
        for order in desk.book.open():
            mine = order.covers(_recipes(wanted, waiting))
            if not mine:
                _tidy(desk, order)
                continue
            try:
                jobs.extend((yield from _resume(desk, wanted, order)))
            except EoAssetsError as error:
                for name in mine:
                    yield Delivery(waiting.pop(name), None, str(error))
        covered = {name for order in jobs for name in order.covers(wanted.recipes)}
        rest = [tile for name, tile in waiting.items() if name not in covered]
        if rest:
            jobs.append((yield from _order(desk, wanted, rest)))


def _recipes(wanted: Wanted, waiting: Mapping[str, Tile]) -> dict[str, str]:
    return {name: wanted.recipes[name] for name in waiting}


def _already_there(desk: Desk, wanted: Wanted, waiting: dict[str, Tile]) -> Steps:
    """Tiles that somebody else has committed meanwhile, and tiles that were delivered and never taken up."""
    for name in [name for name, tile in waiting.items() if desk.there(tile)]:
        yield Delivery(waiting.pop(name), None)
    for order in desk.book.all():
        yield from _arrived(desk, wanted, waiting, order, checked=True)


def _tidy(desk: Desk, order: Order) -> None:
    """Bring the record of an order that nobody waits for up to date: settled when it has ended, given up if it never
    began. A job that runs is left running: another process may wait for it."""
    job = order.job or desk.api.find(order)
    if not job:
        _give_up(desk, order, 0.0, UNPLACED)
        return
    state = desk.api.look(job)
    if state.status in ("CREATED", "ANALYSING", "ANALYSIS_DONE"):
        _give_up(desk, order, 0.0, "never started, and nobody wants it any more")
    elif state.status in ("DONE", "FAILED"):
        _give_up(desk, order, order.estimate if state.cost is None else state.cost, state.error)


def _arrived(desk: Desk, wanted: Wanted, waiting: dict[str, Tile], order: Order, *, checked: bool = False) -> Steps:
    """The waiting tiles of an order that lie complete in its folder."""
    for name in order.covers(_recipes(wanted, waiting)) if order.job else ():
        key = desk.place(order, name)
        if _complete(desk.path(key), wanted.imagery.outputs) and not (checked and _unusable(desk, waiting[name], key)):
            yield Delivery(waiting.pop(name), key)


def _complete(folder: Path, outputs: Sequence[str]) -> bool:
    """Has every file of a tile arrived, or the word that there is none? Files appear whole or not at all."""
    stems = {path.stem for path in folder.glob("*.*")} if folder.is_dir() else set()
    return stems.issuperset((*outputs, "userdata")) or NOTHING in stems


def _unusable(desk: Desk, tile: Tile, key: str) -> bool:
    try:
        desk.check(tile, desk.path(key))
    except TileError as error:
        LOG.warning("an earlier delivery of %s is of no use, it is ordered again: %s", tile.name, error)
        return True
    return False


def _resume(desk: Desk, wanted: Wanted, order: Order) -> Generator[None, None, list[Order]]:
    """Go on with an order that somebody began; nothing if it never reached the service."""
    if not order.job:
        job = desk.api.find(order)
        if job is None:
            _give_up(desk, order, 0.0, UNPLACED)
            return []
        LOG.warning("%s was created as %s, whose id had not been recorded", order.description, job)
        order = _created(desk, order, job)
    state = desk.api.look(order.job)
    LOG.info("going on with batch request %s (%s), ordered %s", order.job, state.status, order.created)
    if state.status in ("CREATED", "ANALYSING", "ANALYSIS_DONE"):
        return [(yield from _start(desk, wanted, order))]
    if state.status == "STOPPED":
        return [_restart(desk, order, state)]
    return [desk.book.change(order, state="started")]


def _restart(desk: Desk, order: Order, state: JobState) -> Order:
    """Start a stopped job again. Raises ServiceError while the service does not allow it yet."""
    ready = _may_start_again(desk, order, state)
    if ready > dt.datetime.now(dt.UTC):
        raise ServiceError(
            f"batch request {order.job} was stopped ({state.stopped_reason or 'no reason given'}) and may be started "
            f"again from {ready:%Y-%m-%d %H:%M} UTC on; run it again then"
        )
    desk.ledger.grow(order.id, max(order.estimate, state.cost or 0.0), f"starting batch request {order.job} again")
    desk.api.start(order.job)
    return desk.book.change(order, state="started", stopped="", reason="")


def _may_start_again(desk: Desk, order: Order, state: JobState) -> dt.datetime:
    stopped = dt.datetime.fromisoformat(order.stopped) if order.stopped else state.changed
    rest = dt.timedelta(minutes=desk.polling.restart_minutes)
    return (stopped or dt.datetime.now(dt.UTC) - rest) + rest


def _order(desk: Desk, wanted: Wanted, tiles: Sequence[Tile]) -> Generator[None, None, Order]:
    """Write an order down, reserve what it will cost, have the job made, analysed and started."""
    estimate = desk.estimate([tile.shape for tile in tiles])
    what = f"imagery of {len(tiles)} tiles"
    desk.ledger.require(estimate, what)
    desk.before_create()
    service = desk.api.service.name
    order = desk.book.add(service, {tile.name: wanted.recipes[tile.name] for tile in tiles}, estimate)
    try:
        desk.ledger.reserve(Spending(order.id, "batch", service, len(tiles), estimate, estimate), what)
        order = _created(desk, order, _create(desk, wanted, order, tiles))
    except (BudgetExceeded, ApprovalNeeded, ServiceError) as error:
        _give_up(desk, order, 0.0, str(error))
        raise
    return (yield from _start(desk, wanted, order))


def _create(desk: Desk, wanted: Wanted, order: Order, tiles: Sequence[Tile]) -> str:
    """The job's id. Where the answer to its creation was lost it is looked for, before a second one is made."""
    whole = wanted.tiling_grid if len(tiles) == len(wanted.grid) else None
    try:
        return desk.api.create(order, wanted.imagery, tiles, whole)
    except TransientError as error:
        LOG.warning("the answer to the creation of %s was lost: %s", order.description, error)
        return desk.api.find(order) or desk.api.create(order, wanted.imagery, tiles, whole)


def _created(desk: Desk, order: Order, job: str) -> Order:
    desk.ledger.note_job(order.id, job)
    return desk.book.change(order, job=job, state="created")


def _give_up(desk: Desk, order: Order, cost: float, reason: str) -> None:
    desk.ledger.settle(order.id, cost, reason)
    desk.book.change(order, state="ended", reason=reason)


def _start(desk: Desk, wanted: Wanted, order: Order) -> Generator[None, None, Order]:
    """From a job that exists to one that runs: its tiles compared with ours, counted again, paid for, started."""
    try:
        yield from _analysed(desk, order)
        manifest = desk.path(f"{desk.api.folder}/{order.job}/featureManifest-{order.job}.gpkg")
        listed = read_manifest(manifest)
        expected = [wanted.grid[name] for name in order.tiles if name in wanted.grid]
        if len(expected) == len(order.tiles):
            reconcile(manifest, listed, expected)
        shapes = [tile.shape or wanted.grid[name].shape for name, tile in listed.items()]
        units = desk.estimate(shapes)
        desk.ledger.grow(order.id, units, f"batch request {order.job}, {len(shapes)} tiles by the service's analysis,")
    except (BudgetExceeded, ApprovalNeeded, ServiceError) as error:
        _give_up(desk, order, 0.0, str(error))
        raise
    desk.api.start(order.job)
    LOG.info("batch request %s started: %d tiles, about %.1f processing units", order.job, len(shapes), units)
    return desk.book.change(order, state="started", estimate=units)


def _analysed(desk: Desk, order: Order) -> Iterator[None]:
    """Until the service has laid out the tiles. Nothing is spent before the job starts."""
    asked = False
    while (state := desk.api.look(order.job)).status in ("CREATED", "ANALYSING"):
        if state.status == "CREATED" and not asked:
            desk.api.analyse(order.job)
            asked = True
            continue
        yield from _pause(desk.polling.analysis_seconds)
    if state.status in ("FAILED", "STOPPED"):
        raise ServiceError(f"batch request {order.job} ended as {state.status} in its analysis: {state.error}")


def _collect(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], jobs: Sequence[Order], reasons: dict[str, str]
) -> Steps:
    """Every waiting tile as its job delivers it, until all jobs have ended; `reasons`: what may be asked for again."""
    running = list(jobs)
    while running:
        for order in list(running):
            state = desk.api.look(order.job)  # before the files: what a job that has ended delivered is there
            yield from _arrived(desk, wanted, waiting, order)
            if state.status not in ("DONE", "FAILED", "STOPPED"):
                _watch_cost(desk, order, state)
            else:
                running.remove(order)
                yield from _ended(desk, wanted, waiting, order, state, reasons)
        if running:
            yield from _pause(desk.polling.seconds)


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
    for name in order.covers(_recipes(wanted, waiting)):
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
    ready = _may_start_again(desk, order, state)
    return (
        f"stopped, {state.stopped_reason or 'no reason given'}; a later run starts it again, from "
        f"{ready:%Y-%m-%d %H:%M} UTC on"
    )


def _write_empty(desk: Desk, key: str, said: str) -> str:
    """The service's word that a tile has no data, where its files would lie; it is committed like a delivery."""
    desk.api.store.put(f"{key}/{NOTHING}.json", json.dumps({"reason": f"the service says: {said}"}).encode())
    return key


def _pause(seconds: float) -> Iterator[None]:
    """Wait, with a sign of life now and then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, SLICE_SECONDS))
        yield None
