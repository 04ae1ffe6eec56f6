"""Launching a project from the command line: the same definitions, in this process, one launch after the other.

A launch holds what may share a run. Assets that span tiles are launched on their own, after the tiles, so that a failed
tile never keeps them from what the others made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import dagster as dg

from eo_assets.assets.alive import end_lost_runs
from eo_assets.assets.area import tiles_of
from eo_assets.assets.event_log import held_open
from eo_assets.assets.outputs import failed_partitions, shown_recipe, told_recipe
from eo_assets.assets.retention import wanted_again
from eo_assets.assets.run_log import RUN_TAG
from eo_assets.assets.shared_wanted import shared_wanted
from eo_assets.assets.tile_events import told_digests
from eo_assets.assets.training_data import sampling_tiles
from eo_assets.core.graph import FOR_TRAINING
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError, StorageRefused
from eo_assets.partitions import contiguous, ranges_with_work, register, tile_partitions, zone_partitions
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from eo_assets.stages.walk import StageOutcome
from jobs.graph import choose_tiles, rebought, with_upstream
from jobs.project_jobs import AREA, LAUNCHES, MAP, PREDICT, PUBLISH, TRAIN

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class Launch:
    """Assets that go into one run, and the contiguous partition keys that it is for, None for assets without any."""

    assets: tuple[str, ...]
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What became of a launch: its run, and why it failed if it did. `refused`: the project folder can't be written."""

    launch: Launch
    run_id: str
    success: bool
    failure: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: assets (none named: all of them), and tiles by name or index (none named: all of them).

    `rebuy` are tiles whose stale imagery is bought again, by name or index or `all`; `name` is what its runs are tagged
    with: the folder of its log. `order_also` is found out on the way: tiles whose imagery is ordered together.
    """

    only: tuple[str, ...] = ()
    tiles: tuple[str, ...] = ()
    rebuy: tuple[str, ...] = ()
    name: str = ""
    order_also: tuple[str, ...] = ()


@dataclass
class Launcher:
    """Runs a request over a project's definitions, in this process."""

    loaded: LoadedProject
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    announce: Callable[[Launch], None] = field(default=lambda launch: None)

    def run(self, request: Request) -> Iterator[LaunchResult]:
        """Launch what the request needs, in the order of the graph; goes on past failures."""
        end_lost_runs(self.instance)
        targets = set(self._targets(request))
        direct = with_upstream(targets, stop_at=TRAIN)
        for area in self._unsettled(AREA, None, request):
            yield area
            if not area.success:
                return
        tiles = tiles_of(tile_store(self.loaded))
        register(self.instance, self.loaded.project.name, tiles)
        chosen = choose_tiles(tiles, request.tiles)
        request = replace(request, rebuy=rebought(tiles, request.rebuy))
        sampled: set[str] = set()
        trained = True
        if self._trains(direct, targets, request):
            if self._trained_here or "training_data" in direct:
                yield from self._samples(tiles, sampled, request)
            for result in self._train(direct, request):
                trained = result.success
                yield result
        before = [stage for stage in LAUNCHES["tiles"] if stage in direct]
        yield from self._ranges(before, tiles, [tile for tile in chosen if tile.name not in sampled], request)
        if not trained:
            # What needs no model has gone on; predicting goes on with the model that is wanted, or not at all.
            return
        predict = [asset for asset in PREDICT if asset in direct]
        yield from self._ranges(predict, tiles, chosen, request)
        if "maps" in direct:
            if self._wanted_again(chosen, predict):
                yield from self._ranges(predict, tiles, chosen, request)
            for zone in dict.fromkeys(str(tile.epsg) for tile in chosen):
                yield from self._unsettled(MAP, zone, request)
        yield from self._unsettled([asset for asset in PUBLISH if asset in direct], None, request)

    def _targets(self, request: Request) -> tuple[str, ...]:
        """The assets that are asked for. Single tiles are tried out stage by stage: no map is made of them unasked."""
        if request.only or not request.tiles:
            return request.only or PUBLISH
        if not self._trained_here:
            return tuple(stage for stage in TILE_STAGES if stage not in FOR_TRAINING)
        return tuple(stage for stage in TILE_STAGES if stage != "predictions" or self._has_model())

    @property
    def _trained_here(self) -> bool:
        return self.loaded.project.model.trained_here

    def _trains(self, direct: set[str], targets: set[str], request: Request) -> bool:
        """Is a model to be brought up to date? A run of single tiles takes the one that is there."""
        asked = bool(targets & set(TRAIN))
        return asked or (bool(direct & set(TRAIN)) and not (request.tiles and self._has_model()))

    def _train(self, direct: set[str], request: Request) -> Iterator[LaunchResult]:
        needed = with_upstream(direct & set(TRAIN)) if self._trained_here else direct
        yield from self._unsettled([asset for asset in TRAIN if asset in needed], None, request)

    def _has_model(self) -> bool:
        return tile_store(self.loaded).record("model", "model") is not None

    def _samples(self, tiles: Sequence[Tile], sampled: set[str], request: Request) -> Iterator[LaunchResult]:
        """Everything that a model needs, of the sampling tiles alone; their names go into `sampled`."""
        if self.loaded.project.sampling.tiles == "labelled":
            yield from self._ranges(["reference"], tiles, tiles, request)
        chosen = sampling_tiles(self.loaded, tile_store(self.loaded), tiles)
        sampled.update(tile.name for tile in chosen)
        yield from self._ranges(LAUNCHES["tiles"], tiles, chosen, request)
        if self._wanted_again(tiles, ["samples"]):
            # What was made changes the table, which is made of the samples of all tiles, the retired ones too.
            yield from self._ranges(LAUNCHES["tiles"], tiles, chosen, request)

    def _ranges(
        self, stages: Sequence[str], tiles: Sequence[Tile], chosen: Sequence[Tile], request: Request
    ) -> Iterator[LaunchResult]:
        """One run a range of neighbouring tiles that have something to do, see `ranges_with_work`.

        Imagery of all ranges is ordered by the first that needs any: a request has a least price.
        """
        unfinished = set(self._unfinished(stages, chosen, request)) if stages else set()
        request = replace(request, order_also=tuple(sorted(unfinished)) if "tiffs" in stages else ())
        for group in contiguous(tiles, [tile.name for tile in chosen]):
            for working in ranges_with_work(group, unfinished):
                yield self._launch(stages, tuple(tile.name for tile in working), request)

    def _unfinished(self, stages: Sequence[str], chosen: Sequence[Tile], request: Request) -> list[str]:
        """The tiles that a launch would change anything for: not up to date, or Dagster was not told of it as it is."""
        again = self._wanted_again(chosen, stages)
        walk = tile_walk(self.loaded, rebuy=request.rebuy, wanted_again=again)
        partitions = tile_partitions(self.loaded.project.name)
        told = {stage: told_digests(self.instance, self._key(stage), partitions) for stage in stages}
        return [
            tile.name
            for tile, states in walk.survey(stages, chosen)
            if not all(_settled(state, told[stage].get(tile.name)) for stage, state in states.items())
        ]

    def _wanted_again(self, tiles: Sequence[Tile], stages: Sequence[str]) -> frozenset[tuple[str, str]]:
        return wanted_again(self.loaded, tile_store(self.loaded), tiles, stages)

    def _unsettled(self, assets: Sequence[str], key: str | None, request: Request) -> Iterator[LaunchResult]:
        """Launch assets that span tiles, unless each is as it should be and Dagster was told of it."""
        if not all(self._as_wanted(asset, key) for asset in assets):
            yield self._launch(assets, None if key is None else (key,), request)

    def _as_wanted(self, asset: str, key: str | None) -> bool:
        store = tile_store(self.loaded)
        try:
            record = store.record(asset, key or asset)
            wanted = shared_wanted(self.loaded, store)[asset][key or asset]().recipe
        except EoAssetsError:
            return False  # the launch tells why
        zones = zone_partitions(self.loaded.project.name)
        return (
            record is not None
            and record.recipe == wanted
            and told_recipe(self.instance, self._key(asset), key) == shown_recipe(record)
            and not (key and failed_partitions(self.instance, self._key(asset), [key], zones))
        )

    def _launch(self, assets: Sequence[str], keys: tuple[str, ...] | None, request: Request) -> LaunchResult:
        launch = Launch(tuple(assets), keys)
        self.announce(launch)
        # Nobody but this process can carry such a run out: the daemon must not start it again if it is killed.
        tags = {"dagster/max_retries": "0", **({RUN_TAG: request.name} if request.name else {})}
        tags |= {} if keys is None else {RANGE_START: keys[0], RANGE_END: keys[-1]}
        with held_open(self.instance):
            result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=self.instance,
                asset_selection=[self._key(asset) for asset in assets],
                tags=tags,
                run_config=self._run_config(assets, request),
                raise_on_error=False,
            )
        failure = failure_of(result)
        if "DagsterExecutionInterruptedError" in failure:
            # Dagster takes an interrupt for a failed step; a person who presses Ctrl-C wants nothing more started.
            raise KeyboardInterrupt
        return LaunchResult(
            launch, result.run_id, result.success, failure, StorageRefused.__name__ in causes_of(result)
        )

    def _run_config(self, assets: Sequence[str], request: Request) -> dict[str, object]:
        # Dagster's own console lines would drown what a person came for; they are in the run's log and in the UI.
        config: dict[str, object] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        asked = {"rebuy": list(request.rebuy), "order_also": list(request.order_also)}
        if any(asked.values()) and set(assets) & set(TILE_STAGES):
            config["ops"] = {f"{self.loaded.project.name}__tile_stages": {"config": asked}}
        return config

    def _key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([self.loaded.project.name, asset])


def _settled(state: StageOutcome, told: str | None) -> bool:
    return state.good and state.record is not None and state.record.digest == told


def causes_of(result: dg.ExecuteInProcessResult) -> set[str]:
    """The names of the errors that steps failed with, and of those that led to them."""
    found: set[str] = set()
    for event in result.all_events:
        error = event.step_failure_data.error if event.is_step_failure else None
        while error is not None:
            found.add((error.cls_name or "").split(".")[-1])
            error = error.cause
    return found


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """The message of the first step that failed, without a stack; nothing for a run that succeeded."""
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            told = str(error.message).strip() if error else "no reason given"
            # Dagster puts the class before the message; our own classes say nothing that the message does not.
            name, _, rest = told.partition(": ")
            return rest if name.startswith(("eo_assets.", "dagster.")) and rest else told
    return "" if result.success else "the run failed before its first step"
