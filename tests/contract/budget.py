"""What the contract tests may spend, what each call was estimated at, and what the service says that it cost."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CAP_PU = 200.0
"""The most that one run of the tests may cost by its estimates, on a real service."""

ROOM_PU = 1.0
"""What the Process requests need together: kept free by whoever could do without."""

COLUMNS = "{:<58} {:>12} {:>12} {:>12}"


class OverBudget(AssertionError):
    """The next call could carry the run over its cap: it was not made."""


@dataclass
class Spending:
    """One call that costs something; `cost_pu` is None as long as the service has not told."""

    call: str
    estimate_pu: float
    cost_pu: float | None = None

    @property
    def difference_pu(self) -> float | None:
        """The service's figure less ours."""
        return None if self.cost_pu is None else round(self.cost_pu - self.estimate_pu, 4) + 0.0


@dataclass
class Budget:
    """All spendings of one run, and what was observed beside them."""

    cap_pu: float = CAP_PU
    spendings: list[Spending] = field(default_factory=list)
    observed: dict[str, Any] = field(default_factory=dict)

    @property
    def reserved_pu(self) -> float:
        """For each call the dearer of estimate and cost."""
        return sum(max(found.estimate_pu, found.cost_pu or 0.0) for found in self.spendings)

    def allows(self, estimate_pu: float) -> bool:
        """Whether a call would stay within the cap."""
        return self.reserved_pu + estimate_pu <= self.cap_pu

    def reserve(self, call: str, estimate_pu: float) -> Spending:
        """Ask before a call is made.

        Raises:
            OverBudget: the call would go over the cap.
        """
        if not self.allows(estimate_pu):
            raise OverBudget(
                f"{call} is estimated at {estimate_pu:g} PU, {self.reserved_pu:g} of {self.cap_pu:g} PU are spent or "
                "reserved: not made"
            )
        spending = Spending(call, estimate_pu)
        self.spendings.append(spending)
        return spending

    def table(self) -> Iterable[str]:
        """The spendings as lines of text."""
        yield COLUMNS.format("call", "estimate PU", "cost PU", "difference")
        for found in self.spendings:
            told = ["not told" if value is None else f"{value:.4f}" for value in (found.cost_pu, found.difference_pu)]
            yield COLUMNS.format(found.call, f"{found.estimate_pu:.4f}", *told)
        yield COLUMNS.format("sum", f"{sum(found.estimate_pu for found in self.spendings):.4f}", self._cost(), "")
        for name, value in self.observed.items():
            yield f"{name}: {value}"

    def write(self, path: Path, service: str, outcome: dict[str, int]) -> None:
        """The run as JSON, to be committed as a proof."""
        calls = [{**vars(found), "difference_pu": found.difference_pu} for found in self.spendings]
        time = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        document = {"service": service, "date": time, "cap_pu": self.cap_pu, "tests": outcome, "calls": calls}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**document, "observed": self.observed}, indent=2) + "\n", encoding="utf-8")

    def _cost(self) -> str:
        return f"{sum(found.cost_pu or 0.0 for found in self.spendings):.4f}"
