"""Dagster as it runs in life: code server, webserver and daemon as processes of their own, asked through GraphQL."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from eo_assets.definitions import PROJECTS_VARIABLE
from eo_assets.instance import dagster_home, open_instance
from eo_assets.project import LoadedProject

ROOT = Path(__file__).parents[2]
LOCATION, REPOSITORY = "eo_assets", "__repository__"
ENDED = frozenset({"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"})
RUN_ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})

BACKFILL = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename
  ... on PartitionBackfill { status numPartitions error { message }
    runs { runId status tags { key value } assetSelection { path } }
    assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
      assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } } }
  ... on PythonError { message } } }"""

STATES = """
query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetPartitionStatuses {
  ... on DefaultPartitionStatuses {
    materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } } } }"""


@dataclass
class Servers:
    """The processes of one Dagster instance over a project, and what can be asked of them."""

    loaded: LoadedProject
    home: Path
    port: int
    code_port: int
    environment: Mapping[str, str]
    daemon_module: str = "dagster._daemon"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start the `code` server, the `webserver` or the `daemon`; its output goes to a file beside dagster.yaml."""
        workspace = ["-w", str(self.home / "workspace.yaml")]
        arguments = {
            "code": ["api", "grpc", "-m", "eo_assets.definitions", "-h", "127.0.0.1", "-p", str(self.code_port)],
            "webserver": ["-h", "127.0.0.1", "-p", str(self.port), *workspace],
            "daemon": ["run", *workspace],
        }[name]
        module = {"code": "dagster", "webserver": "dagster_webserver", "daemon": self.daemon_module}[name]
        with (self.home / f"{name}.txt").open("ab") as file:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", module, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.home,
                start_new_session=True,
            )
        return self.processes[name]

    def kill(self, name: str) -> None:
        """kill -9 of one process and of what it started."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def said(self, name: str) -> str:
        """What a process has printed."""
        return (self.home / f"{name}.txt").read_text(errors="replace")

    def is_up(self) -> bool:
        """Does the webserver show the project? RuntimeError if a process has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"the {name} ended at once:\n{self.said(name)[-3000:]}")
        try:
            found = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        except (requests.ConnectionError, requests.Timeout, RuntimeError):
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer to a GraphQL request. A refusal is a RuntimeError."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=300).json()
        if "errors" in answer:
            raise RuntimeError(str(answer["errors"])[:3000])
        return answer["data"]

    def key(self, asset: str) -> dict[str, list[str]]:
        """An asset's key as GraphQL wants it."""
        return {"path": [self.loaded.project.name, asset]}

    def backfill(
        self,
        assets: Sequence[str],
        partitions: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        **more: Any,
    ) -> str:
        """Launch a backfill as the UI does: of these partitions, of all of them if None. Returns its id."""
        asked: dict[str, Any] = {
            "assetSelection": [self.key(asset) for asset in assets],
            "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
            **({"allPartitions": True} if partitions is None else {"partitionNames": list(partitions)}),
            **more,
        }
        query = """mutation($asked: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $asked) {
          __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
          ... on PartitionKeysNotFoundError { message } ... on UnauthorizedError { message } } }"""
        answer = self.ask(query, asked=asked)["launchPartitionBackfill"]
        if "backfillId" not in answer:
            raise RuntimeError(str(answer))
        return str(answer["backfillId"])

    def reexecute(self, backfill: str, strategy: str = "FROM_FAILURE") -> str:
        """Re-execute a backfill from failure, as the UI's button does. Returns the new one's id."""
        query = """mutation($asked: ReexecutionParams!) { reexecutePartitionBackfill(reexecutionParams: $asked) {
          __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
        answer = self.ask(query, asked={"parentRunId": backfill, "strategy": strategy})["reexecutePartitionBackfill"]
        if "backfillId" not in answer:
            raise RuntimeError(str(answer))
        return str(answer["backfillId"])

    def backfill_state(self, backfill: str) -> dict[str, Any]:
        """Status, runs and counts of a backfill."""
        found: dict[str, Any] = self.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
        return found

    def wait_for_backfill(self, backfill: str, timeout_s: float = 600) -> dict[str, Any]:
        """The state of a backfill once it and its runs have ended."""
        return until(
            lambda: found if (found := self.backfill_state(backfill)).get("status") in ENDED else None,
            f"backfill {backfill}",
            timeout_s,
        )

    def materialize(self, assets: Sequence[str], config: Mapping[str, Any] | None = None) -> str:
        """Launch a run of assets without partitions, as the UI's Materialize does. Returns the run's id."""
        query = """mutation($asked: ExecutionParams!) { launchPipelineExecution(executionParams: $asked) { __typename
          ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
          ... on RunConfigValidationInvalid { errors { message } } } }"""
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [self.key(asset) for asset in assets],
        }
        asked = {"selector": selector, "mode": "default", "runConfigData": dict(config or {})}
        answer = self.ask(query, asked=asked)["launchPipelineExecution"]
        if "run" not in answer:
            raise RuntimeError(str(answer))
        return str(answer["run"]["runId"])

    def run_status(self, run: str) -> str:
        """The status of a run."""
        query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        return str(self.ask(query, id=run)["runOrError"]["status"])

    def wait_for_run(self, run: str, timeout_s: float = 300) -> str:
        """How a run ended."""
        return until(lambda: status if (status := self.run_status(run)) in RUN_ENDED else None, f"run {run}", timeout_s)

    def terminate(self, run: str) -> str:
        """Terminate a run as the UI's button does; returns the kind of the answer."""
        query = (
            """mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename } }"""
        )
        return str(self.ask(query, id=run)["terminateRun"]["__typename"])

    def partition_states(self, asset: str) -> dict[str, list[str]]:
        """The partitions of an asset by state: materialized, failed, missing, materializing."""
        found = self.ask(STATES, key=self.key(asset))["assetNodeOrError"]["assetPartitionStatuses"]
        return {
            "materialized": found["materializedPartitions"],
            "failed": found["failedPartitions"],
            "missing": found["unmaterializedPartitions"],
            "materializing": found["materializingPartitions"],
        }


