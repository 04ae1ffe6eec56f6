"""From waiting tiles to jobs that run: what was begun is gone on with, the rest is ordered, one process at a time."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Generator, Iterator, Sequence

from eo_assets.core.spendings import Spending
from eo_assets.core.tile import Tile
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, EoAssetsError, ServiceError, TransientError
from resources.batch_api import JobState
from resources.batch_desk import Delivery, Desk, Steps, Wanted, arrived, pause, recipes_of
from resources.batch_orders import Order
from resources.batch_side_files import read_manifest, reconcile
from resources.delivered_files import local_file
from resources.sentinel_hub import http_status

LOG = logging.getLogger(__name__)
UNPLACED = "never reached the service"
UNSTARTED = ("CREATED", "ANALYSING", "ANALYSIS_DONE")
FORGOTTEN_AFTER = dt.timedelta(hours=1)
"""A job of this age that the service does not know is not one that it does not know yet."""


def place(desk: Desk, wanted: Wanted, waiting: dict[str, Tile], jobs: list[Order]) -> Steps:
    """Find or make the jobs of the waiting tiles, one process at a time; every job in `jobs` runs or has ended.

    Yields what is there already, and tiles that are not ordered, each with its reason.
    """
    told = "another run is ordering imagery; waiting for it"
    found: list[Delivery] = []
    try:
        with desk.api.store.exclusive(f"{desk.api.folder}/ordering", lambda: LOG.warning(told)):
            found += _already_there(desk, wanted, waiting)
            for order in desk.book.open():
                yield from _go_on(desk, wanted, waiting, order, jobs, found)
            covered = {name for order in jobs for name in order.covers(wanted.recipes)}
            found += _given_up(desk, wanted, waiting, covered)
            rest = [tile for name, tile in waiting.items() if name not in covered]
            if rest:
                jobs.append((yield from _order(desk, wanted, [*rest, *_also(desk, wanted)])))
    except EoAssetsError:
        yield from found
        raise
    yield from found


def _already_there(desk: Desk, wanted: Wanted, waiting: dict[str, Tile]) -> list[Delivery]:
    """Tiles that somebody else has committed meanwhile, and tiles that were delivered and never taken up."""
    committed = [name for name, tile in waiting.items() if desk.there(tile)]
    found = [Delivery(waiting.pop(name), None) for name in committed]
    usable = {name: tile for name, tile in waiting.items() if name not in wanted.again}
    for order in desk.book.all():
        found += arrived(desk, wanted, usable, order, checked=True)
    for delivery in found:
        waiting.pop(delivery.tile.name, None)
    return found


def _given_up(desk: Desk, wanted: Wanted, waiting: dict[str, Tile], covered: set[str]) -> list[Delivery]:
    """Tiles that the service was asked for often enough: runs that repeat by themselves must not pay for ever."""
    recipes = {name: recipe for name, recipe in recipes_of(wanted, waiting).items() if name not in covered}
    said = desk.book.failures({name: recipe for name, recipe in recipes.items() if name not in wanted.again})
    return [
        Delivery(
            waiting.pop(name),
            None,
            f"batch request {failures[-1]}; asked for {len(failures)} times in vain (imagery.tries: {desk.tries}), "
            f"and not again before somebody says so: --rebuy {name}",
        )
        for name, failures in said.items()
        if len(failures) >= desk.tries
    ]


def _also(desk: Desk, wanted: Wanted) -> list[Tile]:
    """Tiles that another run of the same request will want, where no open order is for them and nothing lies there."""
    recipes = {tile.name: wanted.recipes[tile.name] for tile in wanted.also}
    covered = {name for order in desk.book.open() for name in order.covers(recipes)}
    for order in desk.book.all():
        asked = order.covers(recipes)
        files = desk.files(order) if asked else None
        covered |= {name for name in asked if files is not None and files(name)}
    covered |= {name for name, failures in desk.book.failures(recipes).items() if len(failures) >= desk.tries}
    return [tile for tile in wanted.also if tile.name not in covered and not desk.there(tile)]


def _go_on(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], order: Order, jobs: list[Order], found: list[Delivery]
) -> Iterator[None]:
    """An open order: gone on with if it is for waiting tiles, else only brought up to date."""
    mine = order.covers(recipes_of(wanted, waiting))
    try:
        if mine:
            jobs.extend((yield from _resume(desk, wanted, order, set(mine))))
        elif order.service == desk.api.service.name:
            _tidy(desk, order)
    except EoAssetsError as error:
        if _forgotten(desk, order, error):
            LOG.warning("batch request %s is no longer known to the service, counted as estimated", order.job)
            _give_up(desk, order, order.estimate, "the service no longer knows of it: counted as estimated")
        elif mine:
            found += [Delivery(waiting.pop(name), None, str(error)) for name in mine]
        else:
            LOG.warning("the state of %s is not known: %s", order.description, error)


def _forgotten(desk: Desk, order: Order, error: EoAssetsError) -> bool:
    """Does the service itself say that it has no such job? A 404 alone may be a wrong address or a gateway's."""
    if http_status(error) != 404 or not order.job or _age(order) < FORGOTTEN_AFTER:
        return False
    try:
        return desk.api.find(order) is None
    except EoAssetsError:
        return False


