"""The order for imagery: one batch request for all missing tiles of a run, within the project's budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

from eo_assets.assets.area import committed_area
from eo_assets.assets.quotes import imagery_units
from eo_assets.assets.tile_run import TilePlan
from eo_assets.core.tile import Tile
from eo_assets.errors import ApprovalNeeded
from eo_assets.project import LoadedProject, SentinelHubGridSettings
from eo_assets.stages.build import sentinel_hub, tile_store
from eo_assets.stages.reference import collection_input
from eo_assets.stages.tiffs import Tiffs
from eo_assets.stages.walk import Walk
from resources.batch_api import BatchApi, Imagery, TilingGrid
from resources.batch_desk import Delivery, Desk, Polling, Wanted
from resources.batch_jobs import deliveries
from resources.batch_orders import OPEN, OrderBook
from resources.deployments import probe_delivery
from resources.signed_in import signed_in
from resources.spending import Ledger

APPROVAL_TAG = "eo-assets/approve"
"""A run tag: the processing units that whoever launched the run approves."""
USER_TAG = "user"


def project_ledger(loaded: LoadedProject) -> Ledger:
    """What the project may spend and has spent."""
    budget = loaded.project.budget
    return Ledger(
        tile_store(loaded).store,
        f"{loaded.project.folder('spending')}/{loaded.project.name}",
        str(loaded.file),
        budget.max_processing_units,
        budget.require_approval,
    )


def approve_by_tag(ledger: Ledger, run: dg.DagsterRun, instance: dg.DagsterInstance) -> None:
    """Take up the approval that a run brings along, once: a run that is tried again brings the same one along.

    It is recorded with the name that the run claims, and with who was signed in when it was launched.
    """
    figure = run.tags.get(APPROVAL_TAG)
    if figure is None:
        return
    try:
        who = signed_in(instance, run)
        ledger.approve(float(figure), run.tags.get(USER_TAG, ""), f"run-{run.root_run_id or run.run_id}", who)
    except (ValueError, ApprovalNeeded):
        told = f"run tag {APPROVAL_TAG}: {figure!r} is no number of processing units above zero"
        raise dg.Failure(told, allow_retries=False) from None


def order_imagery(
    loaded: LoadedProject, walk: Walk, plan: TilePlan, later: TilePlan, grid: list[Tile]
) -> Iterator[Delivery | None]:
    """Have the missing tiles of a plan delivered; yields each as it arrives, None while waiting.

    Those of a `later` plan are ordered along with them, and not waited for.
    """
    wanted = wanted_imagery(loaded, plan, later, grid)
    yield from deliveries(ordering_desk(loaded, walk), replace(wanted, again=walk.rebuy))


def wanted_imagery(loaded: LoadedProject, plan: TilePlan, later: TilePlan, grid: list[Tile]) -> Wanted:
    """What is asked for, tile by tile with the recipe that it is wanted with."""
    asked, cut = loaded.project.imagery, loaded.project.area.grid
    imagery = Imagery(
        data=[collection_input(collection, asked.time_interval) for collection in asked.collections],
        evalscript=loaded.evalscripts[asked.evalscript],
        outputs=asked.tiff_outputs,
    )
    by_grid = len(plan.to_order) + len(later.to_order) == len(grid) and isinstance(cut, SentinelHubGridSettings)
    return Wanted(
        imagery,
        plan.to_order,
        {**plan.recipes, **later.recipes},
        {tile.name: tile for tile in grid},
        TilingGrid(cut.id, committed_area(tile_store(loaded))) if by_grid else None,
        later.to_order,
    )


def unplaced(walk: Walk, *plans: TilePlan) -> list[Tile]:
    """The tiles of plans that no order covers yet, neither one that is open nor one that has delivered them."""
    tiles = [tile for plan in plans for tile in plan.to_order]
    recipes = {name: recipe for plan in plans for name, recipe in plan.recipes.items()}
    if not tiles:
        return []  # a damaged order concerns nobody who orders nothing
    store = walk.store
    book, root = OrderBook(store.store, store.folder("tiffs")), store.folder("tiffs")
    placed: set[str] = set()
    for order in book.all():
        covered = order.covers(recipes)
        if covered and order.state not in OPEN:
            there = set(store.store.folders(f"{root}/{order.job}")) if order.job else set()
            covered = [name for name in covered if f"{root}/{order.job}/{name}" in there]
        placed.update(covered)
    return [tile for tile in tiles if tile.name not in placed or tile.name in walk.rebuy]


def ordering_desk(loaded: LoadedProject, walk: Walk) -> Desk:
    """Where the project orders: its service, its order book, its ledger."""
    store, asked = walk.store, loaded.project.imagery
    tiffs = walk.selected(["tiffs"])[0]
    assert isinstance(tiffs, Tiffs)
    store.claim("tiffs")
    api = BatchApi(sentinel_hub(loaded, asked.collections[0].service), store.store, store.folder("tiffs"))

    return Desk(
        api=api,
        book=OrderBook(store.store, store.folder("tiffs")),
        ledger=project_ledger(loaded),
        estimate=imagery_units(loaded),
        check=tiffs.check,
        there=lambda tile: walk.state(tiffs, tile).good,
        before_create=lambda: probe_delivery(store.store, store.folder("tiffs")),
        polling=Polling(
            api.service.pace.poll_seconds, api.service.pace.analysis_poll_seconds, api.service.pace.restart_minutes
        ),
        tries=asked.tries,
    )
