"""`eo-assets plan`: tiles by zone, bytes, hours and processing units of a project, offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from eo_assets.assets.area import check_excluded_tiles, project_grid
from eo_assets.assets.area_files import Unreadable, find_area
from eo_assets.assets.composite_ways import composite_ways
from eo_assets.assets.cost_estimate import Estimate, estimate_of
from eo_assets.assets.imagery import project_ledger
from eo_assets.assets.machine_estimate import MachinePlan, RunEstimate, machine_plan
from eo_assets.assets.machine_spending import run_estimate
from eo_assets.assets.observations import Observations, observations
from eo_assets.assets.reused_model import model_note, model_problem
from eo_assets.assets.storage_estimate import storage_of
from eo_assets.command_machines import budget_lines
from eo_assets.core.cost import UNVERIFIED
from eo_assets.core.storage_cost import StageStorage, StorageCost
from eo_assets.core.tile import Tile
from eo_assets.definitions import open_project
from eo_assets.errors import ClusterError, StorageRefused, TransientError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES


@dataclass(frozen=True, slots=True)
class Plan:
    """What a project would make: its tiles in order, and what they would cost.

    `observations` are the acquisitions a tile that a Catalog search found, where one was asked for; `unreadable` are
    the files of the area that can't be used; `model_problem` is why a model that is not trained here keeps the project
    from buying anything, and `model_note` what else is to know of that model.
    """

    loaded: LoadedProject
    area_km2: float
    tiles: tuple[Tile, ...]
    estimate: Estimate
    storage: StorageCost
    observations: Observations | None = None
    unreadable: tuple[Unreadable, ...] = ()
    model_problem: str | None = None
    model_note: str | None = None
    machines: MachinePlan | None = None
    run: RunEstimate | None = None

    def as_json(self, *, names: bool) -> dict[str, Any]:
        """Plain values; with `names` the tiles in order."""
        estimate = self.estimate.as_json()
        quoted = self.estimate.quote
        said: dict[str, Any] = {
            "project": self.loaded.project.name,
            "area_km2": round(self.area_km2, 1),
            "tiles": len(self.tiles),
            "tiles_by_zone": self.tiles_by_zone,
            "processing_units_by_stage": {stage: round(quoted.of(stage), 2) for stage in ("tiffs", "reference")},
            "assumed_dates": self.loaded.project.imagery.expected_dates,
            **estimate,
            "storage": _storage_json(self.storage),
        }
        if ways := composite_ways(self.loaded, self.tiles):
            said["composite"] = [way.as_json() for way in ways]
        if self.machines is not None:
            usd = None if self.run is None or self.run.usd is None else round(self.run.usd, 4)
            said["machines"] = self.machines.as_json() | {"usd_of_a_run_at_the_most": usd}
        if self.observations is not None:
            said["observations"] = self.observations.as_json()
        if self.model_problem is not None:
            said["model_problem"] = self.model_problem
        if self.model_note is not None:
            said["model_note"] = self.model_note
        if self.unreadable:
            said["unreadable_files"] = {problem.name: str(problem) for problem in self.unreadable}
        return {**said, "names": [tile.name for tile in self.tiles]} if names else said

    @property
    def tiles_by_zone(self) -> dict[str, int]:
        """Tiles by EPSG code."""
        return {str(epsg): count for epsg, count in sorted(Counter(tile.epsg for tile in self.tiles).items())}


def make_plan(project: str, aoi: Path | None, *, catalog: bool = False, deadline_hours: float | None = None) -> Plan:
    """Load, tile and count; spends nothing, writes nothing. With `catalog` the service is asked what it has.

    `deadline_hours` is when the machines of a cluster are to be done. A ClusterError where there is no cluster.
    """
    loaded = open_project(project)
    if deadline_hours is not None and loaded.project.cluster is None:
        raise ClusterError(f"{loaded.file}: --deadline is about machines, and there is no `cluster:` section; add it")
    found = find_area(loaded, aoi, offline=True)
    tiles = project_grid(loaded).tiles(found.area.geometry)
    check_excluded_tiles(loaded, tiles)
    seen = observations(loaded, tiles) if catalog else None
    of_model = model_problem(loaded), model_note(loaded)
    estimate = estimate_of(loaded, tiles)
    stored = storage_of(loaded, tiles)
    machines = machine_plan(loaded, tiles, estimate, deadline_hours), run_estimate(loaded, tiles, TILE_STAGES, estimate)
    return Plan(
        loaded, found.area.area_km2, tuple(tiles), estimate, stored, seen, found.unreadable, *of_model, *machines
    )


def print_plan(plan: Plan, console: Console, *, names: bool) -> None:
    """For people."""
    project = plan.loaded.project
    console.print(f"{project.name} {project.year}: {plan.area_km2:,.0f} km2 in {len(plan.tiles)} tiles")
    for zone, count in plan.tiles_by_zone.items():
        console.print(f"  EPSG:{zone}  {count:6d} tiles")
    tell_unreadable(plan.unreadable, console)
    if plan.model_problem is not None:
        console.print(f"[yellow]nothing would be bought: {escape(plan.model_problem)}[/]", soft_wrap=True)
    if plan.model_note is not None:
        console.print(f"[yellow]{escape(plan.model_note)}[/]", soft_wrap=True)
    _print_quote(plan, console)
    _print_ways(plan, console)
    console.print("before compression, and on one CPU:")
    for stage, size in plan.estimate.bytes.items():
        console.print(f"  {stage:12s} {size / 1e9:10,.2f} GB {plan.estimate.hours[stage]:12,.4f} h")
    _print_machines(plan, console)
    _print_storage(plan.storage, console)
    if names:
        _print_names(plan.tiles, console)


def tell_unreadable(unreadable: Sequence[Unreadable], console: Console) -> None:
    """The files of the area that can't be used: the rest goes on without them, which must not go unseen."""
    for problem in unreadable:
        console.print(f"[yellow]{escape(str(problem))}[/]", soft_wrap=True)


