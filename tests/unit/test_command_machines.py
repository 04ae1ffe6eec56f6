"""A run's machines are asked of the budget before any is started, with everything that the run would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eo_assets.command_machines import require_machine_budget
from eo_assets.errors import BudgetExceeded, ProjectError
from eo_assets.project import LoadedProject
from jobs.launches import Request
from tests.integration.conftest import write_project, write_world

TOO_LITTLE = 0.2
"""US dollars; a run of any tile is estimated at 0.30: 0.1 h of the head and of two workers, a dollar an hour each."""


def project(folder: Path, types: Any = "c6i.large", usd: float = TOO_LITTLE) -> LoadedProject:
    write_world(folder)
    prices = {name: {"on_demand": 1.0, "spot": 1.0} for name in ("m6i.xlarge", "c6i.large", "x2iedn.large")}
    workers = {"instance_types": types, "most": 2}
    cluster = {"region": "eu-central-1", "ssh_from": "203.0.113.7/32", "workers": workers, "prices": prices}
    return write_project(folder, {"cluster": cluster, "budget": {"max_machine_usd": usd}})


@pytest.mark.parametrize("only", ["maps", "byoc_collection", "model", "predictions", "features"])
def test_an_asset_that_is_asked_for_brings_the_tiles_that_it_needs(only: str, tmp_path: Path) -> None:
    loaded = project(tmp_path / "fields")
    with pytest.raises(BudgetExceeded, match=r"max_machine_usd: 0\.2: .*would cost about 0\.30 US dollars"):
        require_machine_budget(loaded, Request(only=(only,)))


def test_what_needs_no_tile_costs_no_machine(tmp_path: Path) -> None:
    require_machine_budget(project(tmp_path / "fields"), Request(only=("aoi", "tile_grid")))


def test_an_asset_that_is_none_is_refused_before_a_machine_is_started(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="--only nope: there is no such asset"):
        require_machine_budget(project(tmp_path / "fields"), Request(only=("nope",)))


def test_a_type_whose_size_is_not_known_is_not_left_out_of_what_it_costs_at_the_most(tmp_path: Path) -> None:
    loaded = project(tmp_path / "fields", types=["c6i.large", "x2iedn.large"], usd=100)
    with pytest.raises(BudgetExceeded, match=r"how large x2iedn\.large is is not known here"):
        require_machine_budget(loaded, Request())
