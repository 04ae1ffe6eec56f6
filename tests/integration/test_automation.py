"""What starts by itself: new tiles, a new model's predictions if the project says so, failed tiles on a schedule."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from eo_assets.assets.area import tiles_of
from eo_assets.definitions import build_definitions
from eo_assets.partitions import contiguous
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from jobs.launches import RANGE_END, RANGE_START, failure_of
from jobs.project_jobs import AREA, PREDICT, TILES, TRAIN
from jobs.schedules import RETRY_TAG, _ranges, find_retries
from resources.batch_orders import OrderBook
from resources.ray_cluster import RayCluster
from tests.simulation.world import Simulation, simulated

Asked = dict[str, set[str]]


@dataclass
class Daemon:
    """Does what Dagster's daemon does with a project's conditions, tick by tick, in this process."""

    loaded: LoadedProject
    instance: dg.DagsterInstance
    cursor: Any = None
    ran: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def definitions(self) -> dg.Definitions:
        """The code as the project file stands now."""
        return build_definitions([self.loaded], ray_cluster=RayCluster(workers=2))

    def tick(self) -> Asked:
        """What the conditions ask for now: partition keys by asset, none for assets without partitions."""
        definitions = self.definitions
        result = dg.evaluate_automation_conditions(
            definitions, self.instance, dg.AssetSelection.all(), cursor=self.cursor
        )
        self.cursor = result.cursor
        keys = [found.key for found in result.results if not found.true_subset.is_empty]
        return {key.path[-1]: {str(one) for one in result.get_requested_partitions(key) if one} for key in keys}

    def settle(self) -> list[tuple[str, ...]]:
        """Tick and carry out what is asked for until nothing is; the launches, in their order."""
        self.ran = []
        for _ in range(20):
            asked = self.tick() or self.tick() or self.tick()
            if not asked:
                return self.ran
            self.carry_out(asked)
        raise AssertionError(f"it never ends: {self.ran}")

    def carry_out(self, asked: Asked) -> None:
        """One run a set of keys that assets share; of tiles one a range of neighbours."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for asset, keys in asked.items():
            groups.setdefault(tuple(sorted(keys)), []).append(asset)
        for keys, assets in groups.items():
            self.launch(assets, keys)

    def launch(self, assets: list[str] | tuple[str, ...], keys: tuple[str, ...] = ()) -> list[str]:
        """Run assets; returns what failed."""
        order = [*AREA, *TILES, *TRAIN, *PREDICT, "maps", "byoc_collection"]
        self.ran.append(tuple(sorted(assets, key=order.index)))
        if not keys:
            return [self.run(assets, {})]
        if keys[0].isdigit():
            return [self.run(assets, {RANGE_START: keys[0], RANGE_END: keys[-1]})]
        ranges = contiguous(tiles_of(tile_store(self.loaded)), keys)
        return [self.run(assets, {RANGE_START: group[0].name, RANGE_END: group[-1].name}) for group in ranges]

    def run(
        self,
        assets: list[str] | tuple[str, ...],
        tags: Mapping[str, str],
        run_config: Mapping[str, Any] | None = None,
    ) -> str:
        """One run of assets; why it failed, nothing if it did not."""
        result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey([self.loaded.project.name, asset]) for asset in assets],
            tags=tags,
            run_config=run_config,
            raise_on_error=False,
        )
        return failure_of(result)

    def materialized(self, asset: str) -> set[str]:
        """Partitions of an asset that were made."""
        return set(self.instance.get_materialized_partitions(dg.AssetKey([self.loaded.project.name, asset])))


@pytest.fixture
def stored() -> Iterator[dg.DagsterInstance]:
    """An instance on disk, as a schedule wants it; it takes its folder along when it ends."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def simulation(tmp_path: Path, local_ray: None) -> Iterator[Simulation]:
    """Twelve tiles."""
    with simulated(tmp_path / "simulated", 12) as made:
        yield made


def settings(simulation: Simulation, **automation: Any) -> dict[str, Any]:
    """The project's changes: three tiles are sampled."""
    return {"automation": {"enabled": True, **automation}, "sampling": {"tiles": simulation.names[:6:2]}}


