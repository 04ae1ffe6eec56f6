"""The driver of a run over tiles: what is known, what is worked on, what is ordered, and what becomes of a lost one."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eo_assets.assets.tile_run import TilePlan, known_outcomes, plan_tiles, run_tiles
from eo_assets.errors import ServiceError
from eo_assets.stages.walk import StageOutcome, TileWork, Walk
from resources.batch_desk import Delivery
from resources.ray_cluster import Finished, in_this_process

STAGES = ("tiffs", "reference", "eopatches", "features", "samples")
Order = Callable[[TilePlan], Iterator[Delivery | None]]


def here(walk: Walk, work: Iterator[Any], needs: Any) -> Iterator[Any]:
    return in_this_process(walk, work)


def outcomes(world: Any, order: Order, map_tiles: Any = here) -> dict[str, tuple[str, str]]:
    walk = world.walk()
    plan = plan_tiles(walk, [world.tile], STAGES)
    told = [outcome for outcome in run_tiles(walk, plan, STAGES, map_tiles, order) if outcome is not None]
    assert sorted(outcome.stage for outcome in told) == sorted(STAGES), "every stage is told once"
    return {outcome.stage: (outcome.status, outcome.reason) for outcome in told}


def never(plan: TilePlan) -> Iterator[Delivery | None]:
    pytest.fail("nothing was to be ordered")
    yield


def test_a_tile_is_ordered_delivered_and_walked(world: Any) -> None:
    world.label()

    def order(plan: TilePlan) -> Iterator[Delivery | None]:
        assert list(plan.recipes) == [world.tile.name]
        yield None
        yield from (Delivery(tile, world.deliver()) for tile in plan.to_order)

    assert {status for status, _ in outcomes(world, order).values()} == {"done"}
    assert {status for status, _ in outcomes(world, never).values()} == {"up_to_date"}


def test_an_order_that_fails_as_a_whole_keeps_no_tile_from_what_it_does_not_concern(world: Any) -> None:
    world.label()

    def order(plan: TilePlan) -> Iterator[Delivery | None]:
        yield None
        raise ServiceError("the account has no processing units left")

    told = outcomes(world, order)
    assert told["tiffs"] == ("failed", "the account has no processing units left")
    assert told["reference"][0] == "done"
    assert {told[stage][0] for stage in ("eopatches", "features", "samples")} == {"blocked"}


def test_a_tile_that_the_service_gave_up_on_is_told_with_its_reason(world: Any) -> None:
    world.label()
    told = outcomes(world, lambda plan: iter([Delivery(plan.to_order[0], None, "FATAL: script failed")]))
    assert told["tiffs"] == ("failed", "FATAL: script failed")
    assert told["reference"][0] == "done"


def test_a_tile_whose_record_is_torn_is_failed_and_never_bought_again(world: Any) -> None:
    world.make()
    world.store.store.put(f"tiffs/_commits/{world.tile.name}.json", b"{torn")
    told = outcomes(world, never)
    assert told["tiffs"][0] == "failed"
    assert "not a commit record" in told["tiffs"][1]


def test_a_lost_worker_leaves_what_it_committed(world: Any) -> None:
    world.label()

    def dies_after_eopatches(walk: Walk, work: Iterator[TileWork | None], needs: Any) -> Iterator[Any]:
        for item in work:
            assert item is not None
            walk(TileWork(item.tile, ("tiffs", "reference", "eopatches"), item.delivery))
            yield Finished(item, None, "the worker was lost three times")

    told = outcomes(world, lambda plan: iter([Delivery(plan.to_order[0], world.deliver())]), dies_after_eopatches)
    assert {told[stage][0] for stage in ("tiffs", "reference", "eopatches")} == {"up_to_date"}
    assert told["features"] == ("failed", "the worker was lost three times")
    assert told["samples"][0] == "blocked"


def test_what_is_known_needs_no_worker(world: Any) -> None:
    world.make()
    plan = plan_tiles(world.walk(), [world.tile], STAGES)
    assert plan == TilePlan(plan.known, (), ())
    assert plan.known == (world.tile,)
    assert [state.stage for state in known_outcomes(world.walk(), plan, STAGES)] == list(STAGES)


def test_a_store_that_refuses_is_asked_once_and_what_was_not_begun_is_told(world: Any) -> None:
    """Of ten thousand tiles on a full disk one fails, not each in turn."""
    tiles = [dataclasses.replace(world.tile, name=f"{world.tile.name}_{number}") for number in range(4)]
    walk, begun = world.walk(), []

    def on_a_full_disk(walk: Walk, work: Iterator[TileWork | None], needs: Any) -> Iterator[Any]:
        for item in work:
            assert item is not None
            begun.append(item.tile)
            full = StageOutcome("reference", item.tile.name, "failed", "the disk is full", refused=True)
            yield Finished(item, (full,))

    stages = ("reference",)
    plan = TilePlan((), tuple(tiles), ())
    told = [outcome for outcome in run_tiles(walk, plan, stages, on_a_full_disk, never) if outcome is not None]
    assert begun == tiles[:1]
    assert [(outcome.tile, outcome.status) for outcome in told] == [
        (tiles[0].name, "failed"),
        *((tile.name, "blocked") for tile in tiles[1:]),
    ]
    assert told[-1].reason == "not tried: the disk is full"