def _age(order: Order) -> dt.timedelta:
    return dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(order.created)


def _tidy(desk: Desk, order: Order) -> None:
    """Bring the record of an order that nobody waits for up to date: settled when it has ended, given up if it never
    began. A job that runs is left running: another process may wait for it."""
    job = order.job or desk.api.find(order)
    if not job:
        _give_up(desk, order, 0.0, UNPLACED)
        return
    state = desk.api.look(job)
    if state.status in UNSTARTED:
        _give_up(desk, order, 0.0, "never started, and nobody wants it any more")
    elif state.status in ("DONE", "FAILED"):
        _give_up(desk, order, order.estimate if state.cost is None else state.cost, state.error)
    elif state.status == "STOPPED":
        desk.ledger.settle(order.id, order.estimate if state.cost is None else state.cost, "STOPPED")


def _resume(desk: Desk, wanted: Wanted, order: Order, mine: set[str]) -> Generator[None, None, list[Order]]:
    """Go on with an order that somebody began; nothing if it never reached the service, or asks for more than we do.

    An order that has not started belongs to a run that has died: nobody starts what nobody asks for now.
    """
    if not order.job:
        job = desk.api.find(order)
        if job is None:
            _give_up(desk, order, 0.0, UNPLACED)
            return []
        LOG.warning("%s was created as %s, whose id had not been recorded", order.description, job)
        order = _created(desk, order, job)
    state = desk.api.look(order.job)
    LOG.info("going on with batch request %s (%s), ordered %s", order.job, state.status, order.created)
    if state.status in UNSTARTED:
        asked = mine | {tile.name for tile in wanted.also}
        if not order.tiles.keys() <= asked:
            _give_up(desk, order, 0.0, "never started, and not all of it is wanted any more")
            return []
        return [(yield from _start(desk, wanted, order))]
    if state.status == "STOPPED":
        return [_restart(desk, wanted, order, state)]
    return [desk.book.change(order, state="started")]


def _restart(desk: Desk, wanted: Wanted, order: Order, state: JobState) -> Order:
    """Start a stopped job again. Raises ServiceError while the service, or whoever stopped it, does not allow it."""
    ready = desk.may_start_again(order, state)
    if ready > dt.datetime.now(dt.UTC):
        raise ServiceError(
            f"batch request {order.job} was stopped ({state.stopped_reason or 'no reason given'}) and may be started "
            f"again from {ready:%Y-%m-%d %H:%M} UTC on; run it again then"
        )
    if state.stopped_reason == "USER_ACTION" and not order.reason and not wanted.again & order.tiles.keys():
        raise ServiceError(
            f"batch request {order.job} was stopped by somebody and stays so; --rebuy with one of its tiles starts it "
            "again"
        )
    cost = state.cost or 0.0
    desk.ledger.grow(order.id, max(order.estimate, cost), f"starting batch request {order.job} again")
    try:
        desk.api.start(order.job)
    except ServiceError as error:
        _give_up(desk, order, cost, f"it can't be started again: {error}")
        raise
    return desk.book.change(order, state="started", stopped="", reason="")


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
        key = f"{desk.api.folder}/{order.job}/featureManifest-{order.job}.gpkg"
        manifest = desk.api.store.place(key)
        with local_file(desk.api.store, key) as path:
            listed = read_manifest(path, manifest)
        expected = [wanted.grid[name] for name in order.tiles if name in wanted.grid]
        if len(expected) == len(order.tiles):
            reconcile(manifest, listed, expected)
        ours = {name: tile.shape for name, tile in wanted.grid.items()}
        shapes = [tile.shape or ours.get(name) for name, tile in listed.items()]
        known = [shape for shape in shapes if shape is not None]
        units = desk.estimate(known) if len(known) == len(shapes) else order.estimate
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
        yield from pause(desk.polling.analysis_seconds)
    if state.status in ("FAILED", "STOPPED"):
        raise ServiceError(f"batch request {order.job} ended as {state.status} in its analysis: {state.error}")
