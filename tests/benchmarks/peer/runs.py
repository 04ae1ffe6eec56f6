"""Both systems, one after the other, over the same scene with cold pages: what every command costs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.peer.eogrow import PIPELINES, EoGrow
from tests.benchmarks.peer.home import Home
from tests.benchmarks.peer.measure import Processes, Usage, forget_pages, measured
from tests.benchmarks.peer.ours import Ours
from tests.benchmarks.peer.plain_side import Plain
from tests.benchmarks.peer.ray_head import ray_head

Side = Literal["eogrow", "ours", "plain"]
RAY, ADOPT, MODEL, WALK, EVERYTHING = "Ray's start", "adopt", "model", "tile stages and maps", "everything"
EVERY_PIXEL = "tile stages and maps, of every pixel"
STAGES = tuple(PIPELINES)
OURS = Path(sys.executable)


@dataclass(frozen=True, slots=True)
class Row:
    """One command of a round: what it cost, and by how much it made the project folder grow."""

    side: Side
    stage: str
    usage: Usage
    bytes: int = 0
    files: int = 0


@dataclass
class Runner:
    """Runs commands of one side, each on cold pages: of the scene, of its project folder and of a bucket's server."""

    side: Side
    home: Home
    cold: Sequence[Path]
    log: Path
    processes: Processes

    def __call__(self, stage: str, command: Sequence[str | Path], environment: dict[str, str]) -> Row:
        """Run, measure, tell."""
        forget_pages(*self.cold, self.home.folder)
        before = self.home.space()
        usage = measured(self.processes, command, environment, self.log, self.home.folder)
        after = self.home.space()
        row = Row(self.side, stage, usage, after[0] - before[0], after[1] - before[1])
        print(f"{self.side:7s} {stage:22s} {usage.wall_s:8.1f} s {usage.cpu_s:8.1f} CPU s", flush=True)
        return row


@dataclass(frozen=True)
class Conditions:
    """The same for both sides: CPUs of Ray, the log of everything, and folders whose pages are to be cold."""

    cpus: int
    log: Path
    cold: Sequence[Path]

    def runner(self, side: Side, home: Home, processes: Processes) -> Runner:
        """Of a side."""
        return Runner(side, home, self.cold, self.log, processes)


def eogrow_round(eogrow: EoGrow, conditions: Conditions, model: Path | None) -> list[Row]:
    """Every pipeline of the example, a process each, on a Ray that is there. With a `model` none is trained."""
    eogrow.prepare(model)
    python, more = eogrow.python, eogrow.for_gdal()
    with Processes.watched() as processes, ray_head(processes, python, conditions.cpus, conditions.log, more) as head:
        run = conditions.runner("eogrow", eogrow.home, processes)
        rows = [Row("eogrow", RAY, head.usage)]
        wanted = [stage for stage in STAGES if stage != MODEL or model is None]
        return rows + [run(stage, eogrow.run(stage), eogrow.environment(head)) for stage in wanted]


def our_stages(ours: Ours, conditions: Conditions, model: Path, *, train: bool) -> list[Row]:
    """A command a stage, on a Ray that is there; the given `model` predicts, and one is trained on the side."""
    ours.prepare(model)
    with Processes.watched() as processes, ray_head(processes, OURS, conditions.cpus, conditions.log) as head:
        run, environment = conditions.runner("ours", ours.home, processes), ours.environment(head)
        rows = [Row("ours", RAY, head.usage), run(ADOPT, ours.adopt(), environment)]
        for stage in STAGES:
            if stage != MODEL or train:
                given = stage in ("predictions", "maps")
                rows.append(run(stage, ours.run(stage, given_model=given, ray=head), environment))
    return rows


def our_walk(
    ours: Ours, conditions: Conditions, model: Path, around: AbstractContextManager[Any] | None = None
) -> list[Row]:
    """From adopted tiffs to maps by one command, on a Ray that is there, with the given model: all but training.

    `around` that command somebody else may look on.
    """
    ours.prepare(model)
    with Processes.watched() as processes, ray_head(processes, OURS, conditions.cpus, conditions.log) as head:
        run, environment = conditions.runner("ours", ours.home, processes), ours.environment(head)
        run(ADOPT, ours.adopt(), environment)
        with around or contextlib.nullcontext():
            return [run(WALK, ours.run("training_data", "maps", given_model=True, ray=head), environment)]


def our_everything(ours: Ours, conditions: Conditions) -> list[Row]:
    """`eo-assets adopt` and one `eo-assets run`, which starts a Ray of its own and trains: what a user types."""
    ours.prepare()
    with Processes.watched() as processes:
        run = conditions.runner("ours", ours.home, processes)
        adopted = run(ADOPT, ours.adopt(), ours.environment())
        return [added(EVERYTHING, [adopted, run("run", ours.run("maps"), ours.environment())])]


def plain_walk(plain: Plain, conditions: Conditions) -> list[Row]:
    """The plain script, from tiffs to maps."""
    plain.prepare()
    with Processes.watched() as processes:
        run = conditions.runner("plain", Home(plain.folder), processes)
        return [run(WALK, plain.run(), dict(os.environ))]


def added(stage: str, rows: Sequence[Row]) -> Row:
    """The sum of rows of one side that followed one another: of memory the most."""
    usages = [row.usage for row in rows]
    usage = Usage(
        wall_s=sum(usage.wall_s for usage in usages),
        cpu_s=sum(usage.cpu_s for usage in usages),
        tree_mb=max(usage.tree_mb for usage in usages),
        largest_mb=max(usage.largest_mb for usage in usages),
        worker_mb=max(usage.worker_mb for usage in usages),
        exact=all(usage.exact for usage in usages),
    )
    return Row(rows[0].side, stage, usage, sum(row.bytes for row in rows), sum(row.files for row in rows))