@pytest.fixture
def daemon(simulation: Simulation, stored: dg.DagsterInstance) -> Daemon:
    """A daemon over an instance with nothing made yet."""
    return Daemon(simulation.open(settings(simulation)), stored)


def test_new_tiles_flow_and_failed_ones_are_left_alone(simulation: Simulation, daemon: Daemon) -> None:
    names = simulation.names
    undelivered, unlabelled, unpredicted = names[1], names[2], names[3]
    simulation.poison_imagery(undelivered)
    simulation.damage_labels(unlabelled)
    simulation.add_date(unpredicted)
    # Nothing starts before there is an area, and the area is not started by conditions.
    assert daemon.settle() == []
    # Half of the area first.
    (simulation.folder / "input-data/aoi.geojson").write_text(simulation.outline(columns=slice(0, 2)))
    daemon.launch(AREA)
    half = {tile.name for tile in tiles_of(tile_store(daemon.loaded))}
    assert len(half) == 6 and {undelivered, unlabelled, unpredicted} < half

    first = daemon.settle()
    assert first == [
        TILES,
        ("training_data", "model"),
        ("predictions",),
        ("maps",),
        ("byoc_collection",),
    ]
    assert daemon.materialized("predictions") == half - {undelivered, unpredicted}
    assert daemon.materialized("reference") == half - {unlabelled}
    failed = {undelivered: "tiffs", unlabelled: "reference", unpredicted: "predictions"}
    assert {name: stage for stage in TILE_STAGES for name in tile_store(daemon.loaded).failures(stage)} == failed

    # The other half: only its tiles run, with the model that is there, and one map is made when they have settled.
    (simulation.folder / "input-data/aoi.geojson").write_text(simulation.outline())
    daemon.launch(AREA)
    assert daemon.settle() == [(*TILES, *PREDICT), ("maps",), ("byoc_collection",)]
    assert daemon.materialized("predictions") == set(names) - {undelivered, unpredicted}


@pytest.fixture
def small(tmp_path: Path, local_ray: None) -> Iterator[Simulation]:
    """Four tiles."""
    with simulated(tmp_path / "small", 4) as made:
        yield made


@pytest.mark.parametrize("predicts", [False, True])
def test_a_new_model_is_made_and_used_only_if_the_project_says_so(
    small: Simulation, stored: dg.DagsterInstance, predicts: bool
) -> None:
    changes = {"automation": {"enabled": True, "predict_on_new_model": predicts}, "sampling": {"tiles": "all"}}
    (small.folder / "input-data/aoi.geojson").write_text(small.outline(columns=slice(0, 1)))
    daemon = Daemon(small.open(changes), stored)
    daemon.launch(AREA)
    assert len(daemon.settle()) == 5
    # The same model, trained again, is no new one.
    daemon.launch(TRAIN)
    assert daemon.settle() == []

    # More tiles are more samples. The map waits for what a new model predicts, or the old model stays.
    (small.folder / "input-data/aoi.geojson").write_text(small.outline())
    daemon.launch(AREA)
    made = [(*TILES, *PREDICT), *([TRAIN, PREDICT] if predicts else []), ("maps",), ("byoc_collection",)]
    assert daemon.settle() == made
    assert len(tile_store(daemon.loaded).records("maps")["32633"].numbers["missing_tiles"]) == 0

    # A person trains: what was predicted is stale until somebody or the project wants it anew.
    daemon.launch(TRAIN)
    assert daemon.settle() == []
    daemon.loaded = small.open({**changes, "model": {"parameters": {"n_estimators": 3}}})
    daemon.launch(TRAIN)
    assert daemon.settle() == ([PREDICT, ("maps",), ("byoc_collection",)] if predicts else [])


