"""Orders of imagery as state: what was asked for, which job of the service carries it out, how far it is.

An order is written down before anything is asked of the service, its job's id before the job is started. Whoever comes
later, after a crash or beside a running process, finds it here and goes on with it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from eo_assets.errors import StoreError
from resources.object_store import ObjectStore

FORMAT = 1
NOTHING = "nothing-delivered"
"""The name of the JSON file in a tile's delivery that says: the service has no data there."""
State = Literal["intended", "created", "started", "stopped", "ended"]
OPEN: frozenset[State] = frozenset({"intended", "created", "started", "stopped"})


@dataclass(frozen=True, slots=True)
class Order:
    """One batch request, wanted or placed.

    `tiles` maps names to the recipes that their tiffs were wanted with. `job` is the service's id, empty until it is
    known. States: `intended` (written down, the service may know of it or not), `created` (its id is known), `started`
    (it costs), `stopped` (delivers no more, and may be started again), `ended`. `failures` are the tiles that the job
    did not make, each with what the service said.
    """

    id: str
    service: str
    tiles: Mapping[str, str]
    estimate: float
    state: State = "intended"
    job: str = ""
    created: str = ""
    stopped: str = ""
    reason: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What the service is told: an order whose job's id was lost is found again by it."""
        return f"eo-assets order {self.id}"

    def covers(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Those of the wanted tiles that this order was placed for, with the very same recipe."""
        return {name: recipe for name, recipe in wanted.items() if self.tiles.get(name) == recipe}


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The orders of one folder of tiffs, one document each."""

    store: ObjectStore
    folder: str

    def all(self) -> list[Order]:
        """Every order, oldest first."""
        keys = [key for key in self.store.keys(self._folder) if key.endswith(".json")]
        return [order for key in keys if (order := self._read(key)) is not None]

    def failures(self, wanted: Mapping[str, str]) -> dict[str, list[str]]:
        """What the service said of each wanted tile that it has failed to make with this recipe, oldest first."""
        said: dict[str, list[str]] = {}
        for order in self.all():
            for name in order.covers(wanted):
                if name in order.failures:
                    said.setdefault(name, []).append(f"{order.job}: {order.failures[name]}")
        return said

    def open(self) -> list[Order]:
        """Orders that have not ended, oldest first."""
        return [order for order in self.all() if order.state in OPEN]

    def add(self, service: str, tiles: Mapping[str, str], estimate: float) -> Order:
        """Write down a new order."""
        now = dt.datetime.now(dt.UTC)
        made = Order(
            f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}",
            service,
            dict(tiles),
            estimate,
            created=now.isoformat(timespec="seconds"),
        )
        self.store.create(self._key(made.id), _serialize(made))
        return made

    def change(self, order: Order, **changes: Any) -> Order:
        """Change an order, whatever others changed of it meanwhile. An order that has ended stays so."""
        key = self._key(order.id)
        while True:
            data = self.store.get(key)
            current = order if data is None else self._parse(data, key)
            if current.state == "ended":
                return current
            changed = dataclasses.replace(current, **changes)
            if changed == current or self.store.swap(key, _serialize(changed), data):
                return changed

    def _read(self, key: str) -> Order | None:
        data = self.store.get(key)
        return None if data is None else self._parse(data, key)

    def _parse(self, data: bytes, key: str) -> Order:
        try:
            values = json.loads(data)
            if values.pop("format") > FORMAT:
                raise ValueError("written by a newer version")
            return Order(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self.store.place(key)}: not a record of an order ({error}); a job of the service may belong to it, "
                "so nothing is ordered while it can't be read: restore it, or move it away when no job of it runs"
            ) from None

    @property
    def _folder(self) -> str:
        return f"{self.folder}/_orders"

    def _key(self, identity: str) -> str:
        return f"{self._folder}/{identity}.json"


def _serialize(order: Order) -> bytes:
    return json.dumps({"format": FORMAT, **dataclasses.asdict(order)}, indent=1, sort_keys=True).encode()
