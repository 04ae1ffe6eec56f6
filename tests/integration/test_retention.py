"""A project that does not keep all its pixels: what goes when, what comes back by itself, what only a person buys."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eo_assets.assets.imagery import project_ledger
from eo_assets.cli import main
from eo_assets.status import project_status
from resources.output_record import OutputRecord

TILES = ["32633_x00782_y09062", "32633_x00782_y09063", "32633_x00783_y09062", "32633_x00783_y09063"]
UNTIL = {
    "tiffs": {"until": "features"},
    "eopatches": {"until": "features"},
    "features": {"until": "maps"},
    "samples": {"until": "training_data"},
}


def keeping(retention: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"storage": {"retention": retention}, **changes}


def failures(results: list[Any]) -> list[str]:
    return [result.failure for result in results if not result.success]


def gone(graph: Any) -> dict[str, set[str]]:
    """The tiles without pixels, by stage; each is checked to be as its record says."""
    found: dict[str, set[str]] = {}
    for (stage, tile), record in graph.commits().items():
        assert graph.store.there(record) != bool(record.retired), (stage, tile)
        if record.retired:
            found.setdefault(stage, set()).add(tile)
    return found


def digests(graph: Any) -> dict[Any, str]:
    return {place: record.digest for place, record in graph.commits().items()}


def spent(graph: Any) -> int:
    return sum(len(month.spendings) for month in project_ledger(graph.loaded).months().values())


def test_pixels_go_when_what_is_made_of_them_is_there_and_nothing_is_made_twice(
    world: Path, graph_in: Callable[..., Any]
) -> None:
    graph = graph_in(world, keeping(UNTIL))
    assert failures(graph.run()) == []
    assert gone(graph) == {stage: set(TILES) for stage in UNTIL}
    assert not list(world.glob("tiffs/2020/*/3*/*.tif")), "nothing of what was delivered lies there any more"
    before = graph.commits()
    assert graph.run() == [], "a second run launches nothing"
    assert graph.commits() == before
    states = {status.asset: status for status in project_status(graph.loaded)}
    assert dict(states["tiffs"].states) == {"retired": 4}
    assert (states["tiffs"].bytes, dict(states["tiffs"].reasons)) == (0, {})
    assert all(status.complete for status in states.values())


def test_a_changed_index_tells_what_its_pixels_cost_and_buys_them_when_a_person_says_so(
    world: Path, graph_in: Callable[..., Any]
) -> None:
    assert failures(graph_in(world, keeping({"tiffs": UNTIL["tiffs"], "eopatches": UNTIL["eopatches"]})).run()) == []
    changed = keeping(UNTIL, features={"indices": {"NDVI": ["B08", "B04"], "NDBI": ["B11", "B08"]}})
    graph = graph_in(world, changed)
    warned = {status.asset: status.reasons for status in project_status(graph.loaded)}["features"]
    assert set(warned) == set(TILES) and all("bought and are gone" in why for why in warned.values())
    before, paid = graph.commits(), spent(graph)
    (told,) = failures(graph.run("features"))
    assert "4 failed, 0 blocked behind them" in told
    assert f"features of {TILES[0]} needs pixels that were bought and are gone: tiffs (retired on" in told
    assert "processing units for tiffs" in told
    assert f"run it with --rebuy {TILES[0]}: that quotes first" in told
    assert "CPU seconds for tiffs, eopatches" in told
    assert (graph.commits(), spent(graph)) == (before, paid)
    assert failures(graph.run("features", rebuy=(TILES[0],)))
    assert spent(graph) == paid + 1
    remade = {tile for stage, tile in graph.commits() if before[stage, tile].digest != digests(graph)[stage, tile]}
    assert remade == {TILES[0]}, "of the tile that was named, and of no other"
    assert failures(graph.run(rebuy=("all",))) == []
    assert spent(graph) == paid + 2
    assert {digests(graph)["tiffs", tile] for tile in TILES} == {before["tiffs", tile].digest for tile in TILES}


def test_a_new_model_has_the_free_pixels_that_it_needs_back(world: Path, graph_in: Callable[..., Any]) -> None:
    retention = {"features": {"until": "predictions"}, "samples": {"until": "training_data"}}
    assert failures(graph_in(world, keeping(retention)).run()) == []
    graph = graph_in(world, keeping(retention, model={"parameters": {"n_estimators": 9}}))
    before, paid = graph.commits(), spent(graph)
    assert gone(graph) == {"features": set(TILES), "samples": set(TILES)}
    assert failures(graph.run()) == []
    after = graph.commits()
    changed = {stage for stage, tile in after if after[stage, tile].digest != before[stage, tile].digest}
    assert changed == {"model", "predictions", "maps", "byoc_collection"}
    assert after["samples", TILES[0]] == before["samples", TILES[0]], "the table is as it was, so nobody needs them"
    assert gone(graph) == {"features": set(TILES), "samples": set(TILES)}, "and they went again"
    assert spent(graph) == paid


def test_a_table_of_more_tiles_has_the_samples_of_the_others_back(world: Path, graph_in: Callable[..., Any]) -> None:
    retention = {"samples": {"until": "training_data"}}
    assert failures(graph_in(world, keeping(retention, sampling={"tiles": TILES[:3]})).run("model")) == []
    graph = graph_in(world, keeping(retention, sampling={"tiles": "all"}))
    before = graph.commits()
    assert gone(graph) == {"samples": set(TILES[:3])}
    assert failures(graph.run("model")) == []
    after = graph.commits()
    assert set(after["training_data", "training_data"].inputs) == set(TILES)
    assert {tile: after["samples", tile].digest for tile in TILES[:3]} == {
        tile: before["samples", tile].digest for tile in TILES[:3]
    }
    assert gone(graph) == {"samples": set(TILES)}


def test_a_person_lets_old_predictions_go_and_a_new_map_has_them_back(
    world: Path, graph_in: Callable[..., Any]
) -> None:
    retention = keeping({"predictions": {"days": 30}})
    graph = graph_in(world, retention)
    assert failures(graph.run()) == []
    assert gone(graph) == {}
    for tile in TILES:
        _age(graph, graph.store.record("predictions", tile))
    project = str(graph.loaded.file)
    told = CliRunner().invoke(main, ["retire", project])
    assert "predictions  30 days\nwould be retired: 4 predictions (" in told.output
    assert "nothing was deleted; --yes does it" in told.output
    assert gone(graph) == {}
    done = CliRunner().invoke(main, ["retire", project, "--yes"])
    assert done.exit_code == 0, done.output
    assert "retired: 4 predictions (" in done.output
    assert gone(graph) == {"predictions": set(TILES)}
    assert graph.run() == []
    graph = graph_in(world, {**retention, "maps": {"cog": {"compress": "zstd"}}})
    before = digests(graph)
    assert failures(graph.run("maps")) == []
    after = digests(graph)
    assert {place[0] for place in after if after[place] != before[place]} == {"maps"}
    assert gone(graph) == {}, "made anew today"


def test_what_was_never_used_is_not_let_go(world: Path, graph_in: Callable[..., Any]) -> None:
    graph = graph_in(world, keeping({"eopatches": {"days": 1}, "features": {"until": "maps"}}))
    assert failures(graph.run("eopatches")) == []
    for tile in TILES:
        _age(graph, graph.store.record("eopatches", tile))
    CliRunner().invoke(main, ["retire", str(graph.loaded.file), "--yes"])
    assert gone(graph) == {}, "old enough, and no features yet"
    assert failures(graph.run("predictions")) == []
    assert gone(graph) == {"eopatches": set(TILES)}, "and the features wait for the map"


def test_a_project_that_keeps_everything_says_so(copied: Callable[..., Any]) -> None:
    told = CliRunner().invoke(main, ["retire", str(copied().loaded.file)])
    assert "storage.retention keeps everything; give a stage until or days first" in told.output


def test_a_torn_record_is_one_failed_tile_and_not_a_failed_run(world: Path, graph_in: Callable[..., Any]) -> None:
    graph = graph_in(world, keeping({"samples": {"until": "training_data"}}))
    assert failures(graph.run("model")) == []
    graph.store.store.put(f"features-sampled/2020/_commits/{TILES[1]}.json", b"{torn")
    (told,) = failures(graph.run("samples"))
    assert "1 failed, 0 blocked behind them; every other tile is done" in told
    assert "not a commit record" in told


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def _age(graph: Any, record: OutputRecord) -> None:
    """As if it had been made years ago."""
    assert graph.store.replace(record, dataclasses.replace(record, created="2020-01-01T00:00:00+00:00"))
