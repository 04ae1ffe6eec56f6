"""Ray machines on this machine: each a process namespace with a raylet of its own, all on this machine's loopback.

A machine's processes see one another and no others, so that "the local node" means what it means on a real machine,
and all of them end when it is switched off: nothing is left, whatever Ray has started there. Needs root and util-linux.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resources.ec2.cluster_file import RAY_ENVIRONMENT

RAY = (sys.executable, "-m", "ray.scripts.scripts")
STORE_BYTES = 80_000_000
READY_SECONDS = 120


def why_not() -> str | None:
    """Why no such machines can be made here."""
    if shutil.which("unshare") is None:
        return "not installed: unshare (util-linux)"
    made = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return None if made.returncode == 0 else f"no process namespace can be made: {made.stderr.decode().strip()}"


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(true: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> None:
    """Wait for something that must come, and say what did not."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)


@dataclass
class RayMachine:
    """One machine: the process that holds its namespace."""

    name: str
    holder: subprocess.Popen[bytes]
    log: Path

    @property
    def inside(self) -> int:
        """The id, as this machine sees it, of the first process inside."""
        return int(Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()[0])

    def enter(self) -> list[str]:
        """What comes before a command that is to run on it."""
        return ["nsenter", "--target", str(self.inside), "--pid", "--mount"]

    def kill(self, name: str) -> None:
        """End its processes of a name, by SIGKILL."""
        namespace = Path(f"/proc/{self.inside}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/pid").readlink() == namespace and (process / "comm").read_text().strip() == name:
                    os.kill(int(process.name), signal.SIGKILL)

    def switch_off(self) -> None:
        """All of its processes end at once, by SIGKILL, as when the power fails."""
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.inside, signal.SIGKILL)
        self.holder.wait(timeout=30)


@dataclass
class RayMachines:
    """A cluster's machines, the head first; `folder` is theirs, its path short: Ray's sockets lie in it."""

    folder: Path
    port: int = field(default_factory=free_port)
    machines: list[RayMachine] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the head answers."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the cluster is given, the driver too."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        paths = {"RAY_TMPDIR": str(self.folder), "RAY_AUTH_TOKEN_PATH": str(self.folder / "auth_token")}
        return {**kept, **RAY_ENVIRONMENT, **paths, "PYTHONPATH": str(Path.cwd())}

    def head(self, *options: str, **more: str) -> RayMachine:
        """Start the head, which works on no tile."""
        at = (f"--port={self.port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--num-cpus=0")
        return self._started("head", ("--head", *at, *options), more)

    def worker(self, cpus: int = 1, memory: int = 1 << 30, then: str = "", **more: str) -> RayMachine:
        """Start a worker, and on it, once Ray is up, the command `then`, as the cluster file does."""
        at = (f"--address={self.address}", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--memory={memory}")
        return self._started(f"worker-{len(self.machines)}", at, more, then)

    def end(self) -> None:
        """Switch all of them off, the head last."""
        for machine in reversed(self.machines):
            machine.switch_off()

    def _started(self, name: str, options: tuple[str, ...], more: Mapping[str, str], then: str = "") -> RayMachine:
        log = self.folder / f"{name}.log"
        start = [*RAY, "start", *options, f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        script = f'"$@" || exit\n{then}\nexec sleep infinity'
        inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", *start]
        with log.open("wb") as file:
            holder = subprocess.Popen(
                inside, env={**self.environment, **more}, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        machine = RayMachine(name, holder, log)
        self.machines.append(machine)
        # One after the other: two that start at once may choose the same name for their sockets.
        until(lambda: _answers(machine), f"{name} is up; its log: {log}")
        return machine


def _answers(machine: RayMachine) -> bool:
    assert machine.holder.poll() is None, machine.log.read_text()[-3000:]
    return b"Ray runtime started" in machine.log.read_bytes()


def described(folder: str, port: int) -> RayMachines:
    """The machines of a cluster that another process started: more can be added."""
    return RayMachines(Path(folder), port)


@contextlib.contextmanager
def ray_machines() -> Iterator[RayMachines]:
    """No machine yet, and none afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rm-", dir="/tmp"))
    (folder / "auth_token").write_text(secrets.token_hex(32))
    there = RayMachines(folder)
    try:
        yield there
    finally:
        there.end()
        shutil.rmtree(folder, ignore_errors=True)
