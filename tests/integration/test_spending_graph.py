"""What whole runs spend: refused before anything starts, approved, settled by what the service charged, never twice."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from eo_assets.assets.imagery import APPROVAL_TAG, project_ledger
from eo_assets.cli import main
from eo_assets.command_spend import quote_rebuy
from eo_assets.core.cost import processing_units
from eo_assets.core.spendings import Month, Spending
from eo_assets.definitions import build_definitions
from eo_assets.stages.build import tile_walk
from jobs.launches import RANGE_END, RANGE_START, Launcher, LaunchResult, Request
from resources.local_sentinel_hub.server import stop
from resources.ray_cluster import RayCluster, in_this_process
from tests.integration.conftest import Graph, graph_of, write_project, write_world

TILES = ["32633_x00782_y09062", "32633_x00782_y09063", "32633_x00783_y09062", "32633_x00783_y09063"]
STAGES = ("tiffs", "reference", "eopatches", "features", "samples", "predictions")
LABELS = """//VERSION=3
function setup() {
  return {input: ["CODE", "dataMask"], output: {bands: 1, sampleType: "UINT8"}};
}
function evaluatePixel(s) { return [s.dataMask ? s.CODE : 0]; }
"""
BOUGHT: dict[str, Any] = {
    "reference": {
        "source": {
            "kind": "collection",
            "evalscript": "labels.js",
            "collection": {"collection": "land-cover", "service": "local"},
        }
    }
}
"""Labels by Process requests of a second collection, instead of polygons."""

ONE_TILE = processing_units([(72, 72)], 1, 1, mode="process")


def world_with_labels(folder: Path) -> Path:
    """A world whose service has the land cover as a collection too."""
    write_world(folder)
    (folder / "labels.js").write_text(LABELS)
    shutil.copy(folder / "input-data/cover.tif", folder / "sentinel-hub/cover.tif")
    path = folder / "sentinel-hub/collections.yaml"
    declared = yaml.safe_load(path.read_text())
    bands = {"CODE": {"sample_type": "UINT8", "nodata": 0}}
    scene = {"time": "2020-06-01T00:00:00Z", "files": {"CODE": "cover.tif"}}
    declared["collections"].append({"type": "land-cover", "bands": bands, "scenes": [scene]})
    path.write_text(yaml.safe_dump(declared))
    return folder


def calls(folder: Path, method: str = "POST", path_end: str = "") -> list[dict[str, Any]]:
    """Those of the service's own log, oldest first."""
    log = folder / "sentinel-hub/requests.jsonl"
    found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [call for call in found if call["method"] == method and call["path"].endswith(path_end)]


def month_of(graph: Graph) -> Month:
    ledger = project_ledger(graph.loaded)
    return ledger.months().get(ledger.month(), Month())


def spendings(graph: Graph) -> list[Spending]:
    return sorted(month_of(graph).spendings.values(), key=lambda spending: spending.id)


def failures(results: list[LaunchResult]) -> list[str]:
    return [result.failure for result in results if not result.success]


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Iterator[Graph]:
    """Imagery and labels bought once, and everything up to the predictions. Read only."""
    folder = world_with_labels(tmp_path_factory.mktemp("bought"))
    graph = graph_of(write_project(folder, BOUGHT))
    assert failures(graph.run("predictions")) == []
    yield graph
    stop(folder / "sentinel-hub")


@pytest.fixture
def again(bought: Graph, tmp_path: Path) -> Iterator[Callable[..., Graph]]:
    """A copy of what was bought, with changes to its project file, in an instance that has seen nothing."""
    source = Path(bought.loaded.project_folder)
    stop(source / "sentinel-hub")  # so that its database is copied whole; it starts again when it is asked
    folder = tmp_path / "again"
    shutil.copytree(source, folder)
    yield lambda changes=None: graph_of(write_project(folder, {**BOUGHT, **(changes or {})}))
    stop(folder / "sentinel-hub")


# Before anything starts


def test_over_budget_nothing_is_started(world: Path, graph_in: Callable[..., Graph]) -> None:
    graph = graph_in(world, {"budget": {"max_processing_units": 99}})
    month = project_ledger(graph.loaded).month()
    assert failures(graph.run("eopatches")) == [
        f"{world}/project.yaml: budget.max_processing_units: 99: this run (4 tiles) would cost about 100.0 processing "
        f"units in {month}; nothing was started for it. Raise the limit, or ask for fewer tiles (-t)"
    ]
    assert calls(world, path_end="/batch/process") == []
    assert spendings(graph) == []
    assert graph.store.records("tiffs") == {}


