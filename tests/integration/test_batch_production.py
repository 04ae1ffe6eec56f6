"""Batch imagery as an unattended week sees it: killed runs, tiles that fail, storms, dead services, rival runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.selector import PartitionRangeSelector, PartitionsByAssetSelector, PartitionsSelector
from dagster._core.execution.backfill import PartitionBackfill

from eo_assets.cli import main
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.status import project_status
from jobs.launches import RANGE_END, RANGE_START
from resources.batch_orders import OrderBook
from tests.integration.production import (
    NAMES,
    THIRD_DATE,
    TWELVE,
    Production,
    in_production,
    make_twelve,
    tile_name,
    until,
)

FIRST_ROW = sorted(tile_name(column, 0) for column in range(3))
Twelve = Callable[..., tuple[Any, Production]]


@pytest.fixture
def twelve(world: Path, graph_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Twelve]:
    """`twelve(changes)`: the project of twelve tiles as a graph in this process, and its production."""
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_FAULTS", "1")
    make_twelve(world)
    graph = graph_in(world, TWELVE)
    with in_production(world, graph.loaded) as production:

        def make(changes: Mapping[str, Any] | None = None) -> tuple[Any, Production]:
            if changes is None:
                return graph, production
            sections = {key: {**TWELVE.get(key, {}), **value} for key, value in changes.items()}
            other = graph_in(world, {**TWELVE, **sections}, instance=graph.instance)
            production.loaded = other.loaded
            return other, production

        yield make


def _ranges(names: list[str]) -> PartitionsSelector:
    return PartitionsSelector(ranges=[PartitionRangeSelector(start=name, end=name) for name in names])


def failures(results: list[Any]) -> list[str]:
    return [result.failure for result in results if not result.success]


def test_a_run_killed_in_the_middle_of_a_job_is_gone_on_with(twelve: Twelve) -> None:
    graph, production = twelve({"budget": {"max_processing_units": 150}})
    production.control.set(slow_s=0.7)
    process = production.start("--only", "tiffs")
    until(lambda: 2 <= len(production.committed()) < 12, "the first tiles")
    production.kill(process)
    assert len(production.committed()) < 12

    assert failures(graph.run("tiffs")) == []
    [(job, tiles)] = production.created()
    assert tiles == NAMES
    assert production.started() == [job]
    assert production.charged() == {job: 100.0}
    [spending] = production.spendings()
    assert (spending.job, spending.estimate, spending.actual) == (job, 100.0, 100.0)
    assert sorted(production.committed()) == NAMES
    assert graph.materialized("tiffs") == set(NAMES)


def test_only_failed_tiles_are_asked_for_again_and_one_fails_for_good(twelve: Twelve) -> None:
    graph, production = twelve()
    good, late, bad = NAMES[1], NAMES[5], NAMES[9]
    production.control.set(fatal_tiles={good: 1, late: 2, bad: -1}, fatal_error="Internal error: out of memory")
    [failure] = failures(graph.run("tiffs"))
    requests = [tiles for _, tiles in production.created()]
    assert requests == [NAMES, [good, late, bad], [late, bad]]
    assert graph.materialized("tiffs") == set(NAMES) - {bad}
    assert f"tiffs/{bad}: batch request {production.created()[-1][0]} (DONE): FATAL: " in failure
    assert "out of memory" in failure and "1 failed" in failure
    assert [spending.actual for spending in production.spendings()] == [100.0, 100.0, 100.0]
    assert tile_store(graph.loaded).failures("tiffs").keys() == {bad}
    # The next run does not pay for it again by itself; asked to, it asks for that tile alone, and takes it.
    production.control.clear()
    [failure] = failures(graph.run("tiffs"))
    assert (
        f"asked for 3 times in vain (imagery.tries: 3), and not again before somebody says so: --rebuy {bad}" in failure
    )
    assert len(production.created()) == 3
    assert failures(graph.run("tiffs", rebuy=(bad,))) == []
    assert production.created()[-1][1] == [bad]


def test_scattered_tiles_are_ordered_together(twelve: Twelve) -> None:
    _, production = twelve()
    chosen = NAMES[::3]
    process = production.start("--only", "tiffs", *(word for name in chosen for word in ("-t", name)))
    assert process.wait(120) == 0, production.said(process)
    [(job, tiles)] = production.created()
    assert tiles == chosen and production.charged() == {job: 100.0}
    assert sorted(production.committed()) == chosen


def test_a_backfill_of_scattered_tiles_is_ordered_together(twelve: Twelve) -> None:
    """As the UI launches it: a run a range of neighbours. The first run orders for all of them."""
    graph, production = twelve()
    graph.run("tile_grid")
    key, chosen = dg.AssetKey(["fields", "tiffs"]), NAMES[::3]
    job = graph.definitions.resolve_implicit_global_asset_job_def()
    with partition_loading_context(dynamic_partitions_store=graph.instance):
        backfill = PartitionBackfill.from_partitions_by_assets(
            "scattered",
            graph.definitions.resolve_asset_graph(),
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=graph.instance,
            partitions_by_assets=[PartitionsByAssetSelector(asset_key=key, partitions=_ranges(chosen))],
            title=None,
            description=None,
            run_config=None,
        )
    graph.instance.add_backfill(backfill)
    for name in chosen:
        tags = {RANGE_START: name, RANGE_END: name, "dagster/backfill": "scattered"}
        assert job.execute_in_process(instance=graph.instance, asset_selection=[key], tags=tags).success
    [(request, tiles)] = production.created()
    assert tiles == chosen and production.charged() == {request: 100.0}
    assert sorted(production.committed()) == chosen


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_refusals_is_sat_out_and_counted(twelve: Twelve, seed: int) -> None:
    graph, production = twelve()
    production.control.set(
        throttle={"probability": 0.15, "seed": seed, "retry_after_ms": 50},
        errors={"probability": 0.15, "seed": seed + 100},
        slow_s=0.2,
    )
    assert failures(graph.run("tiffs")) == []
    assert graph.materialized("tiffs") == set(NAMES)
    assert len(production.started()) == 1 and len(production.charged()) >= 1
    assert sum(production.charged().values()) == 100.0
    [event] = graph.instance.fetch_observations(dg.AssetKey(["fields", "tiffs"]), limit=5).records
    told = {name: value.value for name, value in event.asset_observation.metadata.items()}
    struck = production.control.counts()
    assert told["throttled"] == struck["throttle.struck"] > 0
    assert told["retried"] >= told["throttled"]
    assert told["requests"] > 20


def test_tokens_that_are_revoked_and_short_lived_are_renewed(twelve: Twelve) -> None:
    _, production = twelve()
    production.control.set(token_lifetime_s=2, slow_s=0.4)
    process = production.start("--only", "tiffs")
    until(lambda: len(production.committed()) >= 2, "the first tiles")
    production.control.sign_in()
    production.control.add(revoke_tokens=True)
    assert process.wait(90) == 0, production.said(process)
    assert sorted(production.committed()) == NAMES


def test_a_service_that_dies_in_the_middle_of_a_job_is_waited_for(twelve: Twelve) -> None:
    graph, production = twelve()
    production.control.set(die_after_tiles=5, slow_s=0.2)
    assert failures(graph.run("tiffs")) == []
    production.control.restart()
    [(job, _)] = production.created()
    assert production.charged() == {job: 100.0}
    assert graph.materialized("tiffs") == set(NAMES)


def test_a_new_request_that_is_not_known_yet_and_a_lost_answer(twelve: Twelve) -> None:
    graph, production = twelve()
    production.control.set(hide_new_requests=3, lose_create_answer=1)
    assert failures(graph.run("tiffs")) == []
    [(job, _)] = production.created()
    assert production.started() == [job]
    assert [(spending.job, spending.actual) for spending in production.spendings()] == [(job, 100.0)]


def test_a_run_killed_between_the_creation_of_a_job_and_the_record_of_its_id(twelve: Twelve) -> None:
    graph, production = twelve({"budget": {"max_processing_units": 150}})
    listing = {"count": 100, "path": "/api/v2/batch/process", "method": "GET", "retry_after_ms": 1500}
    production.control.set(lose_create_answer=1, throttle=listing)  # the run can't find what it has made
    process = production.start("--only", "tiffs")
    until(lambda: production.created(), "a job whose creation is not answered")
    production.kill(process)
    production.control.clear()
    [order] = OrderBook(tile_store(graph.loaded).store, "tiffs/2020").all()
    assert (order.state, order.job) == ("intended", "")
    assert failures(graph.run("tiffs")) == []
    [(job, _)] = production.created()
    assert production.started() == [job]
    assert production.charged() == {job: 100.0}
    assert [(spending.job, spending.actual) for spending in production.spendings()] == [(job, 100.0)]


def test_rival_runs_and_a_retry_share_one_job(twelve: Twelve) -> None:
    """Two runs at once, one of them killed, a third by hand as a sensor's retry would be: one job, paid once."""
    graph, production = twelve({"budget": {"max_processing_units": 150}})
    production.control.set(slow_s=0.5)
    one, two = production.start("--only", "tiffs"), production.start("--only", "tiffs")
    until(lambda: len(production.committed()) >= 2, "the first tiles")
    production.kill(one)
    assert failures(graph.run("tiffs")) == []
    assert two.wait(90) == 0, production.said(two)
    [(job, _)] = production.created()
    assert production.started() == [job]
    assert production.charged() == {job: 100.0}
    assert [(spending.job, spending.actual) for spending in production.spendings()] == [(job, 100.0)]
    assert sorted(production.committed()) == NAMES


