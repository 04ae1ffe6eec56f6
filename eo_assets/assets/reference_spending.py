"""What the Process requests for labels cost: reserved for a whole run before its first tile, settled after its last."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence

from eo_assets.assets.quotes import paid_requests, quote, tile_units
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject
from eo_assets.stages.walk import Walk
from resources.spending import Ledger, Spending, open_spendings


@contextlib.contextmanager
def reference_spending(loaded: LoadedProject, ledger: Ledger, walk: Walk, tiles: Sequence[Tile]) -> Iterator[None]:
    """Hold a reservation for the labels of these tiles while their requests are made.

    A reservation whose run has died is settled as estimated: what it had spent nobody knows.
    """
    _settle_the_dead(ledger)
    asked = quote(loaded, {"reference": tiles})
    if not asked.lines:
        yield
        return
    service, _ = paid_requests(loaded)["reference"]
    identity = f"process-{ledger.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    with ledger.store.exclusive(_lock(ledger, identity), lambda: None):
        ledger.reserve(
            Spending(identity, "process", service, len(tiles), asked.total, asked.total),
            f"labels of {len(tiles)} tiles",
        )
        try:
            yield
        finally:
            ledger.settle(identity, sum(_charged(loaded, walk, tile) for tile in tiles))


def _settle_the_dead(ledger: Ledger) -> None:
    for spending in open_spendings(ledger):
        if spending.kind == "process" and not ledger.store.held(_lock(ledger, spending.id)):
            ledger.settle(spending.id, spending.reserved, "its run ended without a word: counted as estimated")


def _lock(ledger: Ledger, identity: str) -> str:
    return f"{ledger.folder}/{identity}"


def _charged(loaded: LoadedProject, walk: Walk, tile: Tile) -> float:
    """What the service said it charged for a tile's labels; the estimate where it did not say or they failed."""
    record = walk.store.record("reference", tile.name)
    told = None if record is None else record.numbers.get("processing_units")
    return float(told) if isinstance(told, int | float) else tile_units(loaded, tile)["reference"]
