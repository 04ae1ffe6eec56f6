"""The six tile stages as one subsettable multi-asset: one run a range of tiles, one event a finished (stage, tile).

A bad tile is failed and never stamped; every other tile flows on. Up-to-date tiles are stamped again: when a run ends
as failed, planned partitions without an event would turn failed with it.
"""

import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing

import dagster as dg
from pydantic import Field

from eo_assets.assets.area import check_excluded_tiles, tiles_of
from eo_assets.assets.imagery import approve_by_tag, order_imagery, project_ledger, unplaced
from eo_assets.assets.outputs import materialization
from eo_assets.assets.progress import Progress
from eo_assets.assets.quotes import quote
from eo_assets.assets.reference_spending import reference_spending
from eo_assets.assets.run_log import run_log
from eo_assets.assets.tile_run import TilePlan, plan_tiles, run_tiles, task_limits
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError
from eo_assets.partitions import select, tile_partitions
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, check_labels, tile_walk
from eo_assets.stages.walk import StageOutcome, Walk
from resources.ray_cluster import RayCluster
from resources.service_calls import counted_calls
from resources.tile_store import OutputRecord

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
INLINE_PICTURES = 500
"""Runs of more tiles than this leave quicklooks beside the outputs and out of the event log."""


class TileRunConfig(dg.Config):
    """What a person may ask of a run in the launchpad."""

    rebuy: list[str] = Field([], description="tiles whose imagery is bought again if it is stale or was given up")
    order_also: list[str] = Field([], description="tiles of later runs, ordered together: a request has a least price")


def tile_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`tiffs`, `reference`, `eopatches`, `features`, `samples` and `predictions` of a project."""
    prefix = loaded.project.name

    @dg.multi_asset(
        name=f"{prefix}__tile_stages",
        specs=[_spec(prefix, stage.name, stage.code_version) for stage in tile_walk(loaded).stages],
        partitions_def=tile_partitions(prefix),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def tile_stages(
        context: dg.AssetExecutionContext,
        config: TileRunConfig,
        ray_cluster: RayCluster,
        progress: dg.ResourceParam[Progress],
    ) -> Iterator[None]:
        stages = [stage for stage in TILE_STAGES if dg.AssetKey([prefix, stage]) in context.selected_asset_keys]
        walk = tile_walk(loaded, rebuy=config.rebuy)
        problems = _Problems()
        with run_log(loaded, context):
            approve_by_tag(project_ledger(loaded), context.run)
            keys = context.partition_keys
            outcomes = _outcomes(loaded, walk, keys, config.order_also, stages, ray_cluster, progress)
            with counted_calls() as calls, closing(outcomes):  # closed at once, so that a cancelled run stops its tasks
                for outcome in outcomes:
                    _tell(context, walk, outcome, len(keys))
                    problems.add(outcome)
            _tell_calls(context, calls)
            problems.raise_any()
        return
        yield  # A generator without outputs: Dagster stamps nothing by itself.

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
) -> Generator[StageOutcome]:
    for stage in walk.store.folders:
        walk.store.claim(stage)
    all_tiles = tiles_of(walk.store)
    tiles = select(all_tiles, keys)
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
    ledger = project_ledger(loaded)
    try:
        if unlabelled:
            check_labels(loaded)
        wanted = quote(loaded, {"tiffs": unplaced(walk, plan, later), "reference": unlabelled})
        ledger.require(wanted.total, f"this run ({len(tiles)} tiles)")
    except EoAssetsError:
        yield from plan.known  # stamped all the same: in a run that fails they would turn failed with it
        raise
    with reference_spending(loaded, ledger, unlabelled) as labels:
        progress.started(f"{loaded.project.name}: {', '.join(stages)}", len(tiles), len(stages))
        map_tiles = functools.partial(ray.map_tiles, limits=task_limits(loaded))
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


def _unlabelled(walk: Walk, plan: TilePlan, stages: list[str]) -> list[Tile]:
    """The tiles whose reference this run would ask the service for."""
    reference = walk.selected(["reference"])[0]
    wanted = (*plan.ready, *plan.to_order) if "reference" in stages else ()
    return [tile for tile in wanted if not walk.state(reference, tile).good]


def _tell(context: dg.AssetExecutionContext, walk: Walk, outcome: StageOutcome, tiles: int) -> None:
    if outcome.good and outcome.record is not None:
        key = next(key for key in context.selected_asset_keys if key.path[-1] == outcome.stage)
        context.log_event(
            materialization(
                walk.store,
                key,
                outcome.tile,
                outcome.record,
                _made_from(walk, outcome.stage, outcome.record),
                code_version=walk.selected([outcome.stage])[0].code_version,
                picture=tiles <= INLINE_PICTURES,
            )
        )
    if outcome.status == "kept":
        context.log.warning(f"{outcome.stage} of {outcome.tile}: {outcome.reason}")
    context.log.debug(f"{outcome.stage} of {outcome.tile}: {outcome.status} {outcome.reason}".rstrip())
    if outcome.status == "failed":
        walk.store.note_failure(outcome.stage, outcome.tile, outcome.reason)
        context.log.error(f"{outcome.stage} of {outcome.tile}: {outcome.reason}\n{outcome.details}")


def _tell_calls(context: dg.AssetExecutionContext, calls: Mapping[str, float]) -> None:
    """How the service answered the driver of the run: what was throttled, tried again, waited for."""
    key = next((key for key in context.selected_asset_keys if key.path[-1] == "tiffs"), None)
    if key is None or not calls["requests"]:
        return
    told = {name: round(count, 2) for name, count in calls.items()}
    context.log_event(dg.AssetObservation(key, metadata=told))
    context.log.info(f"calls to the service: {', '.join(f'{name} {count:g}' for name, count in told.items())}")


def _made_from(walk: Walk, stage: str, record: OutputRecord) -> dict[str, str]:
    """The digests of a stage's upstream assets. The grid is no input of a tile's recipe, its cell is: any grid fits."""
    shared = walk.store.record("tile_grid", "tile_grid")
    digests = {**({"tile_grid": shared.digest} if shared else {}), **record.inputs}
    return {name: digests[name] for name in UPSTREAM[stage] if name in digests}


class _Problems:
    """The failures of a run, told once at its end."""

    def __init__(self) -> None:
        self._failed: list[StageOutcome] = []
        self._blocked = 0

    def add(self, outcome: StageOutcome) -> None:
        if outcome.status == "failed":
            self._failed.append(outcome)
        self._blocked += outcome.status == "blocked"

    def raise_any(self) -> None:
        """One failure that names every failed tile with its reason."""
        if not self._failed and not self._blocked:
            return
        named = {f"{outcome.stage}/{outcome.tile}": outcome.reason for outcome in self._failed}
        first = "".join(f"\n  {name}: {reason}" for name, reason in list(named.items())[:10])
        raise dg.Failure(
            f"{len(self._failed)} failed, {self._blocked} blocked behind them; every other tile is done.{first}",
            metadata={"failed": dg.MetadataValue.json(named), "blocked": self._blocked},
            allow_retries=False,
        )
