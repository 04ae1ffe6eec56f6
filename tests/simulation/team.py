"""deploy/dagster/ as it stands, on this machine: its dagster.yaml, its environment and the very commands of its units.

Taken from the files: what is run and with which arguments. Put in their place: folders, ports, the bucket, the address
of Postgres, and keys for the bucket, which a machine in AWS has from its role. Not proved here: what systemd itself
does with a unit (users, protected folders, restarts).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eo_assets.project import LoadedProject
from tests.simulation.daemon import ROOT, Servers, free_port, until

DEPLOY = ROOT / "deploy/dagster"
UNITS = {"code": "eo-assets-code", "webserver": "eo-assets-webserver", "daemon": "eo-assets-daemon"}
GUESTS = "guests"
PROGRAMS = "/opt/eo-assets/bin/"
WORKSPACE = "/etc/eo-assets/workspace.yaml"
PORTS = ("3000", "3001", "4000")
BUCKET = "team-logs"
OURS = ("DAGSTER_", "EO_ASSETS_", "AWS_", "SH_")


@dataclass
class Team(Servers):
    """The processes of the units. `ports` says which port stands for which of the units'."""

    ports: Mapping[str, int] = field(default_factory=dict)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start what a unit starts: `code`, `webserver`, `daemon` or `guests`."""
        if name == "code":
            subprocess.run(self.command(name, "ExecStartPre"), check=True, env=self.environment, cwd="/")
        with (self.home / f"{name}.txt").open("ab") as file:
            self.processes[name] = subprocess.Popen(
                self.command(name),
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd="/",  # as systemd does
                start_new_session=True,
            )
        return self.processes[name]

    def command(self, name: str, key: str = "ExecStart") -> list[str]:
        """A command of a unit with this machine's programs, ports and workspace."""
        words = shlex.split(setting(name, key))
        places = {WORKSPACE: str(self.home / "workspace.yaml"), **{port: str(self.ports[port]) for port in PORTS}}
        program = words[0].removeprefix(PROGRAMS)
        script = [] if program == "python" else [str(Path(sys.executable).with_name(program))]
        return [sys.executable, *script, *(places.get(word, word) for word in words[1:])]

    def as_guest(self) -> Servers:
        """The same, asked through the webserver of guests."""
        return replace(self, port=self.ports["3001"])


def setting(name: str, key: str) -> str:
    """What a unit says, `ExecStart` for example. Each is said once."""
    lines = (DEPLOY / f"{UNITS.get(name, f'eo-assets-{name}')}.service").read_text().splitlines()
    (found,) = (line.partition("=")[2] for line in lines if line.startswith(f"{key}="))
    return found


def environment_file(values: Mapping[str, str]) -> dict[str, str]:
    """environment.example with its values replaced. A name that it lacks is a KeyError: then it has to be put there."""
    lines = (line for line in (DEPLOY / "environment.example").read_text().splitlines() if not line.startswith("#"))
    example = dict(line.split("=", 1) for line in lines if line)
    unknown = set(values) - set(example)
    if unknown:
        raise KeyError(f"environment.example has no {', '.join(sorted(unknown))}")
    return {**example, **values}


@contextlib.contextmanager
def team(loaded: LoadedProject, home: Path, postgres_url: str, aws: Mapping[str, str], **more: str) -> Iterator[Team]:
    """What the four units start, up and answering, over an instance of deploy/dagster/dagster.yaml as it stands.

    `more` are further values of the environment file. Nothing is left behind in this machine's processes.
    """
    ports = {port: free_port() for port in PORTS}
    home.mkdir(parents=True)
    shutil.copy(DEPLOY / "dagster.yaml", home / "dagster.yaml")
    workspace = (DEPLOY / "workspace.yaml").read_text()
    (home / "workspace.yaml").write_text(workspace.replace("port: 4000", f"port: {ports['4000']}"))
    said = environment_file(
        {
            "DAGSTER_HOME": str(home),
            "EO_ASSETS_HOME": str(home.parent / "cache"),
            "EO_ASSETS_PROJECTS": str(loaded.file),
            "EO_ASSETS_POSTGRES_URL": postgres_url,
            "EO_ASSETS_LOGS_BUCKET": BUCKET,
            "EO_ASSETS_RAY": "local",
            **more,
        }
    )
    del said["RAY_AUTH_TOKEN_PATH"]  # of a cluster's head, and this machine is none
    mine = {
        key: value for key, value in os.environ.items() if not key.startswith(OURS) or key.startswith("EO_ASSETS_TEST_")
    }
    environment: dict[str, Any] = {**mine, **aws, **said, "PYTHONPATH": str(ROOT)}
    started = Team(loaded, home, ports["3000"], ports["4000"], environment, ports=ports)
    try:
        for name in (*UNITS, GUESTS):
            started.start(name)
        until(started.is_up, "the webserver", 180)
        until(started.as_guest().is_up, "the webserver of guests", 180)
        yield started
    finally:
        for name in list(started.processes):
            started.kill(name)
