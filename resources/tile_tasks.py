"""Many tiles as Ray tasks: who is handed out, who is tried again and when, who takes too long, what stops at the end.

The driver decides about retries, not Ray: only so a tile can wait for its next try without holding a worker, and be
given more memory. Every task says when it starts on a worker, and its time is counted from then. Nothing is kept of a
tile that is finished.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import random
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from eo_assets.errors import TransientError
from resources.task_faults import Fault, fault_of, told

Work = TypeVar("Work")
Result = TypeVar("Result")

TURN_SECONDS = 0.5
"""How long the driver waits for a tile before it looks around: for overruns, for Ray itself, for progress."""

COUNT_SECONDS = 10.0
"""How often the cluster is asked how large it is now."""

ANSWER_SECONDS = 60.0
"""How long a result that has been announced may take to arrive: it is a few hundred bytes."""

WAITING_PER_SLOT = 4
"""How many tiles may wait for their next try, for each that runs, before no new ones are taken on."""

LOST_MACHINES = 10
"""How many machines may vanish under one tile; that is no fault of the tile and not counted among its tries."""

RESTARTS = 3
"""How often Ray is started again without any tile finished in between."""

LEAST_MEMORY = 512 << 20
"""What a tile without an estimate is taken to have used when it ran out of memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What one tile's walk needs of a worker."""

    cpus: float = 1.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """How often a tile is tried, how long a try may take from its start on a worker, and the wait before the second."""

    tries: int = 3
    timeout_s: float = 3600.0
    backoff_s: float = 2.0
    longest_backoff_s: float = 120.0

    def backoff(self, faults: int) -> float:
        """Seconds until the next try: doubled with every fault, and spread, so that tiles don't come back in step."""
        longest = min(self.longest_backoff_s, self.backoff_s * 2.0 ** (faults - 1))
        return longest * random.uniform(0.5, 1.0)


DEFAULT_LIMITS = TaskLimits()


@dataclass(frozen=True, slots=True)
class Finished(Generic[Work, Result]):
    """One tile's walk: its result, or why there is none after all tries."""

    work: Work
    result: Result | None
    error: str = ""


class Cluster(Protocol):
    """What the tasks ask of the place where they run."""

    @property
    def name(self) -> str: ...
    def connect(self) -> Any: ...
    def lost(self) -> str: ...
    def restart(self) -> Any: ...


@dataclass(slots=True)
class _Try(Generic[Work]):
    """A tile on its way: what it met so far, and since when it runs."""

    work: Work
    needs: WorkerNeeds
    faults: list[Fault] = field(default_factory=list)
    ends_at: float | None = None
    stopping: bool = False


