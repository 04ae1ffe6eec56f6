"""What machines on EC2 cost, and how many of which kind make a map by a deadline: plain arithmetic.

US dollars an hour, by instance type and market. Disks, transfers and the start of machines are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

GIB = 1 << 30

START_HOURS = 0.1
"""Until a machine that was asked for works: its start, Docker, the image. Assumed, never measured on EC2."""

SPARE_MEMORY = 0.7
"""The share of a machine's memory that tiles may have: what Ray offers by itself, of the rest it makes its store."""


class Price(Protocol):
    """US dollars an hour."""

    @property
    def on_demand(self) -> float: ...
    @property
    def spot(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Hours:
    """How long one machine has been there."""

    instance_type: str
    spot: bool
    hours: float


@dataclass(frozen=True, slots=True)
class MachineKind:
    """What a machine has: virtual CPUs, and memory in bytes."""

    vcpus: int
    memory_bytes: int


KINDS: Mapping[str, MachineKind] = {
    f"{family}.{size}": MachineKind(vcpus, vcpus * gib * GIB)
    for family, gib in (("c6i", 2), ("c7i", 2), ("c6a", 2), ("m6i", 4), ("m7i", 4), ("m6a", 4), ("r6i", 8), ("r7i", 8))
    for size, vcpus in (("large", 2), ("xlarge", 4), ("2xlarge", 8), ("4xlarge", 16), ("8xlarge", 32))
}
"""The sizes of EC2's general families: two virtual CPUs a core; 2, 4 or 8 GiB a virtual CPU."""


@dataclass(frozen=True, slots=True)
class TileWork:
    """What a map is to machines: tiles, CPU seconds of one, and what it holds of a machine meanwhile."""

    tiles: int
    seconds_a_tile: float
    memory_a_tile: int
    cpus_a_tile: float = 1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to make the map: machines of a type, what each does at a time, how long, for how much."""

    instance_type: str
    spot: bool
    machines: int
    at_a_time: int
    hours: float
    usd: float | None
    in_time: bool


def cost_of(hours: Iterable[Hours], prices: Mapping[str, Price]) -> float | None:
    """US dollars of machines; None where the price of one of them is not known."""
    together = 0.0
    for one in hours:
        hourly = hourly_price(one.instance_type, one.spot, prices)
        if hourly is None:
            return None
        together += hourly * one.hours
    return together


def choices(
    work: TileWork,
    types: Iterable[str],
    prices: Mapping[str, Price],
    *,
    spot: bool,
    most: int,
    deadline_hours: float,
) -> list[Choice]:
    """For each instance type the fewest machines that are done in time, or `most` of them: the cheapest first.

    Those in time come before the others, of them those with a price before those without. Types that are not in
    `KINDS` or too small are left out.
    """
    found = [
        _choice(work, name, at_a_time, prices, spot=spot, most=most, deadline=deadline_hours)
        for name in types
        if name in KINDS and (at_a_time := tiles_at_a_time(KINDS[name], work)) > 0
    ]
    return sorted(found, key=in_order)


def in_order(one: Choice) -> tuple[bool, bool, float, float, str]:
    """What choices are sorted by: in time, with a price, cheap, fast; too late, the soonest first."""
    usd = (one.usd or 0.0) if one.in_time else one.hours
    return (not one.in_time, one.in_time and one.usd is None, usd, one.hours, one.instance_type)


def hours_of(work: TileWork, machines: int, at_a_time: int) -> float:
    """Hours from asking for machines until the last tile: never less than one tile takes alone."""
    alone = work.seconds_a_tile / 3600
    return max(work.tiles * alone / (machines * at_a_time), alone) + START_HOURS


def machines_for(work: TileWork, at_a_time: int, deadline_hours: float) -> int | None:
    """The fewest machines that are done in time; None where no number is, because one tile alone takes too long."""
    working = deadline_hours - START_HOURS
    if working * 3600 < work.seconds_a_tile or working <= 0:
        return None
    needed = max(1, math.ceil(work.tiles * work.seconds_a_tile / 3600 / at_a_time / working))
    # Rounding may make the quotient a hair too small.
    return needed if hours_of(work, needed, at_a_time) <= deadline_hours else needed + 1


def tiles_at_a_time(kind: MachineKind, work: TileWork) -> int:
    """How many tiles a machine works on together: as many as its virtual CPUs allow, fewer if memory runs out first."""
    by_memory = int(SPARE_MEMORY * kind.memory_bytes // max(work.memory_a_tile, 1))
    return min(int(kind.vcpus // max(work.cpus_a_tile, 0.01)), by_memory)


def _choice(
    work: TileWork, name: str, at_a_time: int, prices: Mapping[str, Price], *, spot: bool, most: int, deadline: float
) -> Choice:
    useful = max(1, math.ceil(work.tiles / at_a_time))
    machines = min(machines_for(work, at_a_time, deadline) or useful, most)
    hours = hours_of(work, machines, at_a_time)
    hourly = hourly_price(name, spot, prices)
    usd = None if hourly is None else hourly * hours * machines
    return Choice(name, spot, machines, at_a_time, hours, usd, hours <= deadline)


def hourly_price(name: str, spot: bool, prices: Mapping[str, Price]) -> float | None:
    """US dollars an hour of a type in a market; None where it is not known."""
    price = prices.get(name)
    return None if price is None else price.spot if spot else price.on_demand
