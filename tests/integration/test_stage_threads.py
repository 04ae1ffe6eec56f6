"""A stage works on one thread, for it asks Ray for one CPU: Blosc, GDAL, numba and BLAS would take all there are."""

from __future__ import annotations

from pathlib import Path

from eo_assets.stages.build import TILE_STAGES, tile_walk
from tests.benchmarks.stage_memory import STAGES, in_a_process, train, write_delivery


def test_no_stage_works_on_more_threads_than_it_asks_for(tmp_path: Path) -> None:
    """Pools of threads stay when their work is done, so they are there to be counted, however short it was."""
    loaded = write_delivery(tmp_path, side=420, dates=6)
    assert all(stage.cpus <= 1 for stage in tile_walk(loaded).stages)
    for stage in STAGES:
        if stage == "predictions":
            train(loaded)
        found = in_a_process(tmp_path, loaded, stage)
        assert found["threads_started"] == 0, found
        assert found["of_other_threads"] <= 0.02 + 0.05 * found["cpu_seconds"], found
    assert set(TILE_STAGES) <= set(STAGES)
