"""Before a run on a cluster begins: its cost is asked first; what was started for a run that can't begin ends."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eo_assets.command_cluster_run import followed
from eo_assets.definitions import open_project
from eo_assets.errors import BudgetExceeded, ClusterError
from jobs.launches import Request

from .test_command_machines import project

QUIET = Console(quiet=True)


@dataclass
class Head:
    id: str = "i-1"
    instance_type: str = "m6i.xlarge"
    address: str = "203.0.113.7"


class OtherVersion:
    """A head on which everything is older."""

    def answer(self, words: list[str], given: bytes = b"") -> str:
        return '{"Python": "3.10.1", "ray": "2.0.0", "eo-assets": "0.0.1"}'


@dataclass
class Launcher:
    there: Head | None
    calls: list[str] = field(default_factory=list)

    def head(self) -> Head | None:
        return self.there

    def up(self) -> Head:
        self.calls.append("up")
        return Head()

    def down(self, *, own: bool = False) -> int:
        self.calls.append("down what was started here" if own else "down")
        return 1

    def shell(self, head: Head) -> OtherVersion:
        return OtherVersion()


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize(("there", "calls"), [(None, ["up", "down what was started here"]), (Head(), [])])
def test_only_a_cluster_that_was_started_for_it_is_ended(
    there: Head | None, calls: list[str], stop: bool, tmp_path: Path
) -> None:
    """And of that only what this computer has bought: `up` may have found a head that another one was starting."""
    file = tmp_path / "project.yaml"
    file.write_text("extends: demo\nstorage: {project_folder: s3://bucket/prefix}\n")
    launcher: Any = Launcher(there)
    with pytest.raises(ClusterError, match=r"ray 2\.0\.0 there"):
        followed("project.yaml", open_project(str(file)), launcher, Request(), QUIET, start=True, stop=stop)
    assert launcher.calls == calls


def test_a_run_that_the_budget_does_not_cover_starts_no_machine(tmp_path: Path) -> None:
    loaded = project(tmp_path / "fields")
    launcher: Any = Launcher(None)
    with pytest.raises(BudgetExceeded, match=r"max_machine_usd: 0\.2: .*nothing was started for it"):
        followed("project.yaml", loaded, launcher, Request(), QUIET, start=True, stop=True)
    assert launcher.calls == []


class Stopped(Launcher):
    """Somebody presses Ctrl-C while the head comes up; the launcher ends what it began."""

    def up(self) -> Head:
        raise KeyboardInterrupt

    def machines(self) -> tuple[Head, ...]:
        return ()


def test_who_stops_waiting_for_the_head_is_told_that_nothing_is_left(tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text("extends: demo\nstorage: {project_folder: s3://bucket/prefix}\n")
    console = Console(record=True, file=io.StringIO())
    launcher: Any = Stopped(None)
    with pytest.raises(KeyboardInterrupt):
        followed("p.yaml", open_project(str(file)), launcher, Request(), console, start=True, stop=True)
    assert "stopped: 0 machines are left of what was begun" in console.export_text()
