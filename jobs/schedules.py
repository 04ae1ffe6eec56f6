"""The schedule that tries failed tiles again: only those, and nothing that would have to be bought for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from eo_assets.assets.area import tiles_of
from eo_assets.assets.imagery import unplaced
from eo_assets.assets.quotes import paid_requests
from eo_assets.assets.tile_run import plan_tiles
from eo_assets.assets.training_data import sampling_tiles
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError
from eo_assets.partitions import contiguous, ranges_with_work
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from eo_assets.stages.walk import Walk
from jobs.launches import RANGE_END, RANGE_START
from jobs.project_jobs import UNFINISHED_RUNS

RETRY_TAG = "eo-assets/retry"
"""Marks the runs of the schedule with the project's name."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A range of tiles that failed, and the stages that each of them lacks; tiles in between lack nothing of these."""

    stages: tuple[str, ...]
    tiles: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retries:
    """What can be tried again, and the tiles that are left, each with the reason."""

    again: tuple[Retry, ...] = ()
    left: dict[str, str] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What is left to a person, in a sentence; nothing if nothing is."""
        if not self.left:
            return ""
        first, reason = next(iter(self.left.items()))
        more = f" and {len(self.left) - 1} more" if len(self.left) > 1 else ""
        return f"{first}{more} left to a person: {reason}"


def retry_schedule(loaded: LoadedProject) -> dg.ScheduleDefinition:
    """`<project>_retry_failed`, for a project that says when: runs for the tiles that have failed."""
    project = loaded.project

    @dg.schedule(
        name=f"{project.name}_retry_failed",
        target=dg.AssetSelection.assets(*([project.name, stage] for stage in TILE_STAGES)),
        cron_schedule=str(project.automation.retry_failed),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Tries failed tiles of {project.name} again, as far as that costs nothing.",
    )
    def retry_failed(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        filters = dg.RunsFilter(tags={RETRY_TAG: project.name}, statuses=list(UNFINISHED_RUNS))
        if context.instance.get_runs_count(filters):
            yield dg.SkipReason("the runs of the last time have not ended yet")
            return
        found = find_retries(loaded)
        if found.told:
            context.log.warning(found.told)
        if not found.again:
            yield dg.SkipReason(found.told or "no tile has failed")
        tick = f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}"
        yield from (_request(loaded, retry, f"{tick} {place}") for place, retry in enumerate(found.again))

    return retry_failed


def find_retries(loaded: LoadedProject) -> Retries:
    """The tiles that have failed and still lack something, from the store's notes and records; no pixel is read.

    What would have to be bought is left to a person: an order that is open or has delivered is not bought again.
    """
    store = tile_store(loaded)
    if store.record("tile_grid", "tile_grid") is None:
        return Retries()
    walk, tiles = tile_walk(loaded), tiles_of(store)
    noted = {name for stage in TILE_STAGES for name in store.failures(stage)}
    lacking = _lacking(loaded, walk, tiles, [tile for tile in tiles if tile.name in noted])
    left = _to_be_bought(loaded, walk, [tile for tile in tiles if tile.name in lacking], lacking)
    groups: dict[tuple[str, ...], set[str]] = {}
    for name, stages in lacking.items():
        if name not in left:
            groups.setdefault(stages, set()).add(name)
    return Retries(
        tuple(retry for stages, names in groups.items() for retry in _ranges(walk, tiles, stages, names)), left
    )


def _ranges(walk: Walk, tiles: Sequence[Tile], stages: tuple[str, ...], names: set[str]) -> Iterator[Retry]:
    """Few ranges that hold these tiles, and else only tiles that have nothing to do: no other is made along."""
    idle = {tile.name for tile, states in walk.survey(stages, tiles) if all(state.good for state in states.values())}
    for neighbours in contiguous(tiles, names | idle):
        for working in ranges_with_work(neighbours, names):
            found = tuple(tile.name for tile in working)
            yield Retry(stages, found, tuple(name for name in found if name in names))


def _lacking(
    loaded: LoadedProject, walk: Walk, tiles: Sequence[Tile], failed: Sequence[Tile]
) -> dict[str, tuple[str, ...]]:
    """The stages that each failed tile lacks: of those without samples in the model, neither labels nor samples."""
    always = {"tiffs", "eopatches", "features"}
    if walk.store.record("model", "model") is not None:
        always.add("predictions")
    sampled = _sampled(loaded, walk, tiles)
    found = {}
    for tile, states in walk.survey(TILE_STAGES, failed):
        wanted = always | ({"reference", "samples"} if tile.name in sampled else set())
        stages = tuple(stage for stage in TILE_STAGES if stage in wanted and not states[stage].good)
        if stages:
            found[tile.name] = stages
    return found


def _sampled(loaded: LoadedProject, walk: Walk, tiles: Sequence[Tile]) -> set[str]:
    """The tiles that samples are wanted of; where labels decide, those whose labels are not known to be empty."""
    if not loaded.project.model.trained_here:
        return set()
    if loaded.project.sampling.tiles == "labelled":
        labels = walk.store.records("reference")
        return {tile.name for tile in tiles if tile.name not in labels or not labels[tile.name].empty}
    try:
        return {tile.name for tile in sampling_tiles(loaded, walk.store, tiles)}
    except EoAssetsError:
        return set()  # training tells which of the named tiles is not in the grid


def _to_be_bought(
    loaded: LoadedProject, walk: Walk, failed: Sequence[Tile], lacking: dict[str, tuple[str, ...]]
) -> dict[str, str]:
    """The failed tiles that a paid service would be asked for again, with the reason."""
    left: dict[str, str] = {}
    for stage, (service, _) in paid_requests(loaded).items():
        if loaded.project.service(service).local:
            continue
        asked = [tile for tile in failed if stage in lacking[tile.name]]
        if stage == "tiffs":
            asked = unplaced(walk, plan_tiles(walk, asked, ["tiffs"]))
        told = f"its {stage} would be bought from {service} once more; run it yourself: eo-assets run {loaded.file}"
        left |= {tile.name: f"{told} -t {tile.name}" for tile in asked}
    return left


def _request(loaded: LoadedProject, retry: Retry, run_key: str) -> dg.RunRequest:
    project = loaded.project
    # A tile that was given up is not asked for again unless somebody says so: where it costs nothing, this does.
    given_up = "tiffs" in retry.stages and project.service(project.imagery.collections[0].service).local
    config = {"ops": {f"{project.name}__tile_stages": {"config": {"rebuy": list(retry.failed)}}}}
    return dg.RunRequest(
        run_key,
        run_config=config if given_up else None,
        asset_selection=[dg.AssetKey([project.name, stage]) for stage in retry.stages],
        tags={RANGE_START: retry.tiles[0], RANGE_END: retry.tiles[-1], RETRY_TAG: project.name},
    )
