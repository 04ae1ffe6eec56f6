"""A run that is cancelled: its tasks end on the workers within seconds, and nothing half-written is ever committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from resources.local_folder import LocalFolder
from resources.tile_store import TileStore
from tests.integration.production import ROOT, until

SCRIPT = """
import sys, time
from pathlib import Path
import dagster as dg
from eo_assets.assets.tile_run import TilePlan, run_tiles
from eo_assets.core.tile import Bounds, Tile
from eo_assets.stages.walk import Walk
from resources.local_folder import LocalFolder
from resources.ray_cluster import RayCluster
from resources.tile_store import TileStore
from tests.integration.test_graph_workers import witness

def slow():
    class Slow(type(witness())):
        def run(self, tile, inputs, output):
            import os, time
            (output / "half-written").write_bytes(b"x" * 1000)
            (Path(folder) / f"pid-{os.getpid()}").touch()
            time.sleep(600)
    return Slow()

folder = sys.argv[1]
store = TileStore(LocalFolder(Path(folder)), "cancelled", {"witness": "witness"})

@dg.asset
def tiles(context):
    walk = Walk((slow(),), store)
    plan = TilePlan((), tuple(Tile(f"tile_{n}", 32633, Bounds(0, 0, 640, 640), 10) for n in range(8)), ())
    for outcome in run_tiles(walk, plan, ["witness"], RayCluster(workers=2).map_tiles, None):
        pass

if __name__ == "__main__":
    import ray.cloudpickle, tests.integration.test_graph_workers as helper
    ray.cloudpickle.register_pickle_by_value(helper)
    try:
        dg.materialize([tiles], raise_on_error=False)
    finally:
        print("left at", time.time(), flush=True)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_stops_its_tasks(tmp_path: Path, stop: signal.Signals) -> None:
    """The UI cancels a run by an interrupt; a machine that shuts down ends it with SIGTERM."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(tmp_path)]
    with (tmp_path / "said.txt").open("wb") as said:
        run = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True
        )
    try:
        until(lambda: len(list(tmp_path.glob("pid-*"))) == 2 or run.poll() is not None, "two tasks", 240)
        pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
        assert all(map(psutil.pid_exists, pids)), (tmp_path / "said.txt").read_text()
        sent = time.time()
        run.send_signal(stop)
        until(lambda: not any(_runs(pid) for pid in pids), "the tasks' end", 60)
        print(f"{stop.name}: tasks ended after {time.time() - sent:.1f} s")
        run.wait(90)
        print(f"{stop.name}: the run ended after {time.time() - sent:.1f} s")
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    assert len(list(tmp_path.glob("pid-*"))) == 2, "what was queued has not started meanwhile"
    assert TileStore(LocalFolder(tmp_path), "cancelled", {"witness": "witness"}).records("witness") == {}


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