def test_two_runs_that_fit_alone_and_not_together(twelve: Twelve) -> None:
    _, production = twelve({"budget": {"max_processing_units": 150}})
    production.control.set(slow_s=0.4)
    one = production.start("--only", "tiffs", "-t", NAMES[0], "-t", NAMES[1])
    until(lambda: production.started(), "the first job")
    two = production.start("--only", "tiffs", "-t", NAMES[5])
    assert two.wait(90) == 1
    said = production.said(two)
    assert "budget.max_processing_units: 150" in said and "would cost about 100.0 processing units" in said
    assert "100.0 are spent or reserved already" in said
    assert one.wait(90) == 0, production.said(one)
    assert sum(production.charged().values()) == 100.0


def test_a_job_that_costs_more_than_the_budget_is_stopped_and_what_it_delivered_is_kept(twelve: Twelve) -> None:
    graph, production = twelve({"budget": {"max_processing_units": 150}})
    production.control.set(cost_factor=5000, slow_s=0.5)
    [failure] = failures(graph.run("tiffs"))
    kept = set(production.committed())
    assert 0 < len(kept) < 12
    assert graph.materialized("tiffs") == kept
    assert "it was stopped after" in failure and "budget.max_processing_units: 150" in failure
    [(job, _)] = production.created()
    [spending] = production.spendings()
    assert spending.actual == pytest.approx(production.charged()[job], abs=1e-3)
    assert spending.note == "STOPPED"


