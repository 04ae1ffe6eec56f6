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
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any, Generic, Protocol

from eo_assets.errors import TransientError
from resources.cluster_size import ClusterSize, WorkerNeeds, capped, cluster_size
from resources.node_types import NodeTypes, node_types
from resources.run_usage import RunUsage
from resources.task_faults import Fault, fault_of, told
from resources.task_limits import TaskLimits
from resources.tile_tries import Finished, Result, Try, Work, name_of

TURN_SECONDS = 0.5
"""How long the driver waits for a tile before it looks around: for overruns, for Ray itself, for progress."""

COUNT_SECONDS = 10.0
"""How often the cluster is asked how large it is now, and which of its nodes are lost."""

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


class Cluster(Protocol):
    """What the tasks ask of the place where they run."""

    @property
    def name(self) -> str: ...
    def connect(self) -> Any: ...
    def lost(self) -> str: ...
    def restart(self) -> Any: ...


class TileTasks(Generic[Work, Result]):
    """One pass of a function over work items on a cluster, which is joined when the first item needs it."""

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[[Work], Result],
        needs: Callable[[Work], WorkerNeeds],
        limits: TaskLimits,
        usage: RunUsage | None = None,
    ) -> None:
        self._cluster, self._function, self._needs, self._limits = cluster, function, needs, limits
        self._usage = usage or RunUsage()
        self._ray: Any = None
        self._submit: Callable[[Try[Work]], Any]
        self._running: dict[Any, Try[Work]] = {}
        self._waiting: list[tuple[float, int, Try[Work]]] = []
        self._order = itertools.count()
        self._known, self._size = NodeTypes(), ClusterSize(WorkerNeeds(), 0, NodeTypes())
        self._counted, self._restarts = 0.0, 0
        self._exhausted = False
        self._dead: set[str] = set()

    def run(self, work: Iterator[Work | None]) -> Generator[Finished[Work, Result] | None]:
        """Yield each item as it finishes, in any order, and None when time passes without one.

        What is in flight when the caller stops, or is stopped, stops on the workers within seconds.
        """
        try:
            while True:
                yield from self._fill(work)
                if not (self._running or self._waiting) and self._exhausted:
                    return
                yield from self._turn()
        finally:
            self._stop()

    def _fill(self, work: Iterator[Work | None]) -> Iterator[Finished[Work, Result]]:
        """Hand out what there is room for, and tell of what no machine of the cluster could ever do."""
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
                continue
            tile = Try(item, self._needs(item))
            if reason := self._joined().too_small(tile.needs):
                yield Finished(item, None, reason)
            else:
                self._hand_out(tile)

    @property
    def _slots(self) -> int:
        return self._size.slots if self._ray is not None else 1

    def _joined(self) -> ClusterSize:
        """The cluster, joined by now."""
        if self._ray is None:
            self._open(self._cluster.connect())
        return self._size

    def _hand_out(self, tile: Try[Work]) -> None:
        tile.ends_at, tile.stopping, tile.node = None, False, ""
        self._running[self._submit(tile)] = tile

    def _open(self, ray: Any) -> None:
        function = self._function

        def call(item: Work) -> Iterator[Result | str]:
            from resources.core_dumps import forbid_core_dumps
            from resources.heap import keep_freed
            from resources.worker_node import worker_node

            forbid_core_dumps()
            keep_freed()
            yield worker_node()["ray_node"]  # it has started there
            yield function(item)

        # A function in a function travels by value, once, with what it holds: by name, it would make every worker
        # import this module and Dagster. Nothing is put into the object store: a driver that talks to the store of a
        # raylet that has died is ended by Ray without a word.
        task = ray.remote(max_retries=0, num_returns="streaming")(call)

        def submit(tile: Try[Work]) -> Any:
            held = capped(tile.needs, self._size.largest)
            return task.options(num_cpus=held.cpus, memory=held.memory_bytes or None).remote(tile.work)

        self._ray, self._submit = ray, submit
        here = ray.get_runtime_context()
        self._known = node_types(here.gcs_address)
        self._usage.worked_on(here.get_node_id())
        self._count()
        if self._size.empty:
            _log.warning("%s: no worker is up, and what could be started is not known: tiles wait", self._cluster.name)

    def _count(self) -> None:
        """How large the cluster is now: it may grow and shrink while the run lasts."""
        self._size = cluster_size(self._ray, self._known)
        self._usage.saw(self._ray.nodes())
        self._counted = time.monotonic()

    def _works_on(self, node: str) -> None:
        """Count a machine's time from its first tile on: a short life may fall between two counts of the cluster."""
        if not self._usage.has_seen(node):
            self._usage.saw(self._ray.nodes())
        self._usage.worked_on(node)

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
        heard = list(map(self._heard, done))
        if time.monotonic() - self._counted > COUNT_SECONDS and not self._cluster.lost():
            self._count()
            heard += self._lost_with_their_nodes()
        finished = [told for told in heard if told is not None]
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
            tile.ends_at, tile.node = time.monotonic() + self._limits.timeout_s, answer
            self._works_on(tile.node)
            return None
        del self._running[task]
        self._works_on(tile.node)
        self._ended(tile)
        self._restarts = 0
        return Finished(tile.work, answer)

    def _lost_with_their_nodes(self) -> list[Finished[Work, Result] | None]:
        """Give up waiting for tiles of nodes that Ray has given up.

        Ray tells of a node that was switched off or cut off within a minute or two; of a task there it tells only when
        a connection on which nothing comes any more has timed out, some minutes later. A task that has not said where
        it starts may have been on its way there: it is taken back and handed out again, which is no fault of the tile.
        """
        dead = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
        fresh, self._dead = dead - self._dead, dead
        lost = self._taken_back(lambda tile: tile.node in dead)
        for tile in self._taken_back(lambda tile: not tile.node) if fresh else ():
            self._hand_out(tile)
        return [self._failed(tile, Fault("machine", "its machine was lost")) for tile in lost]

    def _taken_back(self, which: Callable[[Try[Work]], bool]) -> list[Try[Work]]:
        """End the tasks of some tiles in flight, and forget them."""
        taken = {task: tile for task, tile in self._running.items() if which(tile)}
        for task in taken:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
            del self._running[task]
        return list(taken.values())

    def _failed(self, tile: Try[Work], fault: Fault) -> Finished[Work, Result] | None:
        """Give a tile up, or let it wait for its next try."""
        self._ended(tile, lost=fault.kind == "machine")
        tile.faults.append(fault)
        lost = sum(fault.kind == "machine" for fault in tile.faults)
        if fault.kind == "final" or len(tile.faults) - lost >= self._limits.tries or lost > LOST_MACHINES:
            self._restarts = 0
            return Finished(tile.work, None, told(tile.faults))
        if fault.kind == "memory":
            memory = 2 * max(tile.needs.memory_bytes, LEAST_MEMORY)
            tile.needs = replace(tile.needs, memory_bytes=memory)
        delay = self._limits.backoff(len(tile.faults))
        _log.warning("%s: %s; tried again in %.0f s", name_of(tile.work), fault.reason, delay)
        heapq.heappush(self._waiting, (time.monotonic() + delay, next(self._order), tile))
        return None

    def _ended(self, tile: Try[Work], *, lost: bool = False) -> None:
        """Count a try, with the time that it held its CPUs; one that never began only if its machine was lost."""
        if tile.ends_at is None and not lost:
            return
        seconds = 0.0 if tile.ends_at is None else time.monotonic() - tile.ends_at + self._limits.timeout_s
        self._usage.ended(seconds * capped(tile.needs, self._size.largest).cpus, lost=lost)

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
        tiles, self._running = list(self._running.values()), {}
        for tile in tiles:
            self._ended(tile, lost=tile.ends_at is not None)
        ray = self._cluster.restart()
        _log.warning("%s; it is started again, and %d tiles are handed out again", reason, len(tiles))
        self._open(ray)
        for tile in tiles:
            self._hand_out(tile)

    def _stop(self) -> None:
        """Kill the workers of what is in flight, and take back what is queued."""
        if self._ray is None:
            return
        for tile in self._running.values():
            self._ended(tile)
        if not self._cluster.lost():
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._usage.saw(self._ray.nodes())
            self._taken_back(lambda tile: True)
        self._running = {}


_END: Any = object()
