"""After an adoption `eo-assets run` goes on: nothing is ordered, and what is made equals what a bought run makes."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eo_assets.command_adopt import adopt, succeeded
from eo_assets.status import project_status
from resources.object_store import checksum


def ordered(world: Path) -> list[str]:
    """The calls of the service's Batch and Process APIs, from its own log."""
    log = world / "sentinel-hub/requests.jsonl"
    calls = [json.loads(line)["path"] for line in log.read_text().splitlines()] if log.exists() else []
    return [path for path in calls if "/batch" in path or "/process" in path]


def failures(results: list[Any]) -> list[str]:
    return [result.failure for result in results if not result.success]


def test_adopted_tiffs_are_gone_on_with_up_to_the_map(
    fields: Any, world: Path, tmp_path: Path, graph_in: Callable[..., Any]
) -> None:
    made = tmp_path / "eo-grow/tiffs"
    for tile in fields.tiles:
        shutil.copytree(fields.store.live("tiffs", tile.name), made / tile.name)
    graph = graph_in(world)
    taken = adopt(str(graph.loaded.file), made)
    assert succeeded(taken) and len(taken) == len(fields.tiles)
    assert not (world / "sentinel-hub/requests.jsonl").exists(), "an adoption asks no service"

    assert failures(graph.run()) == []
    assert ordered(world) == []
    # The same bytes under the same settings: every digest is that of the run that bought them.
    mine, theirs = graph.commits(), fields.commits()
    assert mine.keys() == theirs.keys()
    for place, record in mine.items():
        if place[0] not in ("byoc_collection",):
            assert record.digest == theirs[place].digest, place
    for tile in fields.tiles:
        folders = [side.store.live("predictions", tile.name) for side in (graph, fields)]
        assert len({checksum(folder) for folder in folders}) == 1
    event = graph.instance.get_latest_materialization_event(_key(graph, "tiffs"))
    assert event.asset_materialization.metadata["adopted"].value.startswith(str(made))
    status = {asset.asset: asset for asset in project_status(graph.loaded)}
    assert status["tiffs"].adopted == len(fields.tiles) and all(asset.complete for asset in status.values())


def test_adopted_eopatches_are_gone_on_with_and_no_imagery_is_bought(
    fields: Any, world: Path, tmp_path: Path, graph_in: Callable[..., Any]
) -> None:
    made = tmp_path / "eo-grow/data"
    for number, tile in enumerate(fields.tiles):
        eopatch = fields.load("eopatches", tile.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `fs` warns of its own old ways
            eopatch.save(str(made / f"eopatch-id-{number}-col-0-row-{number}"))
    assert list(made.rglob("BANDS.npy.gz"))
    graph = graph_in(world)
    assert succeeded(adopt(str(graph.loaded.file), made))

    assert failures(graph.run("samples")) == []
    assert ordered(world) == []
    for tile in fields.tiles:
        for stage in ("eopatches", "features", "samples"):
            mine, theirs = (side.store.live(stage, tile.name) for side in (graph, fields))
            assert checksum(mine) == checksum(theirs), (stage, tile.name)
    assert graph.materialized("tiffs") == graph.materialized("features") == {tile.name for tile in fields.tiles}
    before = graph.commits()
    assert {adopted.ending for adopted in adopt(str(graph.loaded.file), made)} == {"kept"}
    assert graph.commits() == before


def _key(graph: Any, asset: str) -> Any:
    return next(key for key in graph.definitions.resolve_all_asset_keys() if key.path[-1] == asset)
