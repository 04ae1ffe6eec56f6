"""Runs whose process has died without a word: a killed `eo-assets run`, or a killed run whose code server died with it.

Dagster would take such a run for one that goes on, for ever, and keep its place in the project's pool from every other.
"""

import contextlib
import fcntl
import socket
from pathlib import Path
from typing import TextIO

import dagster as dg

FOLDER = "alive"
"""Under the instance's folder: a file a run, locked by the process that carries it out."""

_held: dict[str, TextIO] = {}


def show_alive(instance: dg.DagsterInstance, run_id: str) -> None:
    """Hold a lock for a run until this process ends: the system gives it back, however that happens."""
    if run_id in _held:
        return
    path = _file(instance, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    _held[run_id] = handle


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this machine is gone; returns their ids.

    A run that has not come to its first asset yet, or that another machine carries out, is not judged.
    """
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]))
    lost = [run for run in started if _given_back(_file(instance, run.run_id))]
    for run in lost:
        instance.report_run_failed(run, "its process has died; what it committed stays, and the next run goes on")
    _forget(instance, {run.run_id for run in started})
    return [run.run_id for run in lost]


def _forget(instance: dg.DagsterInstance, started: set[str]) -> None:
    """Remove the files of runs that have ended and whose process has too."""
    for path in _file(instance, "").parent.glob(f"{socket.gethostname()}.*"):
        if path.name.rpartition(".")[2] not in started and _given_back(path):
            path.unlink(missing_ok=True)


def _given_back(path: Path) -> bool:
    """Was the lock taken once, and does nobody hold it any more?"""
    with contextlib.suppress(FileNotFoundError), path.open("r+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    return False


def _file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / FOLDER / f"{socket.gethostname()}.{run_id}"