def test_what_nobody_has_approved_waits_and_what_the_run_brings_is_recorded(
    world: Path, graph_in: Callable[..., Graph]
) -> None:
    graph = graph_in(world, {"budget": {"require_approval": True}})
    (failure,) = failures(graph.run("tiffs"))
    assert "budget.require_approval: true: this run (4 tiles) would cost about 100.0 processing units" in failure
    assert f"`eo-assets approve {world}/project.yaml --units 100` (or more)" in failure
    assert calls(world, path_end="/batch/process") == []
    refused = launch(graph, {APPROVAL_TAG: "99.5", "user": "jane"})
    assert not refused.success
    assert calls(world, path_end="/batch/process") == []
    launched = launch(graph, {APPROVAL_TAG: "150", "user": "jane"})
    assert launched.success
    assert len(calls(world, path_end="/batch/process")) == 1
    (spending,), (short, approval) = spendings(graph), month_of(graph).approvals
    assert (short.id, short.units) == (f"run-{refused.run_id}", 99.5)
    assert (approval.id, approval.user, approval.units) == (f"run-{launched.run_id}", "jane", 150)
    assert approval.created <= spending.created
    assert (spending.approval, spending.actual, spending.tiles) == (approval.id, 100.0, 4)
    assert month_of(graph).left_of(approval) == 50


def launch(graph: Graph, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
    """A run of all tiffs as the UI would launch it."""
    return graph.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=graph.instance,
        asset_selection=[dg.AssetKey(["fields", "tiffs"])],
        tags={RANGE_START: TILES[0], RANGE_END: TILES[-1], **tags},
        raise_on_error=False,
    )


def test_an_approval_lets_it_through(again: Callable[..., Graph]) -> None:
    """Nothing has to be approved for what is not bought again; what is, waits for `Ledger.approve`."""
    graph = again({"budget": {"require_approval": True}, "sampling": {"seed": 7}})
    folder = Path(graph.loaded.project_folder)
    log = (folder / "sentinel-hub/requests.jsonl").read_bytes()
    assert failures(graph.run("samples")) == []
    assert (folder / "sentinel-hub/requests.jsonl").read_bytes() == log
    graph.store.store.path(f"raster-reference/_commits/{TILES[1]}.json").unlink()
    (failure,) = failures(graph.run("reference"))
    assert f"would cost about {ONE_TILE:,.1f} processing units and nobody has approved that" in failure
    approval = project_ledger(graph.loaded).approve(5, "joe")
    assert failures(graph.run("reference")) == []
    newest = max(spendings(graph), key=lambda spending: spending.created)
    assert (newest.kind, newest.tiles, newest.approval) == ("process", 1, approval.id)
    assert (approval.user, approval.units) == ("joe", 5)


def test_a_used_up_budget_stops_nothing_that_is_free(again: Callable[..., Graph]) -> None:
    graph = again({"budget": {"max_processing_units": 1}, "sampling": {"seed": 7}})
    assert failures(graph.run("samples")) == []


# What it cost


def test_labels_are_reserved_and_settled_with_what_the_service_charged(bought: Graph) -> None:
    folder = Path(bought.loaded.project_folder)
    charged = [call["units"] for call in calls(folder, path_end="/api/v1/process")]
    assert len(charged) == len(TILES)
    batch, process = spendings(bought)
    assert (process.kind, process.service, process.tiles) == ("process", "local", 4)
    assert process.estimate == process.reserved == pytest.approx(4 * ONE_TILE)
    assert process.actual == pytest.approx(sum(charged), abs=1e-4)
    told = [record.numbers["processing_units"] for record in bought.store.records("reference").values()]
    assert process.actual == pytest.approx(sum(told), abs=1e-4)
    assert (batch.kind, batch.estimate, batch.actual) == ("batch", 100, 100)
    assert batch.job == calls(folder, path_end="/batch/process")[0]["request"]


def test_labels_whose_run_died_count_as_estimated(again: Callable[..., Graph]) -> None:
    graph = again()
    ledger = project_ledger(graph.loaded)
    ledger.reserve(Spending("process-dead", "process", "local", 4, 3.5, 3.5), "labels")
    graph.store.store.path(f"raster-reference/_commits/{TILES[0]}.json").unlink()
    assert failures(graph.run("reference")) == []
    dead = month_of(graph).spendings["process-dead"]
    assert (dead.actual, dead.note) == (3.5, "its run ended without a word: counted as estimated")


