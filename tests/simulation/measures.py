"""What is measured of running processes and of an instance: memory, events, bytes of the database, seconds."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from eo_assets.instance import open_instance
from eo_assets.project import LoadedProject
from tests.simulation.daemon import Servers, own_environment

RAY = ("raylet", "gcs_server", "ray::", "ray/")
"""Parts of the command lines of Ray's own processes."""


def run_processes(started: Servers) -> list[psutil.Process]:
    """The processes that carry out runs: children of the code server that have come to be Dagster's run workers."""
    return [child for child in descendants(started.processes["code"].pid, deep=False) if _is_run(child)]


def descendants(pid: int, *, deep: bool = True) -> list[psutil.Process]:
    """The living children of a process, and theirs; none if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=deep))
    return []


def command_of(process: psutil.Process) -> str:
    """The command line of a process, empty once it has ended. Ray's workers write theirs over."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


def rss_mb(pid: int) -> float:
    """Resident memory of one process in MB, 0 once it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(round(psutil.Process(pid).memory_info().rss / 1e6, 1))
    return 0.0


def _is_run(process: psutil.Process) -> bool:
    command = command_of(process)
    return "spawn_main" in command and not any(part in command for part in RAY)


@dataclass
class Sampler:
    """Samples values once a second while something goes on: name -> [(seconds since the start, value)]."""

    look: Callable[[], dict[str, float]]
    seconds: float = 1.0
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def first(self, name: str) -> float:
        """The first value that is not 0."""
        return next((value for _, value in self.samples.get(name, ()) if value), 0.0)

    def last(self, name: str) -> float:
        """The last value that is not 0."""
        return next((value for _, value in reversed(self.samples.get(name, ())) if value), 0.0)

    def highest(self, name: str) -> float:
        """The highest value."""
        return max((value for _, value in self.samples.get(name, ())), default=0.0)

    @contextlib.contextmanager
    def running(self) -> Iterator[Sampler]:
        """Sample until the block ends."""
        ended, started = threading.Event(), time.monotonic()

        def sample() -> None:
            while not ended.wait(self.seconds):
                for name, value in self.look().items():
                    self.samples.setdefault(name, []).append((time.monotonic() - started, value))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()


@dataclass
class Watch:
    """Wall seconds of named steps, printed as they end."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)
        print(f"  {name}: {self.seconds[name]:,.1f} s", flush=True)


def runs_and_events(loaded: LoadedProject, page: int = 20_000) -> tuple[int, int]:
    """How many runs the project's instance knows, and how many events and log lines it keeps of them."""
    with own_environment(loaded), open_instance(loaded) as instance:
        runs = [run.run_id for run in instance.get_runs()]
        return len(runs), sum(_events_of(instance, run, page) for run in runs)


def seconds_of_runs(loaded: LoadedProject, assets: Sequence[str]) -> float:
    """Wall seconds of the runs of some assets so far, each from the start of its process to its end."""
    wanted = {dg.AssetKey([loaded.project.name, asset]) for asset in assets}
    with own_environment(loaded), open_instance(loaded) as instance:
        found = [
            record for record in instance.get_run_records() if wanted & (record.dagster_run.asset_selection or set())
        ]
    return sum((record.end_time or 0.0) - (record.start_time or 0.0) for record in found)


def _events_of(instance: dg.DagsterInstance, run: str, page: int) -> int:
    count, cursor = 0, None
    while True:
        found = instance.get_records_for_run(run, cursor=cursor, limit=page)
        count += len(found.records)
        cursor = found.cursor
        if not found.has_more:
            return count


def folder_mb(folder: Path) -> float:
    """Megabytes of the files under a folder."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write a JSON document and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1)
    path.write_text(text + "\n")
    print(text)
