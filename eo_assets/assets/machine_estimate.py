"""Which machines of a project's cluster make its map, how long, for how much: choices with their arithmetic, offline.

CPU seconds are those of `core/cost.py`, measured on the demo; sampling, training and waiting for a service are not in
them. What a tile holds of a machine is what its hungriest stage asks of Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eo_assets.assets.cost_estimate import Estimate
from eo_assets.assets.tile_run import needs
from eo_assets.core.cluster_cost import (
    GIB,
    KINDS,
    START_HOURS,
    Choice,
    TileWork,
    choices,
    hourly_price,
    in_order,
    machines_for,
)
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject
from eo_assets.project_cluster import Cluster
from eo_assets.stages import walk
from eo_assets.stages.build import TILE_STAGES, tile_walk

MARKETS = {True: "spot", False: "on demand"}


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """The choices for a project's tiles, the best first, and how the cluster is set up. None of them may be in time."""

    cluster: Cluster
    work: TileWork
    deadline_hours: float
    choices: tuple[Choice, ...]

    @property
    def recommended(self) -> Choice | None:
        """The cheapest choice that is in time; without prices the fastest."""
        return next((one for one in self.choices if one.in_time), None)

    def usd(self, choice: Choice) -> float | None:
        """US dollars of a choice and the head that lives as long; None where a price is not known."""
        head = hourly_price(self.cluster.head.instance_type, False, self.cluster.prices)
        return None if head is None or choice.usd is None else choice.usd + head * choice.hours

    def as_json(self) -> dict[str, Any]:
        """Plain values, hours and US dollars rounded; `usd` with the head."""

        def said(choice: Choice) -> dict[str, Any]:
            usd = self.usd(choice)
            return asdict(choice) | {
                "hours": round(choice.hours, 4),
                "usd_of_workers": None if choice.usd is None else round(choice.usd, 4),
                "usd": None if usd is None else round(usd, 4),
                "recommended": choice is self.recommended,
            }

        return {
            "deadline_hours": self.deadline_hours,
            "start_hours": START_HOURS,
            **asdict(self.work),
            "most": self.cluster.workers.most,
            "head": self.cluster.head.instance_type,
            "choices": [said(choice) for choice in self.choices],
            "notes": list(self.notes()),
        }

    def lines(self) -> Iterator[str]:
        """For people: the work, a line a choice with its arithmetic, and what there is to know of it."""
        work, head = self.work, self.cluster.head.instance_type
        yield (
            f"machines, for {work.tiles} tiles in {self.deadline_hours:g} h: a tile takes {work.seconds_a_tile:,.1f} "
            f"CPU s (measured on the demo; waiting for a service, sampling and training are not in it), "
            f"{work.memory_a_tile / GIB:,.2f} GiB and {work.cpus_a_tile:g} CPU; start {START_HOURS:g} h (assumed)"
        )
        for choice in self.choices:
            yield f"{'->' if choice is self.recommended else '  '} {self._arithmetic(choice)}"
        price = hourly_price(head, False, self.cluster.prices)
        if price is not None and self.choices:
            yield f"   the head is {head} on demand, ${price:g} an hour, and lives as long"
        yield from self.notes()

    def notes(self) -> Iterator[str]:
        """What keeps the choices from being complete: prices, the deadline, types."""
        head = self.cluster.head.instance_type, False
        for name, spot in dict.fromkeys((head, *((one.instance_type, one.spot) for one in self.choices))):
            if hourly_price(name, spot, self.cluster.prices) is None:
                market = "spot" if spot else "on_demand"
                yield f"cluster.prices.{name}.{market} is not given: its dollars are not known; add it"
        for name in self.cluster.workers.instance_types:
            if name not in KINDS:
                yield f"cluster.workers.instance_types: {name}: how large it is is not known here; it is left out"
        best = self.recommended
        if best is None:
            yield self._too_late()
        elif best.instance_type not in self.cluster.workers.instance_types:
            yield f"to have it: cluster.workers.instance_types: [{best.instance_type}]"
        if self.deadline_hours > self.cluster.longest_hours:
            yield (
                f"cluster.longest_hours: {self.cluster.longest_hours:g}: the machines end themselves before the "
                f"deadline of {self.deadline_hours:g} h; raise it"
            )

    def _arithmetic(self, choice: Choice) -> str:
        work = self.work
        hourly, usd = hourly_price(choice.instance_type, choice.spot, self.cluster.prices), self.usd(choice)
        together = choice.machines * choice.at_a_time
        if work.tiles >= together:
            working = f"{work.tiles} tiles x {work.seconds_a_tile:,.1f} s / ({choice.machines} x {choice.at_a_time})"
        else:
            working = f"all {work.tiles} tiles at once, {work.seconds_a_tile:,.1f} s"
        cost = (
            "price not known"
            if hourly is None
            else f"{choice.machines} x {choice.hours:,.2f} h x ${hourly:g} = ${choice.usd or 0:,.2f}"
        )
        with_head = "" if usd is None else f", ${usd:,.2f} with the head"
        late = "" if choice.in_time else "  (too late)"
        return (
            f"{choice.machines:3d} x {choice.instance_type:12s} {MARKETS[choice.spot]:9s}  {working} + "
            f"{START_HOURS:g} h = {choice.hours:,.2f} h; {cost}{with_head}{late}"
        )

    def _too_late(self) -> str:
        workers = self.cluster.workers
        if not self.choices:
            return (
                f"no instance type that is known here has {self.work.memory_a_tile / GIB:,.1f} GiB and "
                f"{self.work.cpus_a_tile:g} CPU for a tile: name a larger one in cluster.workers.instance_types"
            )
        soonest = min(self.choices, key=lambda one: one.hours)
        told = f"nothing is done in {self.deadline_hours:g} h with workers.most: {workers.most}"
        enough = [
            (machines, one)
            for one in self.choices
            if (machines := machines_for(self.work, one.at_a_time, self.deadline_hours)) is not None
        ]
        longer = f"--deadline {_up(soonest.hours)} with {soonest.machines} x {soonest.instance_type}"
        if not enough:
            return f"{told}, nor with more of them: one tile alone takes as long as that; {longer}"
        machines, one = min(enough, key=lambda pair: pair[0])
        return (
            f"{told}; {machines} x {one.instance_type} {MARKETS[one.spot]} would be (raise workers.most), or {longer}"
        )


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run's machines cost at the most: its dearest choice, with the head; None where a price is not known.

    `strange`: types of workers whose size is not known. Ray may take them, so then nothing is.
    """

    choice: Choice | None
    head: str
    usd: float | None
    strange: tuple[str, ...] = ()

    @classmethod
    def of(cls, cluster: Cluster, work: TileWork, found: Sequence[Choice]) -> RunEstimate:
        """The dearest of the choices."""
        plan = MachinePlan(cluster, work, cluster.longest_hours, tuple(found))
        costs = [(plan.usd(one), one) for one in found]
        unknown = next((one for usd, one in costs if usd is None), None)
        if unknown is not None or not costs:
            return cls(unknown, cluster.head.instance_type, None)
        usd, dearest = max(costs, key=lambda pair: pair[0] or 0.0)
        return cls(dearest, cluster.head.instance_type, usd)

    def line(self) -> str:
        """In words."""
        one = self.choice
        if self.strange:
            return f"how large {self.strange[0]} is is not known here, so nothing is estimated"
        if one is None:
            return "no instance type of the workers is known here, so nothing is estimated"
        machines = (
            f"{one.machines} x {one.instance_type} {MARKETS[one.spot]} and the head {self.head}, {one.hours:,.2f} h"
        )
        if self.usd is None:
            return f"{machines}: a price of them is not in cluster.prices, so no dollars are estimated"
        return f"{machines}: about ${self.usd:,.2f} at the most"


def machine_plan(
    loaded: LoadedProject, tiles: Sequence[Tile], estimate: Estimate, deadline_hours: float | None = None
) -> MachinePlan | None:
    """Choices for these tiles by a deadline, by default `cluster.longest_hours`; None without a cluster or tiles.

    Instance types are those of the workers and those that have a price; markets are those that `spot_share` allows.
    """
    cluster = loaded.project.cluster
    if cluster is None or not tiles:
        return None
    work = tile_work(loaded, tiles, estimate, tuple(TILE_STAGES))
    deadline = deadline_hours or cluster.longest_hours
    types = dict.fromkeys((*cluster.workers.instance_types, *cluster.prices))
    found = [
        choice
        for spot, most in markets(cluster)
        for choice in choices(work, types, cluster.prices, spot=spot, most=most, deadline_hours=deadline)
    ]
    return MachinePlan(cluster, work, deadline, tuple(sorted(found, key=in_order)))


def markets(cluster: Cluster) -> tuple[tuple[bool, int], ...]:
    """The markets that workers may come from, spot or not, and how many from each."""
    workers = cluster.workers
    both = ((True, workers.most_spot), (False, workers.most - workers.most_spot))
    return tuple((spot, most) for spot, most in both if most)


def tile_work(loaded: LoadedProject, tiles: Sequence[Tile], estimate: Estimate, stages: Sequence[str]) -> TileWork:
    """What a tile's walk through stages takes: CPU seconds on average, memory and CPUs of the hungriest."""
    walking = tile_walk(loaded)
    held = [needs(walking, walk.TileWork(tile, tuple(stages))) for tile in tiles]
    seconds = 3600 * sum(estimate.hours.get(stage, 0.0) for stage in stages) / len(tiles)
    return TileWork(
        len(tiles), seconds, max(one.memory_bytes for one in held), max(0.01, max(one.cpus for one in held))
    )


def _up(hours: float) -> str:
    """Rounded up to a tenth of an hour, so that it can be asked for."""
    return f"{-(-hours * 10 // 1) / 10:g}"
