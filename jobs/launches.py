"""Launching a project from the command line: the same definitions, in this process, one launch after the other.

A launch holds what may share a run. Assets that span tiles are launched on their own, after the tiles, so that a failed
tile never keeps them from what the others made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from eo_assets.assets.area import tiles_of
from eo_assets.assets.training import sampling_tiles
from eo_assets.core.tile import Tile
from eo_assets.errors import ProjectError
from eo_assets.partitions import contiguous, register
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from jobs.project_jobs import AREA, LAUNCHES, MAP, PREDICT, PUBLISH, TRAIN

NEEDS = {
    "aoi": (),
    "tile_grid": ("aoi",),
    "tiffs": ("tile_grid",),
    "reference": ("tile_grid",),
    "eopatches": ("tiffs",),
    "features": ("eopatches",),
    "samples": ("features", "reference"),
    "training_data": ("samples",),
    "model": ("training_data",),
    "predictions": ("features", "model"),
    "maps": ("predictions",),
    "byoc_collection": ("maps",),
}
"""What each asset is made from: the graph as the command line walks it."""

ASSETS = tuple(NEEDS)
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class Launch:
    """Assets that go into one run, and the contiguous partition keys that it is for, None for assets without any."""

    assets: tuple[str, ...]
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What became of a launch: its run, and why it failed if it did."""

    launch: Launch
    run_id: str
    success: bool
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: assets (none named: all of them), and tiles (none named: all of them)."""

    only: tuple[str, ...] = ()
    tiles: tuple[str, ...] = ()
    rebuy: bool = False


@dataclass
class Launcher:
    """Runs a request over a project's definitions, in this process."""

    loaded: LoadedProject
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    announce: Callable[[Launch], None] = field(default=lambda launch: None)

    def run(self, request: Request) -> Iterator[LaunchResult]:
        """Launch what the request needs, in the order of the graph; goes on past failures."""
        wanted = with_upstream(request.only or ASSETS)
        yield from self._launch(AREA, None, request)
        store = tile_store(self.loaded)
        if store.record("tile_grid", "tile_grid") is None:
            return
        tiles = tiles_of(store)
        register(self.instance, self.loaded.project.name, tiles)
        chosen = choose_tiles(tiles, request.tiles)
        if request.tiles:
            wanted = self._without_model(wanted, request)
        yield from self._tile_launches(wanted, tiles, chosen, request)
        yield from self._launch([asset for asset in TRAIN if asset in wanted], None, request)
        if "predictions" in wanted:
            yield from self._ranges(PREDICT, tiles, chosen, request)
        if "maps" in wanted:
            zones = tuple(dict.fromkeys(str(tile.epsg) for tile in chosen))
            yield from (result for zone in zones for result in self._launch(MAP, (zone,), request))
        yield from self._launch([asset for asset in PUBLISH if asset in wanted], None, request)

    def _without_model(self, wanted: set[str], request: Request) -> set[str]:
        """A run of single tiles takes a model as it is, and stops before the maps unless they were named."""
        has_model = tile_store(self.loaded).record("model", "model") is not None
        if not request.only:
            return {*TILE_STAGES} - (set() if has_model else {"predictions"})
        return wanted - ({"training_data", "model", "samples", "reference"} - set(request.only) if has_model else set())

    def _tile_launches(
        self, wanted: set[str], tiles: Sequence[Tile], chosen: Sequence[Tile], request: Request
    ) -> Iterator[LaunchResult]:
        """Imagery of every tile that needs it; reference and samples of the sampling tiles alone."""
        store = tile_store(self.loaded)
        stages = [stage for stage in LAUNCHES["tiles"] if stage in wanted]
        if self.loaded.project.sampling.tiles == "labelled" and "samples" in stages:
            yield from self._ranges(["reference"], tiles, tiles, request)
        sampled = {tile.name for tile in sampling_tiles(self.loaded, store, tiles)} if "samples" in stages else set()
        everywhere = bool({"predictions", *request.only} & {"predictions", "features", "eopatches", "tiffs"} & wanted)
        if request.tiles:
            sampled &= {tile.name for tile in chosen} if "model" not in wanted else sampled
        unsampled = [stage for stage in stages if stage not in ("reference", "samples") or stage in request.only]
        yield from self._ranges(stages, tiles, [tile for tile in tiles if tile.name in sampled], request)
        if everywhere or "samples" not in stages:
            rest = [tile for tile in chosen if tile.name not in sampled]
            yield from self._ranges(unsampled, tiles, rest, request)

    def _ranges(
        self, stages: Sequence[str], tiles: Sequence[Tile], chosen: Sequence[Tile], request: Request
    ) -> Iterator[LaunchResult]:
        for group in contiguous(tiles, self._unfinished(stages, chosen, request)):
            yield from self._launch(stages, tuple(tile.name for tile in group), request)

    def _unfinished(self, stages: Sequence[str], chosen: Sequence[Tile], request: Request) -> list[str]:
        """The tiles that a launch would change anything for: not up to date, or never stamped in this instance."""
        walk = tile_walk(self.loaded, rebuy=request.rebuy)
        selected = walk.selected(stages)
        stamped = {stage: self.instance.get_materialized_partitions(self._key(stage)) for stage in stages}
        return [
            tile.name
            for tile in chosen
            if any(tile.name not in stamped[stage.name] or not walk.state(stage, tile).good for stage in selected)
        ]

    def _launch(self, assets: Sequence[str], keys: tuple[str, ...] | None, request: Request) -> Iterator[LaunchResult]:
        if not assets:
            return
        launch = Launch(tuple(assets), keys)
        self.announce(launch)
        tags = {} if keys is None else {RANGE_START: keys[0], RANGE_END: keys[-1]}
        result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[self._key(asset) for asset in assets],
            tags=tags,
            run_config=self._run_config(assets, request),
            raise_on_error=False,
        )
        yield LaunchResult(launch, result.run_id, result.success, _failure(result))

    def _run_config(self, assets: Sequence[str], request: Request) -> dict[str, object]:
        if not request.rebuy or not set(assets) & set(TILE_STAGES):
            return {}
        return {"ops": {f"{self.loaded.project.name}__tile_stages": {"config": {"rebuy": True}}}}

    def _key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([self.loaded.project.name, asset])


def with_upstream(assets: Sequence[str]) -> set[str]:
    """Assets and all that they are made from. An unknown name is a ProjectError."""
    unknown = [asset for asset in assets if asset not in NEEDS]
    if unknown:
        raise ProjectError(f"--only {unknown[0]}: there is no such asset; there are {', '.join(ASSETS)}")
    found: set[str] = set()
    waiting = list(assets)
    while waiting:
        asset = waiting.pop()
        if asset not in found:
            found.add(asset)
            waiting.extend(NEEDS[asset])
    return found


def choose_tiles(tiles: Sequence[Tile], named: Sequence[str]) -> list[Tile]:
    """Tiles by name or by index in the order (EPSG, name); none named: all. An unknown one is a ProjectError."""
    if not named:
        return list(tiles)
    by_name = {tile.name: tile for tile in tiles}
    by_name |= {str(index): tile for index, tile in enumerate(tiles)}
    for name in named:
        if name not in by_name:
            raise ProjectError(f"-t {name}: no such tile; give a name, or an index from 0 to {len(tiles) - 1}")
    chosen = {by_name[name].name for name in named}
    return [tile for tile in tiles if tile.name in chosen]


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """The message of the first step that failed, without a stack."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            user = data.user_failure_data
            if user is not None and user.description:
                return str(user.description)
            error = data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return str(error.message).strip() if error else "no reason given"
    return "" if result.success else "the run failed before its first step"
