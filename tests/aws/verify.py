"""`make verify-aws`: one tile on a cluster of your own account, with a cap on money and time, and a log to commit.

    python -m tests.aws.verify PROJECT [--tile 222] [--usd 3] [--minutes 40]

Costs up to --usd for machines, and some 100 processing units of Sentinel Hub. Ends every machine of the project's
cluster at its end, however that comes: in `finally`, by a detached watchdog, and by `longest_hours` on the machines.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from eo_assets.cluster import aws_account, cluster_settings
from eo_assets.core.cluster_cost import Hours, cost_of
from eo_assets.definitions import open_project
from eo_assets.errors import ClusterError, EoAssetsError
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount
from resources.ec2.machines import END_SECONDS, end, machines
from tests.aws.masking import masked

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "docs/aws-runs"
MOST_HOURS = 0.75
SHUT_DOWN_S = END_SECONDS + 60.0
"""Kept back of the minutes, for the end of the machines."""


@dataclass
class Spent:
    """US dollars of every machine that was ever seen, an ended one with the hours that it had at the last look."""

    aws: AwsAccount
    project: str
    cluster: Cluster
    look_s: float
    seen: dict[str, Hours] = field(default_factory=dict)

    def usd(self) -> float:
        """By now, and until the next look. A ClusterError for a machine that has no price."""
        found = machines(self.aws, self.project)
        for one in found:
            self.seen[one.id] = Hours(one.instance_type, one.spot, one.hours + self.look_s / 3600)
        usd = cost_of(self.seen.values(), self.cluster.prices)
        if usd is None:
            raise ClusterError("a machine without a price in cluster.prices is there: what it costs can't be capped")
        return usd


@dataclass
class Run:
    """One verification: its limits, its watchdog's pipe, and what it has to tell."""

    project: str
    spent: Spent
    most_usd: float
    until: float
    look_s: float
    watchdog: IO[bytes]
    told: list[str] = field(default_factory=list)

    def step(self, *command: str, may_fail: bool = False) -> None:
        """A command of eo-assets to its end, looking at the money all the while. A ClusterError if it fails."""
        name = "eo-assets " + " ".join(command)
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", *command],
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            )  # fmt: skip
            self._tell(process.pid)
            try:
                self._wait(process, name)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._tell(0)
                output.seek(0)
                self.told.append(_said(name, process.returncode, time.monotonic() - began, output.read()))
        if process.returncode and not may_fail:
            raise ClusterError(f"{name} ended with {process.returncode}")

    def _wait(self, process: subprocess.Popen[bytes], name: str) -> None:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(self.look_s, max(self.until - time.monotonic(), 0.1)))
                return
            if (usd := self.spent.usd()) > self.most_usd:
                raise ClusterError(f"{name}: {usd:.2f} USD by now, more than {self.most_usd:g}: ended")
            if time.monotonic() > self.until:
                raise ClusterError(f"{name}: no time is left: ended")

    def _tell(self, group: int) -> None:
        try:
            self.watchdog.write(f"{group}\n".encode())
            self.watchdog.flush()
        except OSError:
            raise ClusterError("the watchdog is gone, or time is out: nothing goes on without it") from None


def verify(project: str, tile: str, most_usd: float, minutes: float, look_s: float, logs: Path) -> bool:
    """The whole verification. Whether all of it went well; its log is written in either case."""
    loaded = open_project(project)
    cluster = cluster_settings(loaded)
    aws = aws_account(cluster)
    refuse(cluster, minutes)
    if left := machines(aws, loaded.project.name):
        raise ClusterError(
            f"{len(left)} machines of {loaded.project.name} are there: end them, or name another project"
        )
    until = time.monotonic() + minutes * 60 - min(SHUT_DOWN_S, minutes * 20)
    spent = Spent(aws, loaded.project.name, cluster, look_s)
    began, why = dt.datetime.now(dt.UTC), ""
    with watchdog(aws, loaded.project.name, minutes * 60) as pipe:
        run = Run(project, spent, most_usd, until, look_s, pipe)
        try:
            _steps(run, tile)
        except (EoAssetsError, KeyboardInterrupt) as error:
            why = str(error) or type(error).__name__
        finally:
            with contextlib.suppress(EoAssetsError):
                spent.usd()
            end(aws, loaded.project.name)
            left = machines(aws, loaded.project.name)
        with contextlib.suppress(OSError):
            pipe.write(b"" if left else b"done\n")
            pipe.flush()
    why = why or (f"{len(left)} machines are left" if left else "")
    path = write_log(logs, began, run, why, left=len(left))
    print(f"{path}: {why or 'everything went well'}")
    return not why


