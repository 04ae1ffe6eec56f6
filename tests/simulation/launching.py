"""The two ways in which a project is brought up to date, each so that it can be killed from outside and goes on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from eo_assets.assets.area import tiles_of
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from jobs.project_jobs import MAP, PREDICT, PUBLISH, TILES, TRAIN
from tests.simulation.daemon import ENDED, RUN_ENDED, Servers, own_environment
from tests.simulation.killing import DAEMON, RUN
from tests.simulation.measures import run_processes

UNFINISHED = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) {
  ... on Runs { results { runId } } } }"""
MARK = """mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) {
  __typename } }"""
CANCEL = "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
BY_ITSELF_S = 60.0
"""How long Dagster is given to notice that a run's process is gone, before a person says so."""


def command(loaded: LoadedProject) -> list[str]:
    """What a person types."""
    return [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", "run", str(loaded.file)]


def run_command(loaded: LoadedProject) -> float:
    """A run that nobody disturbs and that has to succeed; its wall seconds."""
    started = time.monotonic()
    with own_environment(loaded) as environment:
        done = subprocess.run(command(loaded), env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"an undisturbed run failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.monotonic() - started


class CommandLaunch:
    """`eo-assets run` in a process of its own."""

    def __init__(self, loaded: LoadedProject) -> None:
        self._loaded = loaded

    def __enter__(self) -> CommandLaunch:
        with own_environment(self._loaded) as environment, (self._loaded.file.parent / "runs.txt").open("ab") as file:
            self._process = subprocess.Popen(
                command(self._loaded), stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        if not self.over():
            self._process.kill()
        self._process.wait()

    def pid(self, target: str) -> int | None:
        """The run's process."""
        return self._process.pid

    def over(self) -> bool:
        """Has it ended?"""
        return self._process.poll() is not None

    def goes_on(self, target: str, patience_s: float) -> bool:
        """Wait until it has ended by itself; False if it had not after so long."""
        return _wait(self.over, patience_s)


class DagsterLaunch:
    """What is missing, launched step by step through the webserver: backfills of tiles, runs of what spans them."""

    def __init__(self, started: Servers, loaded: LoadedProject) -> None:
        self._servers, self._loaded = started, loaded
        self._backfills: list[str] = []
        self._last = threading.Event()
        self._thread = threading.Thread(target=self._walk, daemon=True)
        self.errors: list[str] = []

    def __enter__(self) -> DagsterLaunch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._last.set()
        if not self.over():
            for backfill in self._backfills:
                self._servers.ask(CANCEL, id=backfill)
            self._give_up_runs()
        self._thread.join(120)

    def pid(self, target: str) -> int | None:
        """The daemon, or the process of the run that goes on."""
        if target == DAEMON:
            return self._servers.processes["daemon"].pid
        return next((process.pid for process in run_processes(self._servers)), None)

    def over(self) -> bool:
        """Has everything been launched and ended?"""
        return not self._thread.is_alive()

    def goes_on(self, target: str, patience_s: float) -> bool:
        """Wait until the step that was hit has ended; no other is launched. False if it had not after so long.

        A daemon is started again, as its supervisor would; a run whose process was killed is given up by hand if
        Dagster does not notice.
        """
        self._last.set()
        if target == DAEMON:
            self._servers.kill("daemon")
            self._servers.start("daemon")
        if target == RUN and not _wait(self.over, BY_ITSELF_S):
            self._give_up_runs()
        return _wait(self.over, patience_s)

    def _give_up_runs(self) -> None:
        for process in run_processes(self._servers):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for run in self._servers.ask(UNFINISHED)["runsOrError"]["results"]:
            self._servers.ask(MARK, id=run["runId"])

    def _walk(self) -> None:
        for assets in self._steps():
            if self._last.is_set():
                return
            try:
                self._launch(assets)
            except (RuntimeError, OSError) as error:
                self.errors.append(f"{assets[0]}: {error}")
                return

    def _steps(self) -> Iterator[Sequence[str]]:
        """The launches of which an output is missing, looked at when their turn has come."""
        store = tile_store(self._loaded)
        counts = dict.fromkeys((*TILES, *PREDICT), len(tiles_of(store)))
        for assets in (TILES, TRAIN, PREDICT, MAP, PUBLISH):
            if any(len(store.records(asset)) < counts.get(asset, 1) for asset in assets):
                yield assets

    def _launch(self, assets: Sequence[str]) -> None:
        if assets in (TRAIN, PUBLISH):
            run = self._servers.materialize(assets)
            _wait(lambda: self._servers.run_status(run) in RUN_ENDED, 3600)
            return
        self._backfills.append(self._servers.backfill(assets))
        _wait(lambda: self._servers.backfill_state(self._backfills[-1]).get("status") in ENDED, 3600)


def _wait(over: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not over():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True
