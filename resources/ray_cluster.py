"""Where tiles run: Ray on this machine, or a Ray cluster that is already there.

`map_tiles` hands a tile to one worker at a time as one Ray task, with the memory and CPUs that its stages declare, a
bounded number in flight: `tile_tasks.py`. What comes back is small. This module is about Ray itself: started, joined,
found dead, started again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal

from dagster_ray import RayResource
from pydantic import Field

from eo_assets.errors import TransientError
from resources.tile_tasks import DEFAULT_LIMITS, Finished, Result, TaskLimits, TileTasks, Work, WorkerNeeds

__all__ = ["Finished", "RayCluster", "TaskLimits", "WorkerNeeds", "in_this_process"]

START_TRIES = 3


class RayCluster(RayResource):  # type: ignore[misc]
    """Ray for tiles. `local` starts Ray on this machine when the first tile needs it; `address` joins a running one.

    Nothing is started by a run whose tiles are all up to date.
    """

    mode: Literal["local", "address"] = "local"
    address: str = Field("auto", description="the cluster's address in mode `address`")
    workers: int = Field(0, ge=0, description="CPUs that Ray uses on this machine; 0: all of them")

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
        """Join the cluster, or start Ray here, once a process; again if it has died since."""
        import ray

        if ray.is_initialized() and self.lost():
            ray.shutdown()
        if not ray.is_initialized():
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            # Ray gives its workers nice 15, behind everything else on the machine.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # Ray tells its makers about each cluster, and asks the cloud's metadata address where it runs.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # A worker that is started before anybody asks for one, and dies, keeps `ray.init` waiting for ever.
            os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
            # RAY_AUTH_MODE is left to Ray, which turns tokens on for a new cluster: set here, after the import, it
            # would reach the children and not this process, and Ray would refuse itself.
            logging.getLogger("ray").setLevel(logging.ERROR)
            self._start(ray)
        return ray

    def _start(self, ray: Any) -> None:
        """Ray gives its own processes 30 s to start, which a busy machine may not manage at once."""
        for attempt in range(START_TRIES):
            try:
                ray.init(address=self.ray_address, **self._options(), **self.ray_init_options)
                return
            except (RuntimeError, TimeoutError, ConnectionError) as error:
                ray.shutdown()
                if attempt + 1 == START_TRIES:
                    raise TransientError(f"{self.name} did not start: {error}") from error

    def map_tiles(
        self,
        function: Callable[[Work], Result],
        work: Iterator[Work | None],
        needs: Callable[[Work], WorkerNeeds],
        limits: TaskLimits = DEFAULT_LIMITS,
    ) -> Generator[Finished[Work, Result] | None]:
        """Run `function` on every work item on some worker; yield each as it finishes, in any order.

        `work` may yield None for "nothing new yet", and is asked only while there is room for more; None is passed on
        when nothing finished either, so that the caller can show progress. Raises nothing for a single item, and
        TransientError when Ray itself is gone for good. A caller that stops early, and closes the iterator, stops what
        is in flight.
        """
        return TileTasks(self, function, needs, limits).run(work)

    def lost(self) -> str:
        """Why nothing can come back any more: a process that Ray on this machine stands on has died; "" if none has."""
        import ray

        if self.mode == "address":
            return ""
        # Ray itself never tells a driver: it waits for ever without its raylet, and ends the driver's process a minute
        # after the control store was lost. Its own list of what it started is not public; its version is pinned.
        node = ray._private.worker._global_node
        dead = [kind for kind, _ in node.dead_processes() if kind in _VITAL] if node is not None else ["raylet"]
        return f"{self.name} has died (its {dead[0]} ended)" if dead else ""

    def restart(self) -> Any:
        """End what is left of Ray on this machine, its workers with it, and start it anew."""
        import ray

        ray.shutdown()
        return self.connect()

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


_VITAL = ("raylet", "gcs_server")


def in_this_process(
    function: Callable[[Work], Result], work: Iterator[Work | None]
) -> Generator[Finished[Work, Result] | None]:
    """The same as `map_tiles` without Ray, one item after another: for tests and for looking into a failure."""
    for item in work:
        yield None if item is None else Finished(item, function(item))
