"""Ray clusters of several machines on this machine: real raylets, a real autoscaler, a driver beside the head."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.ray_machines import RayMachines, ray_machines, until, why_not


@dataclass
class Driver:
    """A process that hands out tiles, what it has said so far, and the folder in which its tiles say more."""

    process: subprocess.Popen[bytes]
    log: Path
    folder: Path

    @property
    def said(self) -> list[dict[str, Any]]:
        """What it said."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    @property
    def tiles(self) -> dict[int, str]:
        """The tiles that came back, and from which node; each once and without an error."""
        found = [line for line in self.said if "tile" in line]
        assert not [line for line in found if line["error"]], found
        assert len({line["tile"] for line in found}) == len(found), found
        return {line["tile"]: line["node"] for line in found}

    def started(self, tile: int) -> list[str]:
        """The nodes on which a tile has been started."""
        file = self.folder / f"{tile}.started"
        return file.read_text().split() if file.exists() else []

    def ended(self, seconds: float = 180) -> int:
        """Its exit status."""
        until(lambda: self.process.poll() is not None, f"an end of the driver; it said {self.said[-5:]}", seconds)
        return int(self.process.returncode)


@pytest.fixture
def machines() -> Iterator[RayMachines]:
    """None yet; all are switched off at the end."""
    reason = why_not()
    assert reason is None, reason
    with ray_machines() as there:
        yield there


@pytest.fixture
def driver(machines: RayMachines, tmp_path: Path) -> Iterator[Any]:
    """`driver(tiles, machines)` starts one."""
    started: list[Driver] = []

    def start(tiles: int, on_machines: int = 0, mib: int = 50) -> Driver:
        folder, log = tmp_path / "tiles", tmp_path / "driver.log"
        folder.mkdir()
        arguments = [machines.address, str(folder), str(tiles), str(on_machines), str(mib)]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*machines.machines[0].enter(), sys.executable, "-m", "tests.simulation.ray_driver", *arguments],
                env=machines.environment, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(Driver(process, log, folder))
        return started[-1]

    yield start
    machines.end()  # the driver runs on the head
    for one in started:
        one.process.wait(timeout=60)
