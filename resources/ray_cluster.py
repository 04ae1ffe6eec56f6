"""Where tiles run: Ray on this machine, or a Ray cluster that is already there.

`map_tiles` hands a tile to one worker at a time as one Ray task, with the memory and CPUs that its stages declare, a
bounded number in flight. Faults that may pass and lost workers are tried again; what comes back is small.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from dagster_ray import RayResource
from pydantic import Field

from eo_assets.errors import EoAssetsError, TransientError

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What one tile's walk needs of a worker."""

    cpus: float = 1.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Finished(Generic[Work, Result]):
    """One tile's walk: its result, or why there is none after all tries."""

    work: Work
    result: Result | None
    error: str = ""


class RayCluster(RayResource):  # type: ignore[misc]
    """Ray for tiles. `local` starts Ray on this machine when the first tile needs it; `address` joins a running one.

    Nothing is started by a run whose tiles are all up to date.
    """

    mode: Literal["local", "address"] = "local"
    address: str = Field("auto", description="the cluster's address in mode `address`")
    workers: int = Field(0, ge=0, description="CPUs that Ray uses on this machine; 0: all of them")
    tries: int = Field(3, ge=1, description="how often a tile is tried when a fault may pass")

    @property
    def host(self) -> str:
        """This machine, in both modes: the driver runs on the cluster's head."""
        return "127.0.0.1"

    @property
    def name(self) -> str:
        """What logs call it."""
        return "Ray on this machine" if self.mode == "local" else f"Ray at {self.address}"

    @property
    def ray_address(self) -> str:
        """What `ray.init` is given."""
        return "local" if self.mode == "local" else self.address

    @property
    def created(self) -> bool:
        """Nothing has to be created in either mode."""
        return True

    @property
    def ready(self) -> bool:
        """Nothing has to be waited for in either mode."""
        return True

    @contextlib.contextmanager
    def yield_for_execution(self, context: Any) -> Iterator[RayCluster]:
        """Start nothing: the first tile does. Ray stays for the next launch of this process and ends with it."""
        yield self

    def connect(self, context: Any = None) -> Any:
        """Join the cluster, or start Ray here, once a process."""
        import ray

        if not ray.is_initialized():
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            # Ray gives its workers nice 15, behind everything else on the machine.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # Ray tells its makers about each cluster, and asks the cloud's metadata address where it runs.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # RAY_AUTH_MODE is left to Ray, which turns tokens on for a new cluster: set here, after the import, it
            # would reach the children and not this process, and Ray would refuse itself.
            logging.getLogger("ray").setLevel(logging.ERROR)
            self._start(ray)
        return ray

    def _start(self, ray: Any) -> None:
        """Ray gives its own processes 30 s to start, which a busy machine may not manage at once."""
        for attempt in range(self.tries):
            try:
                ray.init(address=self.ray_address, **self._options(), **self.ray_init_options)
                return
            except (RuntimeError, TimeoutError, ConnectionError) as error:
                ray.shutdown()
                if attempt + 1 == self.tries:
                    raise TransientError(f"{self.name} did not start: {error}") from error

    def map_tiles(
        self,
        function: Callable[[Work], Result],
        work: Iterator[Work | None],
        needs: Callable[[Work], WorkerNeeds],
    ) -> Iterator[Finished[Work, Result] | None]:
        """Run `function` on every work item on some worker; yield each as it finishes, in any order.

        `work` may yield None for "nothing new yet", and is asked only while there is room for more; None is passed on
        when nothing finished either, so that the caller can show progress. Raises nothing for a single item. A caller
        that stops early cancels what is in flight.
        """
        pending: dict[Any, Work] = {}
        ray: Any = None
        submit, limit, exhausted = None, 1, False
        try:
            while pending or not exhausted:
                while not exhausted and len(pending) < limit:
                    item = next(work, _END)
                    if item is _END:
                        exhausted = True
                    elif item is None:
                        break
                    else:
                        ray = ray or self.connect()
                        submit = submit or self._submitter(ray, function)
                        pending[submit(item, needs(item))] = item
                        limit = _in_flight(ray)
                yield from self._collect(ray, pending)
        finally:
            for reference in pending:
                ray.cancel(reference)

    def _collect(self, ray: Any, pending: dict[Any, Work]) -> Iterator[Finished[Work, Any] | None]:
        if not pending:
            yield None
            return
        done, _ = ray.wait(list(pending), num_returns=1, timeout=0.5)
        if not done:
            yield None
        for reference in done:
            item = pending.pop(reference)
            try:
                yield Finished(item, ray.get(reference))
            except ray.exceptions.RayError as error:
                yield Finished(item, None, _reason(error))

    def _submitter(self, ray: Any, function: Callable[[Work], Result]) -> Callable[[Work, WorkerNeeds], Any]:
        def call(function: Callable[[Work], Result], item: Work) -> Result:
            return function(item)

        # A function in a function travels by value: by name, it would make every worker import this module and Dagster.
        task = ray.remote(max_retries=self.tries - 1, retry_exceptions=[TransientError])(call)
        shared = ray.put(function)  # travels once, not with every tile
        limits = _largest_node(ray)

        def submit(item: Work, needs: WorkerNeeds) -> Any:
            held = capped(needs, limits)
            return task.options(num_cpus=held.cpus, memory=held.memory_bytes or None).remote(shared, item)

        return submit

    def _options(self) -> dict[str, Any]:
        if self.mode == "address":
            return {"log_to_driver": False}
        return {
            "num_cpus": self.workers or os.cpu_count(),
            "include_dashboard": False,
            "log_to_driver": False,
            "object_store_memory": 100 << 20,
            "configure_logging": False,
        }


_END: Any = object()


def capped(needs: WorkerNeeds, node: WorkerNeeds) -> WorkerNeeds:
    """What is asked of Ray: never more than the largest node has, or the tile would wait for ever.

    Needs are estimates with room to spare; a tile that would have more than a whole node gets the whole node, alone.
    """
    return WorkerNeeds(min(needs.cpus, node.cpus), min(needs.memory_bytes, node.memory_bytes))


def _largest_node(ray: Any) -> WorkerNeeds:
    """The most CPUs and the most memory that any node of the cluster offers."""
    offers = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return WorkerNeeds(*(max((offer.get(kind, 0) for offer in offers), default=0) for kind in ("CPU", "memory")))


def _in_flight(ray: Any) -> int:
    """How many tiles are handed out at a time: two a CPU, so that none waits for the driver."""
    return max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))


def _reason(error: Exception) -> str:
    """One line: what the tile's own code said, or that its worker was lost."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EoAssetsError):
        return str(cause)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if type(error).__name__ in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError"):
        return f"its worker was lost on every try ({lines[0]}); was there enough memory?"
    return lines[-1]


def in_this_process(
    function: Callable[[Work], Result], work: Iterator[Work | None]
) -> Iterator[Finished[Work, Result] | None]:
    """The same as `map_tiles` without Ray, one item after another: for tests and for looking into a failure."""
    for item in work:
        yield None if item is None else Finished(item, function(item))