def test_the_estimate_of_every_stage_and_tile(bought: Graph) -> None:
    assert failures(bought.run("cost_estimate")) == []
    folder = bought.store.live("cost_estimate", "cost_estimate")
    with (folder / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["tile"], row["epsg"], row["height"], row["width"]) for row in rows] == [
        (name, "32633", "72", "72") for name in TILES
    ]
    summary = json.loads((folder / "summary.json").read_text())
    tiffs, reference = summary["quote"]
    for line in (tiffs, reference):
        single = sum(float(row[line["stage"]]) for row in rows)
        assert single + line["of_it_to_reach_the_minimum"] == pytest.approx(line["processing_units"], abs=0.01)
    assert (tiffs["processing_units"], tiffs["bands"], tiffs["dates"], tiffs["mode"]) == (100, 3, 2, "batch")
    assert summary["processing_units"] == pytest.approx(100 + 4 * ONE_TILE, abs=0.01)
    event = bought.instance.get_latest_materialization_event(dg.AssetKey(["fields", "cost_estimate"]))
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert metadata["processing_units"] == summary["processing_units"]
    assert metadata["processing_units_by_stage"] == {"tiffs": 100, "reference": pytest.approx(4 * ONE_TILE, abs=0.01)}
    assert metadata["note"] == summary["note"] == "formula not verified against an invoice"
    table = event.asset_materialization.metadata["by_stage"]
    by_stage = {record.data["stage"]: record.data for record in table.records}
    assert list(by_stage) == ["tiffs", "eopatches", "features", "reference", "predictions", "maps"]
    assert by_stage["tiffs"]["processing_units"] == 100 and by_stage["maps"]["processing_units"] == 0
    assert metadata["by_tile"].splitlines()[2].startswith(f"| {TILES[0]} | 32633 | 72 | 72 |")


def test_the_catalog_counts_the_dates_of_a_tile(bought: Graph) -> None:
    told = CliRunner().invoke(main, ["plan", str(bought.loaded.file), "--catalog", "--json"], catch_exceptions=False)
    found = json.loads(told.stdout)["observations"]
    # Two dates a tile; an order of all of them is still the smallest that the service takes.
    assert found == {"least": 2, "median": 2.0, "most": 2, "processing_units_if_all_are_read": 100.0}
    assert len(calls(Path(bought.loaded.project_folder), path_end="/search")) == 1


# Bought again, or never


def test_two_of_four_stale_tiles_are_quoted_and_bought_again(again: Callable[..., Graph]) -> None:
    graph = again({"imagery": {"time_interval": ["2020-06-01", "2020-06-05"]}})
    folder, named = Path(graph.loaded.project_folder), (TILES[0], TILES[2])
    before, created = graph.store.records("tiffs"), calls(folder, path_end="/batch/process")
    said = io.StringIO()
    assert quote_rebuy(str(graph.loaded.file), named, Console(file=said, width=200))
    assert said.getvalue().splitlines() == [
        f"tiffs of 2 tiles: {TILES[0]}, {TILES[2]}",
        "tiffs: 2 tiles, about 100.0 PU of local by batch, 99.9 of it to reach the least price of a request",
    ]
    assert graph.store.records("tiffs") == before, "a quote buys nothing"
    launcher = Launcher(graph.loaded, graph.definitions, graph.instance)
    assert failures(list(launcher.run(Request(("tiffs",), rebuy=named)))) == []
    (order,) = calls(folder, path_end="/batch/process")[len(created) :]
    assert sorted(order["tiles"]) == list(named)
    after = graph.store.records("tiffs")
    assert {name for name in TILES if after[name].attempt != before[name].attempt} == set(named)
    assert [after[name].numbers["dates"] for name in TILES] == [1, 2, 1, 2]
    walk = tile_walk(graph.loaded)
    states = {tile.name: walk.state(walk.selected(["tiffs"])[0], tile).status for tile in graph.tiles}
    assert states == {TILES[0]: "up_to_date", TILES[1]: "kept", TILES[2]: "up_to_date", TILES[3]: "kept"}
    assert [spending.actual for spending in spendings(graph) if spending.kind == "batch"] == [100, 100]
    assert not quote_rebuy(str(graph.loaded.file), named, Console(file=said, width=200))


class Here(RayCluster):
    """Tiles one after the other in this process, which alone knows of the new code versions."""

    def map_tiles(self, function: Any, work: Any, needs: Any, limits: Any = None, usage: Any = None) -> Any:
        return in_this_process(function, work)


def test_new_code_versions_ask_the_service_for_nothing(
    again: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = again()
    for stage in tile_walk(graph.loaded).stages:
        monkeypatch.setattr(type(stage), "code_version", "2000")
    graph = dataclasses.replace(graph, definitions=build_definitions(graph.projects, ray_cluster=Here()))
    log = Path(graph.loaded.project_folder) / "sentinel-hub/requests.jsonl"
    before, asked, spent = graph.commits(), log.read_bytes(), spendings(graph)
    assert failures(graph.run("predictions")) == []
    after = graph.commits()
    remade = {(stage, key) for stage, key in after if before[stage, key].attempt != after[stage, key].attempt}
    unpaid = {stage for stage in STAGES if stage not in ("tiffs", "reference")}
    assert {place for place in remade if place[0] in STAGES} == {(stage, name) for stage in unpaid for name in TILES}
    assert log.read_bytes() == asked
    assert spendings(graph) == spent