def test_an_account_without_units(twelve: Twelve) -> None:
    graph, production = twelve()
    production.control.set(balance=10)
    [failure] = failures(graph.run("tiffs"))
    assert production.created() == []
    assert "1000" in failure
    assert [spending.actual for spending in production.spendings()] == [0.0]


def test_a_job_that_runs_out_of_units_is_started_again_by_a_later_run(twelve: Twelve) -> None:
    graph, production = twelve()
    production.control.set(cost_factor=1000, out_of_units_after=20, slow_s=0.2)
    [failure] = failures(graph.run("tiffs"))
    assert "stopped, OUT_OF_PU; a later run starts it again" in failure
    assert 0 < len(production.committed()) < 12
    production.control.set()
    assert failures(graph.run("tiffs")) == []
    [(job, _)] = production.created()
    assert production.started() == [job, job]
    assert sorted(production.committed()) == NAMES


def test_no_data_is_an_empty_tile_all_the_way(twelve: Twelve) -> None:
    graph, production = twelve()
    production.control.set(empty_tiles=[NAMES[3]])
    assert failures(graph.run("features")) == []
    for stage in ("tiffs", "eopatches", "features"):
        record = production.committed(stage)[NAMES[3]]
        assert record.empty and record.reason == "the service says: No data"
    assert len(production.created()) == 1


