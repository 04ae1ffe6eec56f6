"""What a run takes of machines, as its driver sees it: tries and their CPU seconds, what of it was lost, machine hours.

CPU seconds are those that a try held its CPUs, from its start on a worker until the driver heard of its end. Of a lost
machine the driver hears late, and what a lost try had committed stays: what is told as lost is the most it can be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eo_assets.core.cluster_cost import Hours

INSTANCE_TYPE_LABEL = "eo-assets/instance-type"
MARKET_LABEL = "eo-assets/market"
"""Labels of Ray's nodes, set by the launcher's file (`ec2/cluster_file.py`); the market is `spot` or `on-demand`."""


@dataclass(slots=True)
class _Seen:
    labels: Mapping[str, str]
    first: float
    last: float


@dataclass(slots=True)
class RunUsage:
    """Counts of one run. `tries` are those that began on a worker, with those that were lost before they said so."""

    clock: Callable[[], float] = time.monotonic
    tries: int = 0
    tries_lost: int = 0
    cpu_seconds: float = 0.0
    cpu_seconds_lost: float = 0.0
    _nodes: dict[str, _Seen] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def ended(self, cpu_seconds: float, *, lost: bool = False) -> None:
        """A try has ended one way or the other; `lost`: with its machine."""
        self.tries += 1
        self.cpu_seconds += cpu_seconds
        if lost:
            self.tries_lost += 1
            self.cpu_seconds_lost += cpu_seconds

    def has_seen(self, node: str) -> bool:
        """Whether this node has been seen alive."""
        return node in self._nodes

    def worked_on(self, node: str) -> None:
        """The run uses this node now, by Ray's id: a try has begun or answered there, or its driver is there."""
        self._used.add(node)
        if node in self._nodes:
            self._nodes[node].last = self.clock()

    def saw(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Take up what `ray.nodes()` tells. A node is counted from the first time that it is seen alive to the last."""
        now = self.clock()
        for node in nodes:
            if node["Alive"]:
                seen = self._nodes.setdefault(node["NodeID"], _Seen(node.get("Labels") or {}, now, now))
                seen.last = now

    def hours(self) -> tuple[Hours, ...]:
        """Hours of the machines that the run used, by type and market; type "" for those without a label.

        Empty where no machine has one: there nobody pays by the hour, as far as is known.
        """
        together: dict[tuple[str, bool], float] = {}
        for name in self._used & self._nodes.keys():
            seen = self._nodes[name]
            kind = seen.labels.get(INSTANCE_TYPE_LABEL, ""), seen.labels.get(MARKET_LABEL) == "spot"
            together[kind] = together.get(kind, 0.0) + (seen.last - seen.first) / 3600
        if not any(name for name, _ in together):
            return ()
        return tuple(Hours(name, spot, hours) for (name, spot), hours in sorted(together.items()))
