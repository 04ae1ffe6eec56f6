"""Tiles run on workers: in processes of their own, which import neither Dagster nor eo-learn."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from eo_assets.assets.tile_run import needs
from eo_assets.core.tile import Bounds, Tile
from eo_assets.stages.stage import StageResult, TileInputs
from eo_assets.stages.walk import TileWork, Walk
from resources.local_folder import LocalFolder
from resources.ray_cluster import RayCluster
from resources.tile_store import TileStore


def witness() -> Any:
    """A stage that tells of the process it runs in. Made in a function, so that it travels to workers by value."""

    class Witness:
        name: ClassVar[str] = "witness"
        inputs: ClassVar[tuple[str, ...]] = ()
        shared_inputs: ClassVar[tuple[str, ...]] = ()
        code_version: ClassVar[str] = "1"
        paid: ClassVar[bool] = False
        source: ClassVar[bool] = False
        cpus: ClassVar[float] = 1.0

        def memory_bytes(self, tile: Tile) -> int:
            return 1 << 20

        def settings(self, tile: Tile) -> Mapping[str, Any]:
            return {}

        def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
            heavy = [module for module in ("dagster", "eolearn") if module in sys.modules]
            return StageResult({"pid": os.getpid(), "parent": os.getppid(), "heavy": heavy})

    return Witness()


def test_tiles_run_in_other_processes_that_stay_light(tmp_path: Path, fields: Any) -> None:
    """The same workers have walked the tiles of a whole graph before."""
    store = TileStore(LocalFolder(tmp_path), "workers", {"witness": "witness"})
    walk = Walk((witness(),), store)
    tiles = [Tile(f"tile_{index}", 32633, Bounds(0, 0, 640, 640), 10) for index in range(6)]
    work = iter([TileWork(tile, ("witness",)) for tile in tiles])
    finished = [item for item in RayCluster(workers=2).map_tiles(walk, work, lambda w: needs(walk, w)) if item]
    assert sorted(item.work.tile.name for item in finished) == [tile.name for tile in tiles]
    numbers = [item.result[0].record.numbers for item in finished]
    assert os.getpid() not in {said["pid"] for said in numbers} | {said["parent"] for said in numbers}
    assert [said["heavy"] for said in numbers] == [[]] * len(tiles)
    assert set(store.records("witness")) == {tile.name for tile in tiles}
