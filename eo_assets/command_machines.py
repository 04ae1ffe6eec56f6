"""What a run's machines may cost, asked before the first of them is started."""

from __future__ import annotations

from collections.abc import Iterator

from eo_assets.assets.area import project_area, project_grid, tiles_of
from eo_assets.assets.machine_spending import machine_ledger, require_machines
from eo_assets.assets.tile_run import plan_tiles
from eo_assets.errors import StorageRefused, TransientError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from jobs.graph import choose_tiles, with_upstream
from jobs.launches import Request


def require_machine_budget(loaded: LoadedProject, request: Request) -> None:
    """Refuse a run on the cluster that budget.max_machine_usd does not cover: a BudgetExceeded, and no machine."""
    if loaded.project.budget.max_machine_usd is None:
        return
    wanted = with_upstream(request.only)  # a run makes also what an asset needs
    stages = [stage for stage in TILE_STAGES if not request.only or stage in wanted]
    store = tile_store(loaded)
    if store.record("tile_grid", "tile_grid") is None:
        tiles = project_grid(loaded).tiles(project_area(loaded).geometry)
        require_machines(loaded, choose_tiles(tiles, request.tiles), stages)
        return
    walk = tile_walk(loaded)
    plan = plan_tiles(walk, choose_tiles(tiles_of(store), request.tiles), stages)
    working = (*plan.ready, *plan.to_order)
    to_make = {stage for again in plan.made_again.values() for stage in again}
    for _, states in walk.survey(stages, working):
        to_make |= {stage for stage, state in states.items() if not state.good}
    require_machines(loaded, working, [stage for stage in TILE_STAGES if stage in to_make])


def budget_lines(loaded: LoadedProject) -> Iterator[str]:
    """What is left of the month's budget for machines, where there is one."""
    limit = loaded.project.budget.max_machine_usd
    if limit is None:
        return
    try:
        left = machine_ledger(loaded).headroom() or 0.0
        yield f"   budget.max_machine_usd: ${left:,.2f} left of ${limit:g} this month"
    except (StorageRefused, TransientError) as error:
        yield f"   budget.max_machine_usd: ${limit:g} a month; what is left is unknown: {error}"
