"""The six tile stages as one subsettable multi-asset: one run a range of tiles, one event a finished (stage, tile).

A bad tile is failed and never stamped; every other tile flows on.
"""

import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
from pydantic import Field

from eo_assets.assets.area import check_excluded_tiles, tiles_of
from eo_assets.assets.backfills import backfilled
from eo_assets.assets.event_log import held_open
from eo_assets.assets.imagery import approve_by_tag, order_imagery, project_ledger, unplaced
from eo_assets.assets.machine_spending import machine_spending, on_cluster, require_machines
from eo_assets.assets.machine_use import tell_use
from eo_assets.assets.offset_check import offset_of_predictions, offset_spec
from eo_assets.assets.progress import Progress
from eo_assets.assets.quotes import quote
from eo_assets.assets.reference_spending import reference_spending
from eo_assets.assets.retention import let_go_after, wanted_again
from eo_assets.assets.reused_model import check_model_fits
from eo_assets.assets.run_log import run_log
from eo_assets.assets.tile_events import TileEvents
from eo_assets.assets.tile_run import TilePlan, known_outcomes, plan_tiles, run_tiles, task_limits
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError
from eo_assets.partitions import RUN_TILES, select, tile_partitions
from eo_assets.pools import pool
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, check_labels, tile_walk
from eo_assets.stages.walk import StageOutcome, Walk
from resources.ray_cluster import RayCluster
from resources.run_usage import RunUsage
from resources.service_calls import counted_calls
from resources.sweeping import sweep

UPSTREAM = {
    "tiffs": ("tile_grid",),
    "reference": ("tile_grid",),
    "eopatches": ("tiffs",),
    "features": ("eopatches",),
    "samples": ("features", "reference"),
    "predictions": ("features", "model"),
}
KINDS = {"tiffs": {"sentinelhub"}, "reference": {"sentinelhub"}, "predictions": {"lightgbm"}}
DESCRIPTIONS = {
    "tiffs": "What the service delivered: a GeoTIFF an output, its bands the dates, and the sensing times.",
    "reference": "Labels of the tile, with their own nodata.",
    "eopatches": "The tiffs as an EOPatch: reflectance (time, y, x, band) and masks of valid pixels.",
    "features": "Indices and bands of every valid pixel and date, float32, NaN where nothing is known.",
    "samples": "Random labelled pixels with all their features.",
    "predictions": "The model's answer for every valid pixel.",
}


class TileRunConfig(dg.Config):
    """What a person may ask of a run in the launchpad."""

    rebuy: list[str] = Field([], description="tiles whose imagery is bought again if it is stale or was given up")
    order_also: list[str] = Field([], description="tiles of later runs, ordered together: a request has a least price")


@dataclass(slots=True)
class TileRunUse:
    """What a run takes of machines, counted while it goes on, and the US dollars that were estimated before."""

    usage: RunUsage = field(default_factory=RunUsage)
    estimated_usd: float | None = None


