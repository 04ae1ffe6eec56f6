"""The life of a tile's task on a real Ray: waits, more memory, overruns, a Ray that dies, and a caller that stops."""

import functools
import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import resources.tile_tasks
from eo_assets.errors import TransientError
from resources.ray_cluster import RayCluster, TaskLimits, WorkerNeeds
from resources.task_faults import Fault, told
from tests.integration.production import until

SMALL = WorkerNeeds(cpus=1.0, memory_bytes=50 << 20)
SOON = TaskLimits(tries=3, backoff_s=0.1)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[RayCluster]:
    import ray
    import ray.cloudpickle

    ray.shutdown()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker can't import this file
    yield RayCluster(workers=2)
    ray.shutdown()


def finished(cluster: RayCluster, function: Any, work: Any, limits: TaskLimits = SOON, needs: Any = SMALL) -> list[Any]:
    return [done for done in cluster.map_tiles(function, iter(work), lambda item: needs, limits) if done is not None]


def tries(folder: Path, item: object) -> int:
    """How often an item has been tried, this time included."""
    with (folder / str(item)).open("a") as file:
        file.write(".")
    return (folder / str(item)).stat().st_size


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def kill_of_ray(name: str) -> None:
    """kill -9 of one of the processes that Ray on this machine stands on, if it runs."""
    for child in psutil.Process().children():
        if child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
            child.kill()
            until(functools.partial(gone, child.pid), f"the end of {name}")


def throttled_at_first(folder: Path, item: int) -> int:
    if item == 0 and tries(folder, item) == 1:
        raise TransientError("throttled")
    return item


def test_a_tile_that_waits_for_its_next_try_holds_no_worker(cluster: RayCluster, tmp_path: Path) -> None:
    function = functools.partial(throttled_at_first, tmp_path)
    work = [done.work for done in finished(cluster, function, range(12), TaskLimits(backoff_s=4.0))]
    assert sorted(work) == list(range(12))
    assert work[-1] == 0


def memory_it_holds(folder: Path, kind: str) -> list[int]:
    import ray

    held = int(ray.get_runtime_context().get_assigned_resources()["memory"])
    with (folder / kind).open("a") as file:
        file.write(f"{held} ")
    if len((folder / kind).read_text().split()) < 3:
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "memory":
            raise MemoryError("no memory for an array")
        raise TransientError("throttled")
    return [int(held) for held in (folder / kind).read_text().split()]


def test_a_tile_that_ran_out_of_memory_is_given_more(cluster: RayCluster, tmp_path: Path) -> None:
    needs = WorkerNeeds(1.0, 600 << 20)
    done = finished(cluster, functools.partial(memory_it_holds, tmp_path), ["killed", "memory", "other"], needs=needs)
    held = {item.work: [round(value / (100 << 20)) for value in item.result] for item in done}
    assert held == {"killed": [6, 12, 24], "memory": [6, 12, 24], "other": [6, 6, 6]}


def test_a_tile_without_an_estimate_is_given_memory_too(cluster: RayCluster, tmp_path: Path) -> None:
    def first_without(folder: Path, item: int) -> float:
        import ray

        if tries(folder, item) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(ray.get_runtime_context().get_assigned_resources()["memory"])

    [done] = finished(cluster, functools.partial(first_without, tmp_path), [1], needs=WorkerNeeds(1.0, 0))
    assert done.result == pytest.approx(1 << 30, rel=0.01)


def hang_at_first(folder: Path, item: int) -> int:
    if item == 1 and tries(folder, item) == 1:
        time.sleep(600)
    return item


def test_a_tile_that_hangs_is_ended_and_tried_again(cluster: RayCluster, tmp_path: Path) -> None:
    limits = TaskLimits(tries=2, timeout_s=2.0, backoff_s=0.1)
    done = finished(cluster, functools.partial(hang_at_first, tmp_path), range(4), limits)
    assert sorted(item.work for item in done if item.result == item.work) == [0, 1, 2, 3]


def hang_for_good(folder: Path, item: int) -> int:
    (folder / str(os.getpid())).touch()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            continue


def test_a_tile_that_hangs_on_every_try_is_told_and_its_workers_end(cluster: RayCluster, tmp_path: Path) -> None:
    limits = TaskLimits(tries=2, timeout_s=0.6, backoff_s=0.1)
    [done] = finished(cluster, functools.partial(hang_for_good, tmp_path), [1], limits)
    assert done.error == "took longer than 0.01 min (execution.tile_timeout_minutes) (tried 2 times)"
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    until(lambda: all(map(gone, pids)), "the workers' end")


