"""What a project may spend, has reserved and has spent: one document a calendar month, changed by compare-and-swap.

A reservation is made before anything is asked of a service and settled with what the service says it charged. Two runs
that each fit into the budget and together do not: the second is refused, because both change the same document.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eo_assets.core.spendings import UNAUTHENTICATED, Approval, Month, Spending, month_from_json
from eo_assets.errors import ApprovalNeeded, BudgetExceeded, StoreError
from resources.object_store import ObjectStore

TRIES = 50
"""How often a change is tried again because somebody else changed the document first."""
ROUNDING = 1e-6
PART = "@"
"""Between a spending's id and the month that took over the rest of it."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The spendings of one project. `limit` holds for a calendar month (UTC); None: no limit.

    A spending stays in the month in which it was reserved, however late it is settled. `file` is the project file, for
    messages, and so are `key`, the limit's key in it, and what is counted: its `unit`, shown with so many `decimals`.
    """

    store: ObjectStore
    folder: str
    file: str = "project.yaml"
    limit: float | None = None
    require_approval: bool = False
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    key: str = "budget.max_processing_units"
    unit: str = "processing units"
    decimals: int = 1

    def month(self) -> str:
        """The month that is spent in now, `2026-11`."""
        return f"{self.now():%Y-%m}"

    def months(self) -> dict[str, Month]:
        """Every month that has a document, oldest first."""
        keys = [key for key in self.store.keys(self.folder) if key.endswith(".json")]
        names = [key.rpartition("/")[2].removesuffix(".json") for key in keys]
        return {name: self._read(name)[1] for name in names}

    def headroom(self) -> float | None:
        """What is left of this month's budget; None where there is no limit."""
        return None if self.limit is None else self.limit - self._read(self.month())[1].counted

    def require(self, estimate: float, what: str) -> None:
        """Refuse what this month's budget does not cover, or nobody has approved, before anything is asked for."""
        self._allow(self._read(self.month())[1], estimate, what)

    def reserve(self, spending: Spending, what: str) -> None:
        """Enter a spending, unless it is there already. Raises BudgetExceeded or ApprovalNeeded and enters nothing."""
        entered = replace(
            spending, reserved=spending.estimate, user=spending.user or current_user(), created=self._timestamp()
        )

        def change(month: Month) -> Month:
            if spending.id in month.spendings:
                return month
            mine = replace(entered, approval=self._allow(month, spending.estimate, what))
            return replace(month, spendings={**month.spendings, spending.id: mine})

        if not self._find(spending.id):
            self._change(self.month(), change)

    def grow(self, identity: str, units: float, what: str) -> None:
        """Reserve `units` in all for a spending, open or settled before.

        What an earlier month has reserved or spent of them stays there; the rest is this month's. Raises BudgetExceeded
        or ApprovalNeeded, and changes nothing, where the budget or the approval does not reach.
        """
        self._home(identity)
        parts = self._parts(identity)
        last = next(reversed(parts))
        home, counted = parts[last][0], {name: part.counted for name, (_, part) in parts.items()}
        if home != self.month() and units > sum(counted.values()) + ROUNDING:
            self._draw_on_this_month(identity, counted, units - sum(counted.values()), what)
            return
        wanted = units - sum(counted.values()) + counted[last]

        def change(month: Month) -> Month:
            mine = month.spendings[last]
            others = month.counted - mine.counted
            if self.limit is not None and others + wanted > self.limit + ROUNDING:
                raise BudgetExceeded(self._over(wanted, others, what, home))
            approval = self._approved(month, wanted, what, mine)
            reserved = max(wanted, mine.reserved) if mine.actual is None else wanted
            grown = replace(mine, reserved=reserved, actual=None, approval=approval)
            return replace(month, spendings={**month.spendings, last: grown})

        self._change(home, change)

    def _draw_on_this_month(self, identity: str, counted: Mapping[str, float], rest: float, what: str) -> None:
        """The rest of a spending that an earlier month began, as a spending of this month."""
        first = self._parts(identity)[identity][1]
        self.reserve(replace(first, id=f"{identity}{PART}{self.month()}", estimate=rest, actual=None, note=""), what)
        for name, spent in counted.items():
            self._update(name, actual=spent)

    def note_job(self, identity: str, job: str) -> None:
        """Remember the service's own name of what is paid for."""
        self._update(identity, job=job)

    def settle(self, identity: str, actual: float, note: str = "") -> None:
        """Replace a reservation by what was charged. Settling what was never reserved is nothing."""
        parts = self._parts(identity)
        for name, (_, part) in parts.items():
            mine = actual if name == next(reversed(parts)) else min(actual, part.counted)
            self._update(name, actual=round(mine, 4), note=note)
            actual -= mine

    def approve(self, units: float, user: str = "", identity: str = "", signed_in: str = UNAUTHENTICATED) -> Approval:
        """Record that `units` may be spent this month. The same `identity` is recorded once.

        Raises ApprovalNeeded for what is no figure above zero.
        """
        if not (math.isfinite(units) and units > 0):
            raise ApprovalNeeded(f"{units:g} is no number of processing units to approve; give a figure above zero")
        name = identity or f"approval-{self.now():%Y%m%dT%H%M%S%f}"
        made = Approval(name, user or current_user(), self._timestamp(), units, signed_in)

        def change(month: Month) -> Month:
            known = any(approval.id == name for approval in month.approvals)
            return month if known else replace(month, approvals=(*month.approvals, made))

        self._change(self.month(), change)
        return made

    def _allow(self, month: Month, estimate: float, what: str) -> str:
        """The approval that covers an estimate, empty where none is asked for. What costs nothing is always allowed."""
        if estimate <= 0:
            return ""
        if self.limit is not None and month.counted + estimate > self.limit + ROUNDING:
            raise BudgetExceeded(self._over(estimate, month.counted, what, self.month()))
        return self._approved(month, estimate, what)

    def _approved(self, month: Month, units: float, what: str, mine: Spending | None = None) -> str:
        """The approval that covers these units: the one that `mine` draws on already, else the smallest that does."""
        if not self.require_approval:
            return mine.approval if mine else ""
        besides = mine.id if mine else ""
        fitting = {a.id: left for a in month.approvals if (left := month.left_of(a, besides)) + ROUNDING >= units}
        if not fitting:
            largest = max((month.left_of(approval) for approval in month.approvals), default=0.0)
            raise ApprovalNeeded(self._unapproved(units, what, largest))
        return mine.approval if mine and mine.approval in fitting else min(fitting, key=lambda name: fitting[name])

    def _over(self, estimate: float, counted: float, what: str, month: str) -> str:
        before = f", {counted:,.{self.decimals}f} are spent or reserved already" if counted else ""
        return (
            f"{self.file}: {self.key}: {self.limit:g}: {what} would cost about {estimate:,.{self.decimals}f} "
            f"{self.unit}{before} in {month}; nothing was started for it. Raise the limit, or ask for "
            "fewer tiles (-t)"
        )

    def _unapproved(self, estimate: float, what: str, largest: float) -> str:
        left = f" (the largest approval that is left covers {largest:,.1f})" if largest > ROUNDING else ""
        return (
            f"{self.file}: budget.require_approval: true: {what} would cost about {estimate:,.1f} processing units and "
            f"nobody has approved that{left}; nothing was started for it. Approve it: `eo-assets approve {self.file} "
            f"--units {math.ceil(estimate)}` (or more), or the run tag eo-assets/approve; then run again"
        )

    def _parts(self, identity: str) -> dict[str, tuple[str, Spending]]:
        """A spending and what later months have added to it, by id: (month, spending), oldest first."""
        return {
            name: (month, spending)
            for month, document in self.months().items()
            for name, spending in document.spendings.items()
            if name == identity or name.startswith(f"{identity}{PART}")
        }

    def _find(self, identity: str) -> bool:
        return any(identity in month.spendings for month in self.months().values())

    def _home(self, identity: str) -> str:
        for name, month in self.months().items():
            if identity in month.spendings:
                return name
        raise StoreError(f"{self.store.place(self.folder)}: no spending {identity} is reserved there")

    def _update(self, identity: str, **changes: Any) -> None:
        def change(month: Month) -> Month:
            changed = replace(month.spendings[identity], **changes)
            return replace(month, spendings={**month.spendings, identity: changed})

        self._change(self._home(identity), change)

    def _change(self, name: str, change: Callable[[Month], Month]) -> None:
        for _ in range(TRIES):
            data, month = self._read(name)
            changed = change(month)
            if changed == month or self.store.swap(self._key(name), _serialized(changed), data):
                return
        raise StoreError(f"{self.store.place(self._key(name))}: others keep changing it; run it again")

    def _read(self, name: str) -> tuple[bytes | None, Month]:
        data = self.store.get(self._key(name))
        if data is None:
            return None, Month()
        try:
            return data, month_from_json(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"{self.store.place(self._key(name))}: not a record of spending ({error}); nothing is bought while it "
                "can't be read: restore it from a copy, or move it away if you know what was spent"
            ) from None

    def _key(self, month: str) -> str:
        return f"{self.folder}/{month}.json"

    def _timestamp(self) -> str:
        return self.now().isoformat(timespec="seconds")


def open_spendings(ledger: Ledger) -> Iterator[Spending]:
    """What is reserved and not settled yet, in every month."""
    for month in ledger.months().values():
        yield from (spending for spending in month.spendings.values() if spending.actual is None)


def current_user() -> str:
    """Who runs this process, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _serialized(month: Month) -> bytes:
    return json.dumps(month.as_json(), indent=1, sort_keys=True).encode()
