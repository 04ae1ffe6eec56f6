"""The head's runner with a stand-in for `eo-assets` on the path: one run at a time, its code, and the cluster's end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

RUNNER = "run_on_head.sh"
PROGRAM = """#!/bin/bash
echo "$@ with $SH_CLIENT_ID" >> {folder}/called
[ "$1" = cluster ] && exit 0
while [ -e {folder}/hold ]; do sleep 0.05; done
echo "made of it"
exit $(cat {folder}/ends-with)
"""


@dataclass(frozen=True)
class Head:
    """A folder of the head, where the project was put."""

    folder: Path
    environment: dict[str, str]

    def start(self, *words: str, project: str = "name: mine\n") -> int:
        """Send a project, as `eo-assets run` does, and begin its run; how that ends."""
        sent = self.folder / "next"
        sent.mkdir(exist_ok=True)
        shutil.copy(str(files("resources.ec2").joinpath(RUNNER)), sent)
        (sent / "project.yaml").write_text(project)
        return self._run(sent, "start", *words).returncode

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run(self.folder, *words)

    def _run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / RUNNER), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment, timeout=60)

    def called(self, *, notes: bool = False) -> list[str]:
        """What the stand-in was called with: all but the notes that a run goes on, or those alone."""
        file = self.folder / "called"
        said = file.read_text().splitlines() if file.exists() else []
        return [line for line in said if line.startswith("cluster in-use ") is notes]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    home, program = tmp_path / "home", tmp_path / "bin/eo-assets"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/eo-assets.environment").write_text("SH_CLIENT_ID='mine'\n")
    program.parent.mkdir()
    program.write_text(PROGRAM.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "ends-with").write_text("0")
    path = f"{program.parent}:{os.environ['PATH']}"
    yield Head(tmp_path, {**os.environ, "HOME": str(home), "PATH": path})
    (tmp_path / "hold").unlink(missing_ok=True)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_who_follows_it_sees_what_it_says_and_ends_as_it_does(head: Head, code: int) -> None:
    (head.folder / "ends-with").write_text(str(code))
    assert head.start("never", "--ray", "auto", "--tile", "a tile") == 0
    followed = head.run("follow")
    assert (followed.returncode, followed.stdout) == (code, "made of it\n")
    assert head.called() == ["run project.yaml --ray auto --tile a tile with mine"]


def test_a_second_one_is_told_that_one_is_under_way(head: Head) -> None:
    (head.folder / "hold").touch()
    assert head.start("never") == 0
    assert head.start("never", project="name: another\n") == 75
    (head.folder / "hold").unlink()
    assert head.run("follow").returncode == 0
    assert len(head.called()) == 1
    assert (head.folder / "project.yaml").read_text() == "name: mine\n", "what is sent meanwhile is another run's"
    assert head.start("never") == 0 and head.run("follow").returncode == 0, "the lock is given back"


def test_the_cluster_ends_after_it(head: Head) -> None:
    assert head.start("0") == 0 and head.run("follow").returncode == 0
    _until(lambda: len(head.called()) == 2)
    assert head.called()[1].startswith("cluster down project.yaml")


def test_while_it_goes_on_the_head_says_so(head: Head) -> None:
    (head.folder / "hold").touch()
    assert head.start("never") == 0
    _until(lambda: head.called(notes=True))
    process = (head.folder / "pid").read_text().strip()
    assert head.called(notes=True) == [f"cluster in-use project.yaml --while {process} with mine"]
    (head.folder / "hold").unlink()
    assert head.run("follow").returncode == 0


def test_a_run_that_is_killed_is_told(head: Head) -> None:
    (head.folder / "hold").touch()
    assert head.start("never") == 0
    os.kill(int((head.folder / "pid").read_text()), signal.SIGKILL)
    assert head.run("follow").returncode == 137


def _until(condition: object) -> None:
    assert callable(condition)
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)