def tries_after_a_nap(folder: Path, item: int) -> int:
    time.sleep(2.0)
    return tries(folder, item)


def test_a_tile_s_time_counts_from_its_start_and_not_from_its_queueing(cluster: RayCluster, tmp_path: Path) -> None:
    """Four are handed out to two workers: the last two are at their end 4 s after that, 2 s after their start."""
    done = finished(cluster, functools.partial(tries_after_a_nap, tmp_path), range(4), TaskLimits(timeout_s=3.0))
    assert [(item.result, item.error) for item in done] == [(1, "")] * 4


def test_a_caller_that_stops_stops_the_tasks(cluster: RayCluster, tmp_path: Path) -> None:
    tasks = cluster.map_tiles(functools.partial(hang_for_good, tmp_path), iter(range(6)), lambda item: SMALL)
    while len(list(tmp_path.iterdir())) < 2:
        next(tasks)
    tasks.close()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    until(lambda: all(map(gone, pids)), "the workers' end")
    assert [done.result for done in finished(cluster, abs, [-1])] == [1]
    assert len(list(tmp_path.iterdir())) == 2, "what was queued has never started"


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_ray_is_started_again_when_it_dies(
    cluster: RayCluster, tmp_path: Path, victim: str, caplog: pytest.LogCaptureFixture
) -> None:
    def wait_for_ray_s_end(folder: Path, item: int) -> int:
        if item in (4, 5) and tries(folder, item) == 1:
            time.sleep(600)
        return item

    killed = False
    done = set()
    for item in cluster.map_tiles(
        functools.partial(wait_for_ray_s_end, tmp_path), iter(range(8)), lambda item: SMALL, SOON
    ):
        if item is not None:
            done.add((item.work, item.result))
        elif not killed and (tmp_path / "4").exists() and (tmp_path / "5").exists():
            kill_of_ray(victim)
            killed = True
    assert killed
    assert done == {(number, number) for number in range(8)}
    assert f"its {victim} ended); it is started again, and 4 tiles are handed out again" in caplog.text


def test_ray_that_dies_again_and_again_ends_the_run(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.tile_tasks, "RESTARTS", 1)
    tasks = cluster.map_tiles(time.sleep, iter([600]), lambda item: SMALL)
    next(tasks)

    def kill_each() -> None:
        while True:
            kill_of_ray("raylet")
            next(tasks)

    with pytest.raises(TransientError, match=r"its raylet ended\), 2 times without a tile finished in between"):
        kill_each()


def test_ray_that_died_between_two_launches_is_started_again(cluster: RayCluster) -> None:
    assert [done.result for done in finished(cluster, abs, [-1])] == [1]
    kill_of_ray("raylet")
    assert [done.result for done in finished(cluster, abs, [-2])] == [2]


class Item:
    """Work that can be watched."""


def test_nothing_is_kept_of_a_tile_that_is_finished(cluster: RayCluster) -> None:
    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def source() -> Iterator[Item]:
        for _ in range(200):
            item = Item()
            alive.add(item)
            yield item

    def nothing(item: Any) -> None:
        return None

    most = 0
    for _ in cluster.map_tiles(nothing, source(), lambda item: SMALL):
        most = max(most, len(alive))
    assert most <= 8


def test_waiting_tiles_are_bounded_too(cluster: RayCluster) -> None:
    asked: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    def down(item: int) -> None:
        raise TransientError("the service is down")

    tasks = cluster.map_tiles(down, source(), lambda item: SMALL, TaskLimits(backoff_s=600, longest_backoff_s=600))
    for _ in range(60):
        assert next(tasks) is None
    tasks.close()
    assert len(asked) <= 4 * resources.tile_tasks.WAITING_PER_SLOT + 4


def test_waits_double_up_to_the_longest_and_differ() -> None:
    limits = TaskLimits(backoff_s=2.0, longest_backoff_s=120.0)
    for faults, longest in ((1, 2), (2, 4), (3, 8), (9, 120), (2000, 120)):
        waits = {limits.backoff(min(faults, 1000)) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_the_reason_names_what_was_tried() -> None:
    busy, killed = Fault("passing", "throttled"), Fault("memory", "its worker was killed")
    assert told([Fault("final", "no such band")]) == "no such band"
    assert told([busy, busy, busy]) == "throttled (tried 3 times)"
    assert told([busy, killed, busy, killed]) == "its worker was killed (tried 4 times; before: throttled)"