class TileTasks(Generic[Work, Result]):
    """One pass of a function over work items on a cluster, which is joined when the first item needs it."""

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[[Work], Result],
        needs: Callable[[Work], WorkerNeeds],
        limits: TaskLimits,
    ) -> None:
        self._cluster, self._function, self._needs, self._limits = cluster, function, needs, limits
        self._ray: Any = None
        self._submit: Callable[[_Try[Work]], Any]
        self._running: dict[Any, _Try[Work]] = {}
        self._waiting: list[tuple[float, int, _Try[Work]]] = []
        self._order = itertools.count()
        self._slots, self._counted, self._restarts = 1, 0.0, 0
        self._exhausted = False

    def run(self, work: Iterator[Work | None]) -> Generator[Finished[Work, Result] | None]:
        """Yield each item as it finishes, in any order, and None when time passes without one.

        What is in flight when the caller stops, or is stopped, stops on the workers within seconds.
        """
        try:
            while True:
                self._fill(work)
                if not (self._running or self._waiting) and self._exhausted:
                    return
                yield from self._turn()
        finally:
            self._stop()

    def _fill(self, work: Iterator[Work | None]) -> None:
        while len(self._running) < self._slots:
            now = time.monotonic()
            if self._waiting and self._waiting[0][0] <= now:
                self._hand_out(heapq.heappop(self._waiting)[2])
                continue
            if self._exhausted or len(self._waiting) >= WAITING_PER_SLOT * self._slots:
                return
            item = next(work, _END)
            if item is None:
                return
            if item is _END:
                self._exhausted = True
            else:
                self._hand_out(_Try(item, self._needs(item)))

    def _hand_out(self, tile: _Try[Work]) -> None:
        if self._ray is None:
            self._open(self._cluster.connect())
        elif time.monotonic() - self._counted > COUNT_SECONDS and not self._cluster.lost():
            self._count()
        tile.ends_at, tile.stopping = None, False
        self._running[self._submit(tile)] = tile

    def _open(self, ray: Any) -> None:
        function = self._function

        def call(item: Work) -> Iterator[Result | None]:
            from resources.core_dumps import forbid_core_dumps

            forbid_core_dumps()
            yield None  # it has started on a worker
            yield function(item)

        # A function in a function travels by value, once, with what it holds: by name, it would make every worker
        # import this module and Dagster. Nothing is put into the object store: a driver that talks to the store of a
        # raylet that has died is ended by Ray without a word.
        task = ray.remote(max_retries=0, num_returns="streaming")(call)

        def submit(tile: _Try[Work]) -> Any:
            held = capped(tile.needs, self._largest)
            return task.options(num_cpus=held.cpus, memory=held.memory_bytes or None).remote(tile.work)

        self._ray, self._submit = ray, submit
        self._count()

    def _count(self) -> None:
        """How large the cluster is now: it may grow and shrink while the run lasts."""
        self._largest, self._slots = _largest_node(self._ray), _in_flight(self._ray)
        self._counted = time.monotonic()

    def _turn(self) -> Iterator[Finished[Work, Result] | None]:
        """Wait for a moment, and see to whatever happened."""
        if not self._running:
            if self._waiting and (self._exhausted or len(self._waiting) >= WAITING_PER_SLOT * self._slots):
                time.sleep(max(0.0, min(TURN_SECONDS, self._waiting[0][0] - time.monotonic())))
            yield None
            return
        if reason := self._cluster.lost():
            self._begin_anew(reason)
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=TURN_SECONDS)
        finished = [told for told in map(self._heard, done) if told is not None]
        self._end_overruns()
        yield from finished or (None,)

    def _heard(self, task: Any) -> Finished[Work, Result] | None:
        """A task has started, or ended one way or the other."""
        tile = self._running[task]
        try:
            answer = self._ray.get(next(task), timeout=ANSWER_SECONDS)
        except self._ray.exceptions.RayError as error:
            del self._running[task]
            return self._failed(tile, self._overrun() if tile.stopping else fault_of(error))
        except StopIteration:
            del self._running[task]
            return self._failed(tile, Fault("passing", "its task ended without an answer"))
        if tile.ends_at is None:
            tile.ends_at = time.monotonic() + self._limits.timeout_s
            return None
        del self._running[task]
        self._restarts = 0
        return Finished(tile.work, answer)

    def _failed(self, tile: _Try[Work], fault: Fault) -> Finished[Work, Result] | None:
        """Give a tile up, or let it wait for its next try."""
        tile.faults.append(fault)
        lost = sum(fault.kind == "machine" for fault in tile.faults)
        if fault.kind == "final" or len(tile.faults) - lost >= self._limits.tries or lost > LOST_MACHINES:
            self._restarts = 0
            return Finished(tile.work, None, told(tile.faults))
        if fault.kind == "memory":
            memory = 2 * max(tile.needs.memory_bytes, LEAST_MEMORY)
            tile.needs = replace(tile.needs, memory_bytes=memory)
        delay = self._limits.backoff(len(tile.faults))
        _log.warning("%s: %s; tried again in %.0f s", _name(tile.work), fault.reason, delay)
        heapq.heappush(self._waiting, (time.monotonic() + delay, next(self._order), tile))
        return None

    def _overrun(self) -> Fault:
        minutes = self._limits.timeout_s / 60
        return Fault("overrun", f"took longer than {minutes:g} min (execution.tile_timeout_minutes)")

    def _end_overruns(self) -> None:
        """Kill the workers of what takes too long. What they have half written was never committed.

        Always with force: a task that is only interrupted may not hear it, and Ray calls it finished all the same.
        """
        now = time.monotonic()
        for task, tile in self._running.items():
            if not tile.stopping and tile.ends_at is not None and now > tile.ends_at:
                self._ray.cancel(task, force=True)
                tile.stopping = True

    def _begin_anew(self, reason: str) -> None:
        """Start Ray again and hand out what was in flight: no tile is to blame."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise TransientError(
                f"{reason}, {self._restarts} times without a tile finished in between; run it again: "
                "what is committed stays"
            )
        _log.warning("%s; it is started again, and %d tiles are handed out again", reason, len(self._running))
        tiles = list(self._running.values())
        self._running.clear()
        self._open(self._cluster.restart())
        for tile in tiles:
            self._hand_out(tile)

    def _stop(self) -> None:
        """Kill the workers of what is in flight, and take back what is queued."""
        tasks, self._running = self._running, {}
        if tasks and not self._cluster.lost():
            for task in tasks:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(task, force=True)


_END: Any = object()


def capped(needs: WorkerNeeds, node: WorkerNeeds) -> WorkerNeeds:
    """What is asked of Ray: never more than the largest node has, or the tile would wait for ever.

    Needs are estimates with room to spare; a tile that would have more than a whole node gets the whole node, alone.
    """
    return WorkerNeeds(min(needs.cpus, node.cpus), min(needs.memory_bytes, node.memory_bytes))


def _largest_node(ray: Any) -> WorkerNeeds:
    """The most CPUs and the most memory that any node of the cluster offers."""
    offers = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not offers:  # a head that does no work, whose workers are yet to come: they are waited for
        return WorkerNeeds(math.inf, sys.maxsize)
    return WorkerNeeds(*(max(offer.get(kind, 0) for offer in offers) for kind in ("CPU", "memory")))


def _in_flight(ray: Any) -> int:
    """How many tiles are handed out at a time: two a CPU, so that none waits for the driver."""
    return max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))


def _name(work: Any) -> str:
    """What a log calls a work item: its tile, where it has one."""
    return getattr(getattr(work, "tile", None), "name", None) or str(work)