def test_an_excluded_date_touches_only_the_tiles_that_used_it(twelve: Twelve) -> None:
    graph, production = twelve()
    assert failures(graph.run("features")) == []
    told = production.committed()[FIRST_ROW[0]].numbers
    assert told["acquisitions"] == ["2020-06-01", "2020-06-11", THIRD_DATE]
    assert told["processing_baselines"] == ["02.09", "05.00"]
    assert len(told["products"]) == 3
    before, asked = graph.commits(), len(production.calls("POST", ""))

    excluding, _ = twelve({"imagery": {"exclude": [THIRD_DATE]}})
    walk = tile_walk(excluding.loaded)
    stale = {tile.name for tile in excluding.tiles if not walk.state(walk.selected(["eopatches"])[0], tile).good}
    assert sorted(stale) == FIRST_ROW
    told = {status.asset: dict(status.states) for status in project_status(excluding.loaded)}
    assert told["eopatches"] == told["features"] == {"done": 9, "stale": 3}
    assert failures(excluding.run("features")) == []
    after = excluding.commits()
    remade = {key for key, record in after.items() if key not in before or before[key].attempt != record.attempt}
    assert remade == {(stage, name) for stage in ("eopatches", "features") for name in FIRST_ROW}
    assert after["eopatches", FIRST_ROW[0]].numbers["dates"] == 2
    assert len(production.calls("POST", "")) == asked  # nothing was asked of the service

    unknown, _ = twelve({"imagery": {"exclude": [{"date": THIRD_DATE, "tiles": ["30XXX_0_0"]}]}})
    [failure] = failures(unknown.run("features"))
    assert "imagery.exclude: 30XXX_0_0: the area has no tile of that name" in failure

    # One tile alone; and every date of a tile is an empty tile.
    only_one, _ = twelve({"imagery": {"exclude": [{"date": THIRD_DATE, "tiles": [FIRST_ROW[1]]}]}})
    states = {tile.name: walk_state(only_one, tile) for tile in only_one.tiles}
    assert sorted(name for name, good in states.items() if not good) == [FIRST_ROW[0], FIRST_ROW[2]]
    nothing, _ = twelve({"imagery": {"exclude": ["2020-06-01", "2020-06-11"]}})
    assert failures(nothing.run("features")) == []
    assert production.committed("features")[NAMES[0]].numbers["dates" if NAMES[0] in FIRST_ROW else "bytes"]
    empty = {name for name, record in production.committed("features").items() if record.empty}
    assert empty == set(NAMES) - set(FIRST_ROW)


def walk_state(graph: Any, tile: Any) -> bool:
    walk = tile_walk(graph.loaded)
    return bool(walk.state(walk.selected(["eopatches"])[0], tile).good)


def test_a_person_lists_stops_and_forgets_an_order(twelve: Twelve) -> None:
    _, production = twelve()

    def orders(*arguments: str) -> str:
        return CliRunner().invoke(main, ["orders", str(production.loaded.file), *arguments]).output

    assert orders() == "no order is open\n"
    production.control.set(slow_s=12)
    process = production.start("--only", "tiffs")
    until(lambda: production.started() and len(production.committed()) >= 1, "the first tile")
    [(job, _)] = production.created()
    assert f"started  local  job {job}  12 tiles, about 100.0 units" in orders()
    assert orders("--stop", job).startswith(f"batch request {job} was asked to stop: ")
    assert process.wait(60) == 1
    assert "stopped by somebody; --rebuy with one of its tiles starts it again" in production.said(process)
    assert "stopped" in orders()
    assert "is ended; its tiles are ordered again" in orders("--forget", job)
    assert orders() == "no order is open\n"
    assert [spending.actual for spending in production.spendings()] == [100.0]
    refused = CliRunner().invoke(main, ["orders", str(production.loaded.file), "--stop", job])
    assert refused.exit_code == 2
