"""How large a Ray cluster is and may become, and what a tile may therefore ask of it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

from resources.node_types import NodeType, NodeTypes

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What one tile's walk needs of a worker; `cpus_of` and `memory_of` name the stages that need the most."""

    cpus: float = 1.0
    memory_bytes: int = 0
    cpus_of: str = ""
    memory_of: str = ""


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """The largest node that is up, or may be started; the CPUs of the whole cluster, now or at its largest.

    `known` is what it may start; `empty` says that no worker is up and nobody knows whether one will be.
    """

    largest: WorkerNeeds
    cpus: float
    known: NodeTypes
    empty: bool = False

    @property
    def slots(self) -> int:
        """How many tiles are handed out at a time: two a CPU, so that none waits for the driver.

        CPUs that are yet to be started count too: Ray starts machines for what waits, and for nothing else.
        """
        return max(2, 2 * int(self.cpus))

    def too_small(self, needs: WorkerNeeds) -> str:
        """Why a tile would wait for ever for a machine that none of the kinds is; "" if it would not.

        Where nobody starts machines a tile makes do with the largest that there is.
        """
        if not self.known.kinds:
            return ""
        by_cpus = max(self.known.kinds, key=lambda kind: kind.cpus)
        by_memory = max(self.known.kinds, key=lambda kind: kind.memory_bytes)
        if needs.cpus > self.largest.cpus:
            return _told(needs.cpus_of, f"{needs.cpus:g} CPUs", by_cpus, f"{by_cpus.cpus:g}")
        if needs.memory_bytes > self.largest.memory_bytes:
            asked, offered = (f"{size / GIB:.1f} GiB" for size in (needs.memory_bytes, by_memory.memory_bytes))
            return _told(needs.memory_of, f"{asked} of memory", by_memory, offered)
        return ""


def _told(stage: str, asked: str, largest: NodeType, offered: str) -> str:
    return (
        f"{stage or 'the tile'} asks for {asked}, and the largest node type of the cluster, {largest.name}, offers "
        f"{offered} to tiles: name a larger type in cluster.workers.instance_types and start the cluster again"
    )


def capped(needs: WorkerNeeds, node: WorkerNeeds) -> WorkerNeeds:
    """What is asked of Ray: never more than the largest node has, or the tile would wait for ever.

    Needs are estimates with room to spare; a tile that would have more than a whole node gets the whole node, alone.
    """
    cpus, memory = min(needs.cpus, node.cpus), min(needs.memory_bytes, node.memory_bytes)
    return replace(needs, cpus=cpus, memory_bytes=memory)


def cluster_size(ray: Any, known: NodeTypes) -> ClusterSize:
    """The cluster as it is now, with the kinds of machines that it may start."""
    up = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    offers = [(offer["CPU"], int(offer.get("memory", 0))) for offer in up]
    offers += [(kind.cpus, kind.memory_bytes) for kind in known.kinds]
    if not offers:  # a head that does no work, whose workers are yet to come: they are waited for
        return ClusterSize(WorkerNeeds(math.inf, sys.maxsize), 1, known, empty=True)
    largest = WorkerNeeds(max(cpus for cpus, _ in offers), max(memory for _, memory in offers))
    return ClusterSize(largest, max(sum(offer["CPU"] for offer in up), known.cpus), known)
