"""What the Process requests for labels cost: reserved for a whole run before its first tile, settled after its last."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence

from eo_assets.assets.quotes import paid_requests, quote, tile_units
from eo_assets.core.spendings import Spending
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject
from eo_assets.stages.build import sentinel_hub
from eo_assets.stages.walk import StageOutcome
from resources.spending import Ledger, open_spendings


class Labels:
    """What a run's own requests for labels were charged, told outcome by outcome."""

    def __init__(self, loaded: LoadedProject, tiles: Sequence[Tile]) -> None:
        self._estimates = {tile.name: tile_units(loaded, tile).get("reference", 0.0) for tile in tiles}
        self._open = dict(self._estimates)
        self.charged = 0.0

    def add(self, outcome: StageOutcome) -> None:
        """Count a tile: as the service said, as estimated where it did not say or the tile failed."""
        if outcome.stage != "reference" or self._open.pop(outcome.tile, None) is None:
            return
        told = outcome.record.numbers.get("processing_units") if outcome.record else None
        if outcome.status == "done":
            known = isinstance(told, int | float)
            self.charged += float(told) if known else self._estimates[outcome.tile]  # type: ignore[arg-type]
        elif outcome.status == "failed":
            self.charged += self._estimates[outcome.tile]

    def unknown(self, at_once: int) -> float:
        """What may have been charged for tiles whose end nobody told: as many as are asked for at a time."""
        return sum(sorted(self._open.values(), reverse=True)[:at_once])


@contextlib.contextmanager
def reference_spending(loaded: LoadedProject, ledger: Ledger, tiles: Sequence[Tile]) -> Iterator[Labels]:
    """Hold a reservation for the labels of these tiles while their requests are made.

    A reservation whose run has died is settled as estimated: what it had spent nobody knows.
    """
    _settle_the_dead(ledger)
    asked = quote(loaded, {"reference": tiles})
    if not asked.lines:
        yield Labels(loaded, ())
        return
    name, _ = paid_requests(loaded)["reference"]
    identity = f"process-{ledger.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    labels = Labels(loaded, tiles)
    with ledger.store.exclusive(_lock(ledger, identity), lambda: None):
        ledger.reserve(
            Spending(identity, "process", name, len(tiles), asked.total, asked.total), f"labels of {len(tiles)} tiles"
        )
        try:
            yield labels
        finally:
            at_once = sentinel_hub(loaded, name).pace.max_process_requests
            ledger.settle(identity, labels.charged + labels.unknown(at_once))
    ledger.store.unlock(_lock(ledger, identity))


def _settle_the_dead(ledger: Ledger) -> None:
    for spending in open_spendings(ledger):
        if spending.kind == "process" and not ledger.store.held(_lock(ledger, spending.id)):
            ledger.settle(spending.id, spending.reserved, "its run ended without a word: counted as estimated")


def _lock(ledger: Ledger, identity: str) -> str:
    return f"{ledger.folder}/{identity}"