def until(condition: Callable[[], Any], what: str, timeout_s: float) -> Any:
    """Wait for something that another process does; returns it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.3)
    return found


@contextlib.contextmanager
def servers(loaded: LoadedProject, config: str | None = None, *, quick: bool = False) -> Iterator[Servers]:
    """Code server, webserver and daemon of a project, up and answering; none of them is left behind.

    `config` takes the place of the instance's own dagster.yaml; a `quick` daemon looks around more often.
    """
    with own_environment(loaded) as environment:
        home = dagster_home(loaded)
        if config is not None:
            (home / "dagster.yaml").write_text(config)
        # Once by one process: several that make the same database at the same time get into each other's way.
        open_instance(loaded).dispose()
        started = Servers(loaded, home, free_port(), free_port(), environment)
        started.daemon_module = "tests.simulation.quick_daemon" if quick else started.daemon_module
        grpc = {"host": "127.0.0.1", "port": started.code_port, "location_name": LOCATION}
        (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": grpc}]}))
        try:
            for name in ("code", "webserver", "daemon"):
                started.start(name)
            until(started.is_up, "the webserver", 180)
            yield started
        finally:
            for name in list(started.processes):
                started.kill(name)


@contextlib.contextmanager
def own_environment(loaded: LoadedProject) -> Iterator[dict[str, str]]:
    """The environment of the processes: this one's, the project's instance and code."""
    before = os.environ.pop("DAGSTER_HOME", None)
    try:
        home = dagster_home(loaded)
        yield {
            **os.environ,
            "DAGSTER_HOME": str(home),
            PROJECTS_VARIABLE: str(loaded.file),
            "PYTHONPATH": str(ROOT),
        }
    finally:
        os.environ.pop("DAGSTER_HOME", None)
        if before is not None:
            os.environ["DAGSTER_HOME"] = before


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
