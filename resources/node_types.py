"""What machines a Ray cluster could still start, by the file that its autoscaler reads, on the head that it runs on.

Of a cluster without an autoscaler, or when asked from another machine, nothing is known. Ray itself tells its drivers
what is up and never what could be; the file's place is among the arguments of the autoscaler's process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROCESSES = Path("/proc")
OPTION = "--autoscaling-config="


@dataclass(frozen=True, slots=True)
class NodeType:
    """A kind of machine by its name in the file: what it offers tiles, memory in bytes, and how many there may be."""

    name: str
    cpus: float
    memory_bytes: int
    most: int


@dataclass(frozen=True, slots=True)
class NodeTypes:
    """The kinds of workers, and how many of all kinds together there may be."""

    kinds: tuple[NodeType, ...] = ()
    most: int = 0

    @property
    def cpus(self) -> float:
        """The CPUs of the cluster at its largest."""
        left, cpus = self.most, 0.0
        for kind in sorted(self.kinds, key=lambda kind: kind.cpus, reverse=True):
            taken = min(left, kind.most)
            left, cpus = left - taken, cpus + taken * kind.cpus
        return cpus


def node_types(gcs_address: str) -> NodeTypes:
    """The workers that the autoscaler of the cluster at this address may start; none if there is no way to know."""
    for file in _files(gcs_address):
        with contextlib.suppress(OSError, yaml.YAMLError):
            return read_node_types(yaml.safe_load(file.read_text()))
    return NodeTypes()


def read_node_types(document: Any) -> NodeTypes:
    """The same of the file's contents. A kind whose CPUs or memory the launcher has not filled in makes all unknown."""
    if not isinstance(document, Mapping):
        return NodeTypes()
    most = document.get("max_workers", 0)
    kinds = []
    for name, said in document.get("available_node_types", {}).items():
        offers, up_to = said.get("resources", {}), said.get("max_workers", most)
        if up_to < 1 or offers.get("CPU") == 0:
            continue
        if "CPU" not in offers or "memory" not in offers:
            return NodeTypes()
        kinds.append(NodeType(str(name), float(offers["CPU"]), int(offers["memory"]), int(up_to)))
    return NodeTypes(tuple(kinds), int(most))


def _files(gcs_address: str) -> Iterator[Path]:
    for process in PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if f"--gcs-address={gcs_address}" in arguments:
                yield from _named(arguments)


def _named(arguments: Sequence[str]) -> Iterator[Path]:
    return (Path(word.removeprefix(OPTION)).expanduser() for word in arguments if word.startswith(OPTION))
