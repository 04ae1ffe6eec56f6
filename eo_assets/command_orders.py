"""`eo-assets orders`: the batch jobs of a project as it knows them, and a way to stop or to forget one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from eo_assets.assets.imagery import project_ledger
from eo_assets.definitions import open_project
from eo_assets.errors import ProjectError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import sentinel_hub, tile_store
from resources.batch_api import BatchApi
from resources.batch_orders import Order, OrderBook


def print_orders(name: str, console: Console, *, every: bool) -> None:
    """The orders that have not ended, or every one, oldest first."""
    shown = [order for order in _book(open_project(name)).all() if every or order.state != "ended"]
    for order in shown:
        told = f": {order.reason}" if order.reason else ""
        console.print(
            f"{order.id}  {order.state:8s} {order.service}  job {order.job or 'not known'}  {len(order.tiles)} tiles, "
            f"about {order.estimate:,.1f} units, ordered {order.created}{escape(told)}"
        )
    if not shown:
        console.print("no order is open" if not every else "nothing was ordered yet")


def stop_order(name: str, identity: str, console: Console) -> None:
    """Have the service stop a job. What it has delivered is kept, what it has cost is settled by the next run."""
    loaded = open_project(name)
    order = _named(loaded, _book(loaded).all(), identity)
    if not order.job:
        raise ProjectError(f"order {order.id} has no job that is known; the next run looks for it")
    store = tile_store(loaded)
    api = BatchApi(sentinel_hub(loaded, order.service), store.store, store.folder("tiffs"))
    api.stop(order.job)
    console.print(f"batch request {order.job} was asked to stop: {api.look(order.job).status}")


def forget_order(name: str, identity: str, console: Console) -> None:
    """End an order in the project's own books, counted as estimated: for a job that the service has lost for good."""
    loaded = open_project(name)
    book = _book(loaded)
    order = _named(loaded, book.all(), identity)
    project_ledger(loaded).settle(order.id, order.estimate, "forgotten by hand: counted as estimated")
    book.change(order, state="ended", reason="forgotten by hand")
    console.print(f"order {order.id} is ended; its tiles are ordered again by the next run that wants them")


def _book(loaded: LoadedProject) -> OrderBook:
    store = tile_store(loaded)
    return OrderBook(store.store, store.folder("tiffs"))


def _named(loaded: LoadedProject, orders: Sequence[Order], identity: str) -> Order:
    """The open order of that id, or whose job has it."""
    found = [order for order in orders if identity in (order.id, order.job) and order.state != "ended"]
    if not found:
        raise ProjectError(f"{loaded.file}: no order {identity} is open; `eo-assets orders` lists those that are")
    return found[0]
