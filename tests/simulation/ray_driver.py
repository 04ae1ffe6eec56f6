"""A run's driver on a Ray cluster's head: `python -m tests.simulation.ray_driver ADDRESS FOLDER TILES MACHINES MIB`.

Each tile asks for a CPU and MIB of memory, notes in FOLDER that it has started, and where, and is done once tiles have
started on so many MACHINES, or where MACHINES is 0 or -1, once FOLDER has a file `go`. A file `lost` names machines
that were switched off: a tile of theirs comes back before Ray gives them up, which is waited for at the end. What
happens is said line by line, as JSON; with -1 the cluster is asked nothing between tiles: a question to a head that has
ended would end this process with it.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from eo_assets.errors import TransientError
from resources.ray_cluster import RayCluster, TaskLimits, WorkerNeeds
from resources.run_usage import RunUsage

LONGEST_SECONDS = 150


def tile(folder: Path, machines: int, name: int) -> str:
    """The node id of the worker."""
    import ray

    node = str(ray.get_runtime_context().get_node_id())
    with (folder / f"{name}.started").open("a") as file:
        file.write(node + "\n")
    deadline = time.monotonic() + LONGEST_SECONDS
    while not _may_end(folder, machines):
        if time.monotonic() > deadline:
            raise TimeoutError(f"only on {started_on(folder)}")
        time.sleep(0.1)
    with (folder / f"{name}.done").open("a") as file:
        file.write(node + "\n")
    return node


def started_on(folder: Path) -> set[str]:
    """The nodes on which any tile has started."""
    return {line for file in folder.glob("*.started") for line in file.read_text().split()}


def _may_end(folder: Path, machines: int) -> bool:
    return len(started_on(folder)) >= machines if machines > 0 else (folder / "go").exists()


def workers_alive() -> list[str]:
    """The node ids of what has CPUs now."""
    import ray

    return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))


def draining() -> list[str]:
    """The node ids of what gets no new tasks."""
    from ray._private.state import state

    return sorted(state.get_draining_nodes())


def run(address: str, folder: Path, tiles: int, machines: int, mib: int) -> None:
    """All tiles; then until what is drained is gone, and where machines were to come, the last of them."""
    asked: list[int] = []

    def work() -> Iterator[int]:
        for name in range(tiles):
            asked.append(name)
            yield name

    needs = WorkerNeeds(1.0, mib << 20, "features", "features")
    done, usage = 0, RunUsage()
    cluster = RayCluster(mode="address", address=address)
    before = ""
    for found in cluster.map_tiles(
        functools.partial(tile, folder, machines), work(), lambda item: needs, TaskLimits(backoff_s=0.1), usage
    ):
        if found is not None:
            done += 1
            say(tile=found.work, node=found.result, error=found.error)
        if machines < 0:
            continue
        state = json.dumps({"workers": workers_alive(), "draining": draining(), "in_flight": len(asked) - done})
        if state != before:
            print(state, flush=True)
        before = state
    say(
        usage={"tries": usage.tries, "lost": usage.tries_lost},
        seconds=[usage.cpu_seconds, usage.cpu_seconds_lost],
        machines=[[one.instance_type, one.spot, one.hours] for one in usage.hours()],
    )
    lost = set((folder / "lost").read_text().split()) if (folder / "lost").exists() else set()
    while machines >= 0 and (draining() or lost & set(workers_alive()) or (machines and workers_alive())):
        time.sleep(0.5)
    say(ended=True, workers=workers_alive() if machines >= 0 else [])


def say(**told: object) -> None:
    """One line."""
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    try:
        run(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
    except TransientError as error:
        say(gone=str(error))
        sys.exit(3)