def tile_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`tiffs`, `reference`, `eopatches`, `features`, `samples` and `predictions` of a project."""
    prefix = loaded.project.name

    @dg.multi_asset(
        name=f"{prefix}__tile_stages",
        specs=[_spec(prefix, stage.name, stage.code_version) for stage in tile_walk(loaded).stages],
        check_specs=[offset_spec(prefix, "predictions")],
        partitions_def=tile_partitions(prefix),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(RUN_TILES),
        pool=pool(prefix, "tiles"),
    )
    def tile_stages(
        context: dg.AssetExecutionContext,
        config: TileRunConfig,
        ray_cluster: RayCluster,
        progress: dg.ResourceParam[Progress],
    ) -> Iterator[dg.AssetCheckResult]:
        stages = [stage for stage in TILE_STAGES if dg.AssetKey([prefix, stage]) in context.selected_asset_keys]
        walk = tile_walk(loaded, rebuy=config.rebuy)
        # A request for imagery has a least price: what the other runs of the backfill need is ordered along.
        also = [*config.order_also, *backfilled(context.instance, context.run, dg.AssetKey([prefix, "tiffs"]))]
        log = held_open(context.instance, context.run.run_id)
        with run_log(loaded, context), log, TileEvents(context, walk, UPSTREAM) as events:
            approve_by_tag(project_ledger(loaded), context.run, context.instance)
            use = TileRunUse()
            outcomes = _outcomes(loaded, walk, context.partition_keys, also, stages, ray_cluster, progress, use)
            with counted_calls() as calls, closing(outcomes):  # closed at once, so that a cancelled run stops its tasks
                for outcome in outcomes:
                    events.tell(outcome)
            _tell_run(context, calls, tell_use(context, loaded, use.usage, use.estimated_usd))
            # No output is yielded: what there is to stamp has been told tile by tile. And before leaving, which raises
            # for a tile that failed: the check is of those that are there.
            if context.selected_asset_check_keys:
                yield offset_of_predictions(loaded, walk.store)

    return [tile_stages]


def _spec(prefix: str, stage: str, code_version: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        [prefix, stage],
        deps=[dg.AssetKey([prefix, name]) for name in UPSTREAM[stage]],
        description=DESCRIPTIONS[stage],
        group_name=prefix,
        kinds=KINDS.get(stage, {"eolearn"}),
        skippable=True,
        code_version=code_version,
    ).with_io_manager_key("tiffs_io_manager" if stage == "tiffs" else "eopatch_io_manager")


def _outcomes(
    loaded: LoadedProject,
    walk: Walk,
    keys: Sequence[str],
    also: Sequence[str],
    stages: list[str],
    ray: RayCluster,
    progress: Progress,
    use: TileRunUse,
) -> Generator[StageOutcome]:
    for stage in walk.store.folders:
        walk.store.claim(stage)
    for stage in stages:
        sweep(walk.store, stage, keys)
    all_tiles = tiles_of(walk.store)
    tiles = select(all_tiles, keys)
    walk = replace(walk, wanted_again=wanted_again(loaded, walk.store, all_tiles, stages))
    check_excluded_tiles(loaded, all_tiles)
    if "predictions" in stages and walk.store.record("model", "model") is None:
        raise dg.Failure(
            f"predictions need a model and {loaded.project.name} has none; run training first: "
            f"eo-assets run {loaded.file} --only model",
            allow_retries=False,
        )
    plan = plan_tiles(walk, tiles, stages)
    others = select(all_tiles, set(also) - set(keys)) if "tiffs" in stages and plan.to_order else []
    later = plan_tiles(walk, others, ["tiffs"])
    unlabelled = _unlabelled(walk, plan, stages)
    ledger, working = project_ledger(loaded), (*plan.ready, *plan.to_order)
    try:
        if (plan.to_order or unlabelled) and not loaded.project.model.trained_here:
            check_model_fits(loaded)
        if unlabelled:
            check_labels(loaded)
        wanted = quote(loaded, {"tiffs": unplaced(walk, plan, later), "reference": unlabelled})
        ledger.require(wanted.total, f"this run ({len(tiles)} tiles)")
        if on_cluster(loaded, ray):
            require_machines(loaded, working, stages)
    except EoAssetsError:
        yield from known_outcomes(walk, plan, stages)  # what is done is done, whatever this run may not spend
        raise
    with (
        machine_spending(loaded, ray, working, stages, use.usage) as machines,
        reference_spending(loaded, ledger, unlabelled) as labels,
    ):
        use.estimated_usd = machines.usd if machines else None
        progress.started(f"{loaded.project.name}: {', '.join(stages)}", len(tiles), len(stages))
        map_tiles = functools.partial(ray.map_tiles, limits=task_limits(loaded), usage=use.usage)
        with closing(
            run_tiles(
                walk, plan, stages, map_tiles, lambda wanted: order_imagery(loaded, walk, wanted, later, all_tiles)
            )
        ) as outcomes:
            for outcome in outcomes:
                progress.advanced(outcome)
                if outcome is not None:
                    labels.add(outcome)
                    yield outcome
    progress.finished()
    let_go_after(stages, loaded, walk.store, tiles)


def _unlabelled(walk: Walk, plan: TilePlan, stages: list[str]) -> list[Tile]:
    """The tiles whose reference this run would ask the service for."""
    reference = walk.selected(["reference"])[0]
    wanted = (*plan.ready, *plan.to_order) if "reference" in stages else ()
    return [tile for tile in wanted if not walk.state(reference, tile).good]


def _tell_run(context: dg.AssetExecutionContext, calls: Mapping[str, float], used: Mapping[str, Any]) -> None:
    """One observation a run: how the service answered its driver (throttled, tried again, waited for), and what it
    took of machines."""
    keys = {key.path[-1]: key for key in context.selected_asset_keys}
    asked = {name: round(count, 2) for name, count in calls.items()} if calls["requests"] and "tiffs" in keys else {}
    if asked:
        context.log.info(f"calls to the service: {', '.join(f'{name} {count:g}' for name, count in asked.items())}")
    if asked or used:
        key = keys.get("tiffs") or max(keys.values(), key=lambda key: key.path)
        context.log_event(dg.AssetObservation(key, metadata={**asked, **used}))
