"""A Ray of either side that is there before its first stage, with as many CPUs for both."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.peer.measure import Processes, Usage, measured

OBJECT_STORE_BYTES = 1 << 30
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
}
"""Of both sides' Ray: nothing is told to its makers, and workers are no nicer than what they are compared with."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where it answers, what whoever joins it must have in its environment, and what starting it cost."""

    address: str
    environment: Mapping[str, str]
    usage: Usage


@contextlib.contextmanager
def ray_head(
    processes: Processes, python: Path, cpus: int, log: Path, more: Mapping[str, str] | None = None
) -> Iterator[Head]:
    """Start the Ray beside an interpreter on a free port; it ends with its `processes`.

    Its workers see the environment of this process, and `more`.
    """
    folder = tempfile.mkdtemp(prefix="bench-ray-")  # its sockets' paths must be short
    address = f"127.0.0.1:{_free_port()}"
    command = [
        python.with_name("ray"), "start", "--head", f"--port={address.rpartition(':')[2]}", f"--num-cpus={cpus}",
        "--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=false",
        f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats",
    ]  # fmt: skip
    told = {**RAY_ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **(more or {})}
    try:
        usage = measured(processes, command, {**os.environ, **told}, log, Path(folder))
        yield Head(address, told, usage)
    finally:
        processes.end()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
