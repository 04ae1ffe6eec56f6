"""What a run's machines cost: refused above the budget, else booked by the hours of labelled machines, and reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eo_assets.assets.machine_spending import machine_ledger
from eo_assets.command_machines import require_machine_budget
from eo_assets.errors import BudgetExceeded
from eo_assets.stages.build import tile_store
from jobs.launches import Request
from resources.run_usage import INSTANCE_TYPE_LABEL, MARKET_LABEL
from tests.integration.conftest import write_project, write_world
from tests.simulation.ray_machines import RayMachines

ROOT = Path(__file__).parents[3]


def on_a_cluster(budget: float) -> dict[str, Any]:
    """A dollar an hour for the head and for a worker: a run is estimated at 0.1 h of the head and of two workers."""
    return {
        "cluster": {
            "region": "eu-central-1",
            "ssh_from": "203.0.113.7/32",
            "head": {"instance_type": "m6i.xlarge"},
            "workers": {"instance_types": "c6i.large", "most": 2},
            "prices": {"m6i.xlarge": {"on_demand": 1.0}, "c6i.large": {"on_demand": 3.0, "spot": 1.0}},
        },
        "budget": {"max_machine_usd": budget},
    }


def labels(instance_type: str, market: str) -> dict[str, str]:
    """The environment by which Ray's updater gives a node its labels."""
    return {"RAY_OVERRIDE_LABELS": json.dumps({INSTANCE_TYPE_LABEL: instance_type, MARKET_LABEL: market})}


def run(machines: RayMachines, folder: Path) -> subprocess.CompletedProcess[str]:
    """`eo-assets run` on the head; the local Sentinel Hub that it starts ends with the head, whose process it is."""
    command = [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", "run", "project.yaml", "--ray", machines.address]
    return subprocess.run(
        [*machines.machines[0].enter(), "env", "-C", str(folder), *command],
        env={**machines.environment, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def test_a_run_is_refused_above_the_budget_and_else_booked_and_reported(machines: RayMachines, tmp_path: Path) -> None:
    folder = tmp_path / "fields"
    write_world(folder)
    loaded = write_project(folder, on_a_cluster(budget=0.2))
    machines.head(**labels("m6i.xlarge", "on-demand"))
    machines.worker(cpus=2, memory=2 << 30, **labels("c6i.large", "spot"))

    with pytest.raises(BudgetExceeded, match=r"max_machine_usd: 0\.2: .*would cost about 0\.30 US dollars"):
        require_machine_budget(loaded, Request())
    refused = run(machines, folder)
    said = " ".join(refused.stdout.split())
    assert refused.returncode == 1, said + refused.stderr
    assert "budget.max_machine_usd: 0.2: this run (4 tiles; 2 x c6i.large spot and the head m6i.xlarge, 0.10 h" in said
    assert "would cost about 0.30 US dollars for machines in" in said and "nothing was started for it" in said
    assert not tile_store(loaded).records("tiffs") and not machine_ledger(loaded).months()

    loaded = write_project(folder, on_a_cluster(budget=5))
    require_machine_budget(loaded, Request())
    made = run(machines, folder)
    assert made.returncode == 0, made.stdout + made.stderr
    spendings = machine_ledger(loaded).months()[machine_ledger(loaded).month()].spendings.values()
    assert {(one.kind, one.service) for one in spendings} == {("machines", "ec2")}
    actual = sum(one.actual or 0.0 for one in spendings)
    assert all(one.actual is not None and one.actual < one.estimate for one in spendings), spendings
    assert actual > 0  # a launch of small tiles on workers that are warm may take less than a ten-thousandth
    assert all("h c6i.large" in one.note and "h m6i.xlarge" in one.note for one in spendings)
    [report] = [
        file for file in (folder / "logs").glob("*/report.html") if "lost with their machine" in file.read_text()
    ]
    text = " ".join(report.read_text().split())
    assert (
        "0 lost with their machine" in text and "h c6i.large spot" in text and f"${actual:,.2f}, estimated at $" in text
    )
    log = next(report.parent.glob("run.log")).read_text()
    assert "machines: 2 x c6i.large spot and the head m6i.xlarge, 0.10 h: about $0.30 at the most" in log

    told = subprocess.run(
        [sys.executable, "-m", "eo_assets.cli", "spend", str(loaded.file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "machines on EC2, US dollars:" in told
    assert f"of $5 for machines left in {machine_ledger(loaded).month()}" in told
