"""kill -9 at random moments: whom, when, and what is left of a run's processes afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from tests.simulation.measures import command_of, descendants

WORKER, RAYLET, RUN, DAEMON = TARGETS = ("worker", "raylet", "run", "daemon")
COMMAND, DAGSTER = KINDS = ("command", "dagster")
"""Who launches: `eo-assets run`, or the webserver and the daemon."""

THREADS = (1, 2, 4)
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own, which are called as its workers are."""


@dataclass(frozen=True)
class Round:
    """One disturbance. `share` of the usual time passes between the victim's first sign of life and its end."""

    number: int
    kind: str
    target: str
    threads: int
    share: float
    seed: int


def plan_rounds(rounds: int, seed: int) -> list[Round]:
    """Every target and every number of threads equally often, in random order; only Dagster has a daemon to kill."""
    chance = random.Random(seed)
    targets = [TARGETS[number % len(TARGETS)] for number in range(rounds)]
    threads = [THREADS[number % len(THREADS)] for number in range(rounds)]
    chance.shuffle(targets)
    chance.shuffle(threads)
    planned = []
    for number, target in enumerate(targets):
        earlier = sum(other.target != DAEMON for other in planned)
        kind = DAGSTER if target == DAEMON else KINDS[earlier % 2]
        planned.append(Round(number, kind, target, threads[number], chance.random(), chance.randrange(1 << 30)))
    return planned


def victims(target: str, run: int) -> list[psutil.Process]:
    """The processes that a kill may hit: those of a run, or the daemon."""
    if target in (RUN, DAEMON):
        return [psutil.Process(run)] if psutil.pid_exists(run) else []
    return [process for process in descendants(run) if _is(target, command_of(process))]


def kill_at_random(
    target: str, run: Callable[[], int | None], over: Callable[[], bool], wait_s: float, chance: random.Random
) -> list[psutil.Process] | None:
    """Wait for a victim's first sign of life, then for `wait_s`, and kill -9 one: the first that lives by then.

    Returns all processes of the run as they were at that moment, None if the run was over before.
    """
    seen = 0.0
    while not over():
        found = _living(target, run)
        seen = seen or (time.monotonic() if found else 0.0)
        if found and time.monotonic() - seen >= wait_s:
            family = descendants(run() or 0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(found).pid, signal.SIGKILL)
                return family
        time.sleep(0.03)
    return None


def orphans(family: Sequence[psutil.Process], patience_s: float = 60.0) -> list[str]:
    """End those of a killed run's processes that have not ended by themselves; returns their command lines."""
    _, alive = psutil.wait_procs(list(family), timeout=patience_s)
    told = [command_of(process)[:200] for process in alive]
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return told


def _living(target: str, run: Callable[[], int | None]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        pid = run()
        return [] if pid is None else victims(target, pid)
    return []


def _is(target: str, command: str) -> bool:
    if target == RAYLET:
        return command.split(" ")[0].endswith("/raylet/raylet")
    return command.startswith("ray::") and not command.startswith(AGENTS)
