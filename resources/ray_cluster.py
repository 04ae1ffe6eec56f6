"""Where tiles run: Ray on this machine, or a Ray cluster that is already there.

`map_tiles` hands a tile to one worker at a time as one Ray task, with the memory and CPUs that its stages declare, a
bounded number in flight: `tile_tasks.py`. What comes back is small. This module is about Ray itself: started, joined,
found dead, started again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal

from dagster_ray import RayResource
from pydantic import Field

from eo_assets.errors import ClusterError, TransientError
from resources.cluster_size import WorkerNeeds
from resources.run_usage import RunUsage
from resources.task_limits import DEFAULT_LIMITS, TaskLimits
from resources.tile_tasks import TileTasks
from resources.tile_tries import Finished, Result, Work

__all__ = ["RAY_VARIABLE", "Finished", "RayCluster", "TaskLimits", "WorkerNeeds", "in_this_process", "ray_cluster"]

START_TRIES = 3

RAY_VARIABLE = "EO_ASSETS_RAY"
"""Where tiles run, for every process of a deployment: `local` (the default), `auto` on a cluster's head, an address."""


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
    def _verb(self) -> str:
        return "start" if self.mode == "local" else "answer"

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
        """Ray gives its own processes 30 s to start, which a busy machine may not manage. A cluster is up."""
        tries = START_TRIES if self.mode == "local" else 1
        for attempt in range(tries):
            try:
                ray.init(address=self.ray_address, **self._options(), **self.ray_init_options)
                return
            except (RuntimeError, TimeoutError, ConnectionError, ray.exceptions.AuthenticationError) as error:
                ray.shutdown()
                if self.mode == "address" and _signed_out(error):
                    raise ClusterError(
                        f"{self.name} does not take the token of this user: copy ~/.ray/auth_token of the user that "
                        "started its head to this machine, or name it in RAY_AUTH_TOKEN_PATH, and set "
                        "RAY_AUTH_MODE=token"
                    ) from None
                if attempt + 1 == tries:
                    raise TransientError(f"{self.name} did not {self._verb}: {error}") from None

    def map_tiles(
        self,
        function: Callable[[Work], Result],
        work: Iterator[Work | None],
        needs: Callable[[Work], WorkerNeeds],
        limits: TaskLimits = DEFAULT_LIMITS,
        usage: RunUsage | None = None,
    ) -> Generator[Finished[Work, Result] | None]:
        """Run `function` on every work item on some worker; yield each as it finishes, in any order.

        `work` may yield None for "nothing new yet", and is asked only while there is room for more; None is passed on
        when nothing finished either, so that the caller can show progress. Raises nothing for a single item, and
        TransientError when Ray itself is gone for good. A caller that stops early, and closes the iterator, stops what
        is in flight. What it took of machines is counted in `usage`.
        """
        return TileTasks(self, function, needs, limits, usage).run(work)

    def lost(self) -> str:
        """Why nothing can come back any more: a process that the driver's Ray stands on has died; "" if none has."""
        import ray

        # Ray itself never tells a driver: it waits for ever without its raylet, and ends the driver's process a minute
        # after the control store was lost. What it knows of its node is not public; its version is pinned.
        node = ray._private.worker._global_node
        if self.mode == "address":
            return (
                f"the Ray cluster at {node.gcs_address} is gone ({ended})" if node and (ended := _ended(node)) else ""
            )
        dead = [kind for kind, _ in node.dead_processes() if kind in _VITAL] if node is not None else ["raylet"]
        return f"{self.name} has died (its {dead[0]} ended)" if dead else ""

    def restart(self) -> Any:
        """End what is left of Ray on this machine, its workers with it, and start it anew.

        Raises:
            TransientError: a cluster that was joined is not this process's to start.
        """
        import ray

        if self.mode == "address" and (reason := self.lost()):
            raise TransientError(
                f"{reason}: start it again (eo-assets cluster up), then run it again: what is committed stays"
            )
        ray.shutdown()
        return self.connect()

    def _options(self) -> dict[str, Any]:
        if self.mode == "address":
            return {"log_to_driver": False, "configure_logging": False}
        return {
            "num_cpus": self.workers or os.cpu_count(),
            "include_dashboard": False,
            "log_to_driver": False,
            "object_store_memory": 100 << 20,
            "configure_logging": False,
        }


def ray_cluster(said: str | None = None) -> RayCluster:
    """The cluster that is said, else that of EO_ASSETS_RAY, else Ray on this machine. A ClusterError for `ec2`."""
    where = said or os.environ.get(RAY_VARIABLE) or "local"
    if where == "ec2":
        raise ClusterError(f"{RAY_VARIABLE}: ec2 is for `eo-assets run --ray ec2` alone; say local, auto or an address")
    return RayCluster() if where == "local" else RayCluster(mode="address", address=where)


def _signed_out(error: Exception) -> bool:
    """Is it about a token? Ray wraps what its control store says into errors of other kinds, as text."""
    found: BaseException | None = error
    while found is not None:
        if "AuthenticationError" in f"{type(found).__name__} {found}":
            return True
        found = found.__cause__ or found.__context__
    return False


_VITAL = ("raylet", "gcs_server")
_CONNECT_SECONDS = 2.0


def _ended(node: Any) -> str:
    """Which of a cluster's processes that the driver stands on ended: the head's control store, the raylet beside it.

    Only what refuses connections has ended. Whoever does not answer may be busy or cut off: Ray waits for it, a minute.
    """
    host, _, port = node.gcs_address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if _refused(family, (host.strip("[]"), int(port))):
        return "its head's gcs_server ended"
    return "the raylet of this machine ended" if _refused(socket.AF_UNIX, node.raylet_socket_name) else ""


def _refused(family: socket.AddressFamily, address: Any) -> bool:
    with socket.socket(family) as tried:
        tried.settimeout(_CONNECT_SECONDS)
        try:
            tried.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def in_this_process(
    function: Callable[[Work], Result], work: Iterator[Work | None]
) -> Generator[Finished[Work, Result] | None]:
    """The same as `map_tiles` without Ray, one item after another: for tests and for looking into a failure."""
    for item in work:
        yield None if item is None else Finished(item, function(item))
