"""What ordering imagery is about, as values: what is wanted, where it is ordered, what arrives."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eo_assets.core.cost import Shape
from eo_assets.core.tile import Tile
from eo_assets.errors import DamagedDelivery
from resources.attempt_files import attempt_files
from resources.batch_api import BatchApi, Imagery, JobState, TilingGrid
from resources.batch_orders import Order, OrderBook
from resources.delivered_files import Files, Tiffs, complete, delivered_files, tiffs_in
from resources.local_folder import LocalFolder
from resources.spending import Ledger

LOG = logging.getLogger(__name__)
SLICE_SECONDS = 0.5
"""The longest that a caller is kept waiting for a sign of life."""


@dataclass(frozen=True, slots=True)
class Polling:
    """How often a job is looked at, how long a stopped one must rest before it may be started again, and for how long
    a running job is waited for while its service can't be reached."""

    seconds: float = 60.0
    analysis_seconds: float = 5.0
    restart_minutes: float = 30.0
    patience_minutes: float = 120.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tiles that are asked for, with the recipes that their tiffs are wanted with.

    `grid` is every tile of the project by name: a job that is gone on with may be for others too. `tiling_grid` is
    given when all of it is asked for and the service has the same grid. `also` are tiles that a later run of the same
    request will want: they are ordered together, since a request has a least price, and not waited for. `again` names
    tiles that are asked for whatever was delivered, failed or stopped before.
    """

    imagery: Imagery
    tiles: tuple[Tile, ...]
    recipes: Mapping[str, str]
    grid: Mapping[str, Tile]
    tiling_grid: TilingGrid | None = None
    also: tuple[Tile, ...] = ()
    again: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Desk:
    """Where orders are placed. `estimate` gives processing units of one request for tiles of these shapes.

    `check` raises DamagedDelivery for a delivered folder, its GeoTIFFs told beside it, that has to be delivered anew;
    `there` tells whether a tile has been committed by somebody else meanwhile; `before_create` may refuse, before a job
    is made.
    """

    api: BatchApi
    book: OrderBook
    ledger: Ledger
    estimate: Callable[[Sequence[Shape]], float]
    check: Callable[[Tile, Path, Tiffs], object]
    there: Callable[[Tile], bool]
    before_create: Callable[[], None] = field(default=lambda: None)
    polling: Polling = Polling()
    tries: int = 3

    def place(self, order: Order, name: str) -> str:
        """The key under which a tile of an order is delivered."""
        return f"{self.api.folder}/{order.job}/{name}"

    def files(self, order: Order) -> Files:
        """What lies where an order delivers its tiles, as it is now."""
        return delivered_files(self.api.store, f"{self.api.folder}/{order.job}") if order.job else lambda tile: ()

    def may_start_again(self, order: Order, state: JobState) -> dt.datetime:
        """From when on a stopped job may be started again."""
        stopped = dt.datetime.fromisoformat(order.stopped) if order.stopped else state.changed
        rest = dt.timedelta(minutes=self.polling.restart_minutes)
        return (stopped or dt.datetime.now(dt.UTC) - rest) + rest


@dataclass(frozen=True, slots=True)
class Delivery:
    """A tile that has arrived under `folder`, or was given up, with its reason; neither: it is committed already."""

    tile: Tile
    folder: str | None
    error: str | None = None


Steps = Generator[Delivery | None, None, None]


def arrived(
    desk: Desk, wanted: Wanted, waiting: dict[str, Tile], order: Order, *, checked: bool = False
) -> Iterator[Delivery]:
    """The waiting tiles of an order that lie complete in its folder; `checked` looks into their files too."""
    asked = order.covers(recipes_of(wanted, waiting)) if order.job else ()
    files = desk.files(order) if asked else None
    for name in asked:
        key = desk.place(order, name)
        whole = files is not None and complete(files(name), wanted.imagery.outputs)
        if whole and not (checked and _damaged(desk, waiting[name], key)):
            yield Delivery(waiting.pop(name), key)


def recipes_of(wanted: Wanted, waiting: Mapping[str, Tile]) -> dict[str, str]:
    """The recipes of the tiles that are waited for."""
    return {name: wanted.recipes[name] for name in waiting}


def _damaged(desk: Desk, tile: Tile, key: str) -> bool:
    """Has a delivery to be made anew? One that is whole and wrong would be wrong again: it is left to fail its tile."""
    if _whole_by_headers(desk, tile, key):
        return False
    files = attempt_files(desk.api.store)
    try:
        folder = files.path(key)
        desk.check(tile, folder, tiffs_in(folder))
    except DamagedDelivery as error:
        LOG.warning("an earlier delivery of %s is of no use, it is ordered again: %s", tile.name, error)
        return True
    except Exception as error:
        LOG.warning("an earlier delivery of %s is wrong: %s", tile.name, error)
    finally:
        files.forget([tile.name])
    return False


def _whole_by_headers(desk: Desk, tile: Tile, key: str) -> bool:
    """Of a bucket: is a delivery whole by the headers of its files? They are some kilobytes of a hundred megabytes.

    Whatever speaks against it may be the connection, so a copy has to tell: nothing is bought twice for that.
    """
    store = desk.api.store
    if isinstance(store, LocalFolder):
        return False
    # What a bucket needs is not loaded for a local project.
    from resources.bucket import Bucket
    from resources.delivered_headers import headers

    assert isinstance(store, Bucket)
    with contextlib.suppress(Exception), headers(store, key) as (folder, tiffs):
        desk.check(tile, folder, tiffs)
        return True
    return False


def pause(seconds: float) -> Iterator[None]:
    """Wait, with a sign of life now and then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, SLICE_SECONDS))
        yield None