def test_failed_tiles_are_tried_again_with_what_they_lack_and_nothing_else(
    small: Simulation, stored: dg.DagsterInstance
) -> None:
    undelivered, *_, unpredicted = names = small.names
    changes = {"sampling": {"tiles": names[1:3]}, "automation": {"retry_failed": "0 * * * *"}}
    before = small.poison_imagery(undelivered)
    small.add_date(unpredicted)
    daemon = Daemon(small.open(changes), stored)
    assert find_retries(daemon.loaded).again == ()
    daemon.launch(AREA)
    for assets in (TILES, TRAIN, PREDICT):
        daemon.launch(assets, () if assets == TRAIN else tuple(names))

    # Not sampled: neither labels nor samples are asked for, whether the tile has them or not.
    lacking = ("tiffs", "eopatches", "features", "predictions")
    asked = requests(daemon)
    assert {tiles(request): stages(request) for request in asked} == {
        (undelivered, undelivered): lacking,
        (unpredicted, unpredicted): PREDICT,
    }

    small.set_pixel(undelivered, before)
    for request in asked:
        daemon.run(stages(request), request.tags, request.run_config)
    assert daemon.materialized("predictions") == set(names) - {unpredicted}
    assert [tiles(request) for request in requests(daemon)] == [(unpredicted, unpredicted)]
    # The last runs are not piled up upon: one that goes on is enough.
    tags = {RETRY_TAG: daemon.loaded.project.name}
    daemon.instance.add_run(dg.DagsterRun("working", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert requests(daemon) == []


def test_scattered_failures_share_a_run_across_tiles_that_lack_nothing_and_no_others(
    small: Simulation, stored: dg.DagsterInstance
) -> None:
    daemon, names = Daemon(small.open(), stored), small.names
    daemon.launch(AREA)
    daemon.launch(("reference",), tuple(names))
    store, walk = tile_store(daemon.loaded), tile_walk(daemon.loaded)
    for name in names[::2]:
        Path(store.record_place("reference", name)).unlink()
    found = tiles_of(store)
    [retry] = _ranges(walk, found, ("reference",), set(names[::2]))
    assert retry.failed == tuple(names[::2]) and retry.tiles[0] == names[0]
    # A tile in between that was never made is nobody's failure: it is not made along.
    Path(store.record_place("reference", names[1])).unlink()
    first, *_ = _ranges(walk, found, ("reference",), set(names[::2]))
    assert first.tiles == first.failed == (names[0],)


def requests(daemon: Daemon) -> list[dg.RunRequest]:
    """What the schedule asks for."""
    schedule = daemon.definitions.resolve_schedule_def(f"{daemon.loaded.project.name}_retry_failed")
    repository = daemon.definitions.get_repository_def()
    now = dt.datetime.now(dt.UTC)
    with dg.build_schedule_context(daemon.instance, now, repository_def=repository) as context:
        return list(schedule.evaluate_tick(context).run_requests or [])


def tiles(request: dg.RunRequest) -> tuple[str, str]:
    """The first and the last tile of a run."""
    return request.tags[RANGE_START], request.tags[RANGE_END]


def stages(request: dg.RunRequest) -> tuple[str, ...]:
    """The stages of a run."""
    return tuple(key.path[-1] for key in request.asset_selection or ())


def test_what_would_have_to_be_bought_is_left_to_a_person(small: Simulation, stored: dg.DagsterInstance) -> None:
    first, second, *_ = small.names
    daemon = Daemon(small.open(), stored)
    daemon.launch(AREA)
    paid = {"imagery": {"collections": [{"collection": "sentinel-2-l2a", "service": "cdse", "harmonize_values": True}]}}
    loaded = small.open(paid)
    store = tile_store(loaded)
    for name in (first, second):
        store.note_failure("tiffs", name, "the request ended as FAILED")
    found = find_retries(loaded)
    assert found.again == () and set(found.left) == {first, second}
    assert f"{first} and 1 more left to a person: its tiffs would be bought from cdse once more" in found.told
    # An order that is under way is paid for: what it brings is taken.
    tile = next(tile for tile in tiles_of(store) if tile.name == first)
    wanted = tile_walk(loaded).states(["tiffs"], tile)["tiffs"].recipe
    OrderBook(store.store, store.folder("tiffs")).add("cdse", {first: wanted}, 1.0)
    assert [retry.tiles for retry in find_retries(loaded).again] == [(first,)]