def _print_quote(plan: Plan, console: Console) -> None:
    quoted, dates = plan.estimate.quote, plan.loaded.project.imagery.expected_dates
    console.print(
        f"processing units, at {dates} date{'s' if dates > 1 else ''} a tile: {quoted.total:,.0f} ({UNVERIFIED})"
    )
    for line in quoted.lines:
        least = f", {line.minimum:,.1f} of it to reach the least price of a request" if line.minimum > 0 else ""
        console.print(f"  {line.stage:12s} {line.units:10,.1f} {line.unit}, by {line.kind.mode}{least}")
    if plan.observations is not None:
        for told in plan.observations.lines():
            console.print(f"  {told}")
    budget = plan.loaded.project.budget
    if budget.max_processing_units is not None:
        try:
            left = project_ledger(plan.loaded).headroom() or 0.0
            console.print(f"  budget       {left:10,.1f} left of {budget.max_processing_units:g} this month")
        except (StorageRefused, TransientError) as error:
            console.print(f"  budget       {budget.max_processing_units:g} a month; what is left is unknown: {error}")
    if budget.require_approval:
        console.print("  nothing is bought before somebody approves it: `eo-assets approve`")


def _print_machines(plan: Plan, console: Console) -> None:
    if plan.machines is None or plan.run is None:
        return
    run = f"a run on the cluster as it is, which asks for all that it may have: {plan.run.line()}"
    for line in (*plan.machines.lines(), run, *budget_lines(plan.loaded)):
        console.print(line, markup=False, soft_wrap=True)


def _print_ways(plan: Plan, console: Console) -> None:
    ways = composite_ways(plan.loaded, plan.tiles)
    if ways:
        console.print("a composite is paid for by the acquisitions that are read, wherever it is made:")
    for way in ways:
        console.print(f"  {way.line()}")


def _print_storage(cost: StorageCost, console: Console) -> None:
    prices = cost.prices
    console.print(
        f"in a bucket, compressed, where imagery covers the tiles: ${prices.gb_month:g} a GB and month, "
        f"${prices.put_1000:g} and ${prices.get_1000:g} a thousand writing and reading requests (storage.prices)"
    )
    for stage in cost.stages:
        console.print(f"{_stored(stage, cost)}{'' if stage.stays else f', {stage.kept}'}")
    for total in (cost.peak, cost.stays):
        console.print(f"{_stored(total, cost)}, {total.bytes / 1e12:,.4f} TB")
    console.print(f"  requests of a run of the whole graph: ${cost.requests:,.2f}")


def _stored(stage: StageStorage, cost: StorageCost) -> str:
    objects = stage.objects + stage.records
    dollars = stage.monthly(cost.prices)
    return f"  {stage.stage:13s} {stage.bytes / 1e9:12,.3f} GB {objects:12,d} objects  ${dollars:,.2f} a month"


def _storage_json(cost: StorageCost) -> dict[str, Any]:
    def said(stage: StageStorage) -> dict[str, Any]:
        return {
            "bytes": stage.bytes,
            "objects": stage.objects + stage.records,
            "dollars_a_month": round(stage.monthly(cost.prices), 4),
        }

    return {
        "stages": {
            stage.stage: said(stage)
            | {"dollars_of_requests": round(stage.requests(cost.prices), 4), "kept": stage.kept}
            for stage in cost.stages
        },
        "peak": said(cost.peak),
        "stays": said(cost.stays),
        "dollars_of_requests": round(cost.requests, 4),
    }


def _print_names(tiles: Sequence[Tile], console: Console) -> None:
    for index, tile in enumerate(tiles):
        console.print(f"{index:6d}  {tile.epsg}  {tile.name}")
