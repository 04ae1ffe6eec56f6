"""A tile whose pixels were retired: nothing is made of it until something needs them, and nothing is bought unasked."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from eo_assets.assets.tile_run import needs, plan_tiles
from eo_assets.core.cost import RequestKind
from eo_assets.stages.features import FeaturesStage
from eo_assets.stages.reference import ReferenceStage
from eo_assets.stages.walk import TileWork
from resources.retiring import retire

STAGES = ("tiffs", "reference", "eopatches", "features", "samples", "predictions")


def statuses(outcomes: dict[str, Any]) -> dict[str, str]:
    return {stage: outcome.status for stage, outcome in outcomes.items()}


def let_go(world: Any, *stages: str) -> None:
    for stage in stages:
        assert retire(world.store, world.store.record(stage, world.tile.name)) is not None


def gone(world: Any, stage: str) -> bool:
    record = world.store.record(stage, world.tile.name)
    return bool(record.retired) and not world.store.there(record)


@pytest.mark.parametrize("stages", [("tiffs",), ("tiffs", "eopatches", "features"), STAGES])
def test_a_tile_without_pixels_stays_up_to_date(world: Any, stages: tuple[str, ...]) -> None:
    world.make()
    let_go(world, *stages)
    assert set(statuses(world.run()).values()) == {"up_to_date"}
    assert all(gone(world, stage) for stage in stages), "and nothing was made to find that out"
    plan = plan_tiles(world.walk(), [world.tile], STAGES)
    assert plan.known == (world.tile,)
    assert plan.made_again == {}


def test_what_is_free_is_made_again_when_something_needs_it(world: Any) -> None:
    before = world.make()
    let_go(world, "eopatches", "features")
    world.sampling["seed"] = 2
    after = world.run()
    assert statuses(after) == dict.fromkeys(STAGES, "up_to_date") | {"samples": "done"}
    for stage in ("eopatches", "features"):
        record = world.store.record(stage, world.tile.name)
        assert not record.retired
        assert record.digest == before[stage].record.digest, "nothing behind it turns stale"
        assert world.store.there(record)
    assert set(statuses(world.run()).values()) == {"up_to_date"}


def test_what_is_made_again_holds_the_same_bytes(world: Any) -> None:
    record = world.make()["features"].record
    bytes_of = {
        path.relative_to(world.store.path(record)): path.read_bytes()
        for path in world.store.path(record).rglob("*")
        if path.is_file()
    }
    let_go(world, "eopatches", "features")
    world.sampling["seed"] = 2
    world.run()
    again = world.store.path(world.store.record("features", world.tile.name))
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == bytes_of


def test_only_what_is_needed_is_made_again(world: Any) -> None:
    world.make()
    let_go(world, "tiffs", "eopatches", "features", "samples", "reference")
    world.sampling["seed"] = 2
    assert plan_tiles(world.walk(), [world.tile], ["reference"]).known == (world.tile,)
    outcomes = world.run("reference")
    assert statuses(outcomes) == {"reference": "up_to_date"}
    assert gone(world, "reference")


def test_a_run_of_one_stage_makes_its_retired_inputs_again(world: Any) -> None:
    world.make()
    let_go(world, "eopatches", "features")
    world.train(labels=np.where(np.linspace(-1, 1, 200) > 0.5, 100, 0))
    assert statuses(world.run("predictions")) == {"predictions": "done"}
    assert not gone(world, "features") and not gone(world, "eopatches")


def test_a_stage_with_pixels_spares_what_lies_behind_it(world: Any) -> None:
    world.make()
    let_go(world, "tiffs", "eopatches")
    world.sampling["seed"] = 2
    assert statuses(world.run())["samples"] == "done"
    assert gone(world, "eopatches"), "the features were there"


def test_retired_pixels_that_were_bought_are_told_with_their_cost(world: Any) -> None:
    records = {stage: outcome.record for stage, outcome in world.make().items()}
    let_go(world, "tiffs", "eopatches")
    world.features["mask"] = None
    walk = dataclasses.replace(world.walk(), prices={"tiffs": RequestKind(3, 2)})
    outcomes = {outcome.stage: outcome for outcome in walk(TileWork(world.tile, STAGES))}
    assert statuses(outcomes) == {
        "tiffs": "up_to_date", "reference": "up_to_date", "eopatches": "up_to_date", "features": "failed",
        "samples": "blocked", "predictions": "blocked",
    }  # fmt: skip
    seconds = sum(records[stage].numbers["seconds"] for stage in ("tiffs", "eopatches"))
    retired = world.store.record("tiffs", world.tile.name).retired
    assert outcomes["features"].reason == (
        f"features of 33UUU_3_7 needs pixels that were bought and are gone: tiffs (retired on {retired}). To buy them "
        "again, run it with --rebuy 33UUU_3_7: that quotes first, about 0.02 processing units for tiffs (batch, at "
        f"least 100 a request), and {seconds:.1f} CPU seconds for tiffs, eopatches. Or take back the change that needs "
        "them"
    )
    assert gone(world, "eopatches"), "nothing was begun"


def test_bought_pixels_come_back_only_for_a_tile_that_a_person_names(world: Any) -> None:
    world.make()
    let_go(world, "tiffs", "eopatches")
    world.features["mask"] = None
    plan = plan_tiles(world.walk(), [world.tile], STAGES)
    assert (plan.to_order, plan.ready) == ((), (world.tile,)), "nothing is ordered unasked"
    asked = plan_tiles(world.walk(rebuy=(world.tile.name,)), [world.tile], STAGES)
    assert asked.to_order == (world.tile,)
    assert asked.recipes[world.tile.name] == world.store.record("tiffs", world.tile.name).recipe
    outcomes = world.run(rebuy=(world.tile.name,), delivery=world.deliver("request-2"))
    assert statuses(outcomes) == {
        "tiffs": "done", "reference": "up_to_date", "eopatches": "up_to_date", "features": "done", "samples": "done",
        "predictions": "done",
    }  # fmt: skip
    assert not gone(world, "tiffs")
    assert set(statuses(world.run()).values()) == {"up_to_date"}


def test_bought_pixels_that_nothing_needs_are_not_bought_again_by_naming_the_tile(world: Any) -> None:
    world.make()
    let_go(world, "tiffs", "eopatches")
    plan = plan_tiles(world.walk(rebuy=(world.tile.name,)), [world.tile], STAGES)
    assert plan.known == (world.tile,)


def test_labels_that_were_bought_are_not_asked_for_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make()
    let_go(world, "reference")
    monkeypatch.setattr(ReferenceStage, "paid", True)
    record = world.store.record("reference", world.tile.name)
    numbers = {**record.numbers, "processing_units": 1.25}
    world.store.replace(record, dataclasses.replace(record, numbers=numbers))
    world.sampling["seed"] = 2
    samples = world.run()["samples"]
    assert samples.status == "failed"
    assert "quotes first, 1.25 processing units for reference, as the service charged them" in samples.reason
    assert gone(world, "reference")


def test_a_stale_output_is_made_as_ever_although_its_old_pixels_are_gone(world: Any) -> None:
    world.make()
    let_go(world, "features")
    world.features["mask"] = None
    outcomes = world.run()
    assert outcomes["features"].status == "done"
    assert not gone(world, "features")


def test_what_spans_tiles_may_want_pixels_again(world: Any) -> None:
    before = world.make()
    let_go(world, "samples")
    walk = dataclasses.replace(world.walk(), wanted_again=frozenset({("samples", world.tile.name)}))
    outcomes = {outcome.stage: outcome for outcome in walk(TileWork(world.tile, STAGES))}
    assert statuses(outcomes) == dict.fromkeys(STAGES, "up_to_date") | {"samples": "done"}
    assert outcomes["samples"].record.digest == before["samples"].record.digest


def test_a_worker_is_given_what_the_stages_take_that_it_makes_again(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.make()
    let_go(world, "features")
    world.train(labels=np.where(np.linspace(-1, 1, 200) > 0.5, 100, 0))
    monkeypatch.setattr(FeaturesStage, "memory_bytes", lambda *args: 7 << 40)
    walk = world.walk()
    plan = plan_tiles(walk, [world.tile], ["predictions"])
    assert plan.made_again == {world.tile.name: ("features",)}
    work = TileWork(world.tile, ("predictions",))
    assert needs(walk, work, plan.made_again[world.tile.name]).memory_bytes == 7 << 40