def refuse(cluster: Cluster, minutes: float) -> None:
    """A ClusterError where the cost could not be capped, or the machines might outlive the verification by much."""
    types = {cluster.head.instance_type: False, **dict.fromkeys(cluster.workers.instance_types, True)}
    spot = cluster.workers.most_spot > 0
    for name, worker in types.items():
        price = cluster.prices.get(name)
        if price is None or not price.on_demand or (worker and spot and not price.spot):
            raise ClusterError(f"cluster.prices has no whole price of {name}: write on_demand and spot, by the hour")
    if cluster.longest_hours > MOST_HOURS:
        raise ClusterError(f"cluster.longest_hours: {cluster.longest_hours:g}: set it to {MOST_HOURS} for this")
    if minutes > 40:
        raise ClusterError("--minutes is 40 at the most")


def _steps(run: Run, tile: str) -> None:
    run.step("doctor", run.project, may_fail=True)
    run.step("cluster", "setup", run.project)
    run.step("doctor", run.project)
    run.step("cluster", "up", run.project)
    run.step("cluster", "guard", run.project)
    run.step("run", run.project, "--ray", "ec2", "--start", "--stop", "-t", tile)
    run.step("cluster", "down", run.project)


@contextlib.contextmanager
def watchdog(aws: AwsAccount, project: str, seconds: float) -> Iterator[IO[bytes]]:
    """A detached process that ends the machines if this one dies or time is out; what it is told goes into its pipe."""
    asked = {"region": aws.region, "profile": aws.profile, "project": project, "seconds": seconds}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.aws.watchdog", json.dumps(asked)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield process.stdin
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SHUT_DOWN_S)


def _said(name: str, code: int, seconds: float, output: str) -> str:
    return f"## {name}\n\n{seconds:.0f} s, ended with {code}\n\n```\n{output.strip()}\n```\n"


def write_log(logs: Path, began: dt.datetime, run: Run, why: str, *, left: int) -> Path:
    """A page that may be committed, of a name that is not taken."""
    usd = cost_of(run.spent.seen.values(), run.spent.cluster.prices) or 0.0
    head = (
        f"# {'Failed' if why else 'Passed'}: one tile on EC2, {began:%Y-%m-%d}\n\n"
        f"Written by `make verify-aws`, began {began:%H:%M} UTC. Machines seen: {len(run.spent.seen)}, "
        f"{usd:.2f} USD at most by the project's prices (cap {run.most_usd:g}). Left at the end: {left}.\n"
        f"{f'Why it failed: {why}' if why else ''}\n"
    )
    logs.mkdir(parents=True, exist_ok=True)
    names = [f"{began:%Y-%m-%d}.md", *(f"{began:%Y-%m-%d}-{number}.md" for number in range(2, 100))]
    path = next(logs / name for name in names if not (logs / name).exists())
    path.write_text(masked("\n".join([head, *run.told]), os.environ))
    return path


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project")
    parser.add_argument("--tile", default="222")
    parser.add_argument("--usd", type=float, default=3.0)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--look", type=float, default=30.0, help="seconds between looks at the cost")
    parser.add_argument("--logs", type=Path, default=LOGS)
    said = parser.parse_args(words)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _stop)
    try:
        return 0 if verify(said.project, said.tile, said.usd, said.minutes, said.look, said.logs) else 1
    except EoAssetsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
