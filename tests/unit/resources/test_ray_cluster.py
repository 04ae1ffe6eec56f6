"""Tiles on a real Ray: other processes, lost workers, faults that pass and faults that don't."""

import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.errors import TileError, TransientError
from resources.cluster_size import capped
from resources.ray_cluster import Finished, RayCluster, TaskLimits, WorkerNeeds, in_this_process

SMALL = WorkerNeeds(cpus=1.0, memory_bytes=50 << 20)
SOON = TaskLimits(tries=3, backoff_s=0.1)


@pytest.fixture(scope="module", autouse=True)
def nothing_left_by_other_tests() -> None:
    """A Ray that the graph's tests started in this process has workers that have loaded what those needed."""
    import ray

    ray.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    import ray

    cluster = RayCluster(workers=2)
    yield cluster
    ray.shutdown()


def run(
    cluster: RayCluster, function: Any, work: Any, needs: WorkerNeeds = SMALL, limits: TaskLimits = SOON
) -> list[Finished[Any, Any]]:
    # By value: a worker can't import this file.
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return [done for done in cluster.map_tiles(function, iter(work), lambda item: needs, limits) if done is not None]


def whoami(item: int) -> tuple[int, int]:
    return item, os.getpid()


def loaded(item: int) -> list[str]:
    return [name for name in ("dagster", "dagster_ray", "geopandas", "eolearn") if name in sys.modules]


def import_the_walk(item: int) -> list[str]:
    import eo_assets.stages.build  # noqa: F401

    return loaded(item)


def die_at_first(folder: Path, item: int) -> int:
    """Killed in mid-task the first time, as by the out-of-memory killer."""
    tried = folder / f"{item}.{os.getpid()}"
    tried.touch()
    if item == 1 and len(list(folder.glob("1.*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(folder: Path, item: str) -> str:
    with (folder / item).open("a") as file:
        file.write(".")
    tries = (folder / item).stat().st_size
    if item == "passes" and tries < 3:
        raise TransientError("throttled")
    if item == "stays":
        raise TransientError("the service is down")
    if item == "tile":
        raise TileError("30NXL_0_0: no such band")
    if item == "bug":
        return {}["missing"]  # type: ignore[no-any-return, index]
    return "done"


def test_nothing_starts_without_work() -> None:
    import ray

    assert list(RayCluster().map_tiles(whoami, iter([]), lambda item: SMALL)) in ([], [None])
    assert not ray.is_initialized()


def test_tiles_run_in_other_processes_and_come_back_once(cluster: RayCluster) -> None:
    done = run(cluster, whoami, range(12))
    assert sorted(finished.work for finished in done) == list(range(12))
    assert all(finished.result == (finished.work, finished.result[1]) for finished in done)
    pids = {finished.result[1] for finished in done}
    assert os.getpid() not in pids


def test_workers_load_neither_dagster_nor_geopandas(cluster: RayCluster) -> None:
    [idle, walking] = [run(cluster, function, [1])[0] for function in (loaded, import_the_walk)]
    assert idle.result == [], idle.error
    assert walking.result == [], walking.error


def test_a_killed_worker_s_tile_is_done_by_another(cluster: RayCluster, tmp_path: Path) -> None:
    done = {finished.work: finished for finished in run(cluster, functools.partial(die_at_first, tmp_path), range(4))}
    assert [done[i].error for i in range(4)] == [""] * 4
    tried = [int(path.suffix[1:]) for path in tmp_path.glob("1.*")]
    assert len(set(tried)) == 2
    assert done[1].result in tried


def test_a_tile_that_kills_every_worker_is_told_and_sinks_no_other(cluster: RayCluster) -> None:
    done = {finished.work: finished for finished in run(cluster, die, range(4))}
    assert [done[i].result for i in (0, 2, 3)] == [0, 2, 3]
    assert done[1].result is None
    assert done[1].error == "its worker was killed, by hand or for want of memory (tried 3 times)"


def test_faults_that_may_pass_are_tried_again_and_others_are_not(cluster: RayCluster, tmp_path: Path) -> None:
    work = ["passes", "stays", "tile", "bug", "good"]
    done = {finished.work: finished for finished in run(cluster, functools.partial(fail, tmp_path), work)}
    assert (done["passes"].result, done["good"].result) == ("done", "done")
    assert done["stays"].error == "the service is down (tried 3 times)"
    assert done["tile"].error == "30NXL_0_0: no such band"
    assert done["bug"].error == "KeyError: 'missing'"
    tries = {name: (tmp_path / name).stat().st_size for name in work}
    assert tries == {"passes": 3, "stays": 3, "tile": 1, "bug": 1, "good": 1}


def test_a_source_with_nothing_new_does_not_block(cluster: RayCluster) -> None:
    def source() -> Iterator[int | None]:
        yield from (None, 1, None, None, 2, None)

    done = list(cluster.map_tiles(abs, source(), lambda item: SMALL))
    assert sorted(finished.work for finished in done if finished) == [1, 2]
    assert None in done


def test_the_source_is_asked_only_while_there_is_room(cluster: RayCluster) -> None:
    asked: list[int] = []

    def source() -> Iterator[int]:
        for item in range(50):
            asked.append(item)
            yield item

    first = next(done for done in cluster.map_tiles(abs, source(), lambda item: SMALL) if done is not None)
    assert first.result is not None
    assert len(asked) <= 6


@pytest.mark.parametrize("needs", [WorkerNeeds(1.0, 1 << 50), WorkerNeeds(64.0, 0), WorkerNeeds(0.0, 0)])
def test_a_tile_that_asks_for_more_than_a_machine_has_gets_the_whole_machine(
    cluster: RayCluster, needs: WorkerNeeds
) -> None:
    [done] = run(cluster, abs, [-5], needs)
    assert done.result == 5


sizes = st.builds(WorkerNeeds, st.floats(0, 100), st.integers(0, 1 << 50))


@given(sizes, sizes)
def test_needs_are_capped_to_a_node_and_not_raised(needs: WorkerNeeds, node: WorkerNeeds) -> None:
    found = capped(needs, node)
    assert found.cpus <= min(needs.cpus, node.cpus)
    assert found.memory_bytes <= min(needs.memory_bytes, node.memory_bytes)
    assert capped(found, node) == found


def test_the_same_without_ray() -> None:
    done = list(in_this_process(whoami, iter([1, None])))
    assert done == [Finished(1, (1, os.getpid())), None]
