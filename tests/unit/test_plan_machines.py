"""What `eo-assets plan` says of the machines of a cluster: the West Africa example, its arithmetic done again."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import eo_assets.projects.west_africa
from eo_assets.command_plan import Plan, make_plan, print_plan
from eo_assets.core.cluster_cost import START_HOURS
from eo_assets.errors import ClusterError, ProjectError

AREA = Path(next(iter(eo_assets.projects.west_africa.__path__))) / "input-data" / "aoi.geojson"
PRICES = "prices: {c6i.4xlarge: {on_demand: 0.78, spot: 0.31}, m6i.xlarge: {on_demand: 0.23, spot: 0.09}}"


def planned(folder: Path, workers: str, prices: str = PRICES, deadline: float | None = None) -> Plan:
    file = folder / "project.yaml"
    file.write_text(
        "extends: west_africa\nname: africa\ncluster:\n  region: eu-central-1\n  ssh_from: 203.0.113.7/32\n"
        f"  workers: {workers}\n  {prices}\n"
    )
    return make_plan(str(file), AREA, deadline_hours=deadline)


def told(plan: Plan) -> list[str]:
    said = io.StringIO()
    print_plan(plan, Console(file=said, width=80, highlight=False), names=False)
    lines = said.getvalue().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("machines, "))
    last = next(index for index, line in enumerate(lines) if line.startswith("a run on the cluster"))
    return lines[first:last]


def test_the_recommended_choice_is_marked_and_its_arithmetic_holds(tmp_path: Path) -> None:
    lines = told(planned(tmp_path, "{instance_types: c6i.4xlarge, most: 10}", deadline=0.12))
    (marked,) = [line for line in lines if line.startswith("->")]
    found = re.fullmatch(
        r"-> +(\d+) x c6i\.4xlarge +spot +667 tiles x ([\d.]+) s / \(\1 x (\d+)\) \+ 0\.1 h = ([\d.]+) h; "
        r"\1 x \4 h x \$0\.31 = \$([\d.]+), \$([\d.]+) with the head",
        marked,
    )
    assert found is not None, marked
    machines, seconds, at_a_time, hours, usd, with_head = (float(figure) for figure in found.groups())
    assert hours == pytest.approx(667 * seconds / 3600 / (machines * at_a_time) + START_HOURS, abs=0.006)
    assert hours <= 0.12
    assert usd == pytest.approx(machines * hours * 0.31, abs=0.02)
    assert with_head == pytest.approx(usd + hours * 0.23, abs=0.02)


def test_a_price_that_is_not_given_is_said(tmp_path: Path) -> None:
    lines = told(planned(tmp_path, "{instance_types: [c6i.4xlarge, m6i.4xlarge]}", "prices: {}"))
    assert [line for line in lines if line.startswith("cluster.prices")] == [
        f"cluster.prices.{key} is not given: its dollars are not known; add it"
        for key in ("m6i.xlarge.on_demand", "c6i.4xlarge.spot", "m6i.4xlarge.spot")
    ]
    assert any(line.startswith("->") and line.endswith("price not known") for line in lines)


def test_what_would_be_in_time_is_said_and_is(tmp_path: Path) -> None:
    workers = "{{instance_types: c6i.4xlarge, most: {}, spot_share: 1}}"
    lines = told(planned(tmp_path, workers.format(1), deadline=0.13))
    assert not any(line.startswith("->") for line in lines)
    found = re.fullmatch(
        r"nothing is done in 0\.13 h with workers\.most: 1; (\d+) x c6i\.4xlarge spot would be "
        r"\(raise workers\.most\), or --deadline ([\d.]+) with 1 x c6i\.4xlarge",
        lines[-1],
    )
    assert found is not None, lines[-1]
    assert any(line.startswith("->") for line in told(planned(tmp_path, workers.format(found[1]), deadline=0.13)))
    longer = planned(tmp_path, workers.format(1), deadline=float(found[2]))
    assert any(line.startswith("->") for line in told(longer))


def test_a_deadline_too_short_for_one_tile_says_so(tmp_path: Path) -> None:
    assert "one tile alone takes as long as that" in told(planned(tmp_path, "{most: 500}", deadline=0.1))[-1]


def test_a_deadline_that_no_machine_lives_to_see_is_told(tmp_path: Path) -> None:
    assert "machines end themselves before" in told(planned(tmp_path, "{most: 1}", deadline=25))[-1]


def test_the_machines_are_in_the_json_too(tmp_path: Path) -> None:
    said = json.loads(
        json.dumps(planned(tmp_path, "{instance_types: c6i.4xlarge, spot_share: 0.5}").as_json(names=False))
    )
    machines = said["machines"]
    assert machines["deadline_hours"] == 24.0  # cluster.longest_hours
    assert [one["recommended"] for one in machines["choices"]] == [True, False, False, False]
    first = machines["choices"][0]
    assert (first["instance_type"], first["spot"], first["machines"]) == ("m6i.xlarge", True, 1)
    assert first["usd"] == pytest.approx(first["hours"] * (0.09 + 0.23), abs=1e-3)


def test_a_run_on_the_cluster_is_estimated_at_the_dearest_that_it_may_have(tmp_path: Path) -> None:
    plan = planned(tmp_path, "{instance_types: c6i.4xlarge, most: 10, spot_share: 0.5}")
    usd = plan.as_json(names=False)["machines"]["usd_of_a_run_at_the_most"]
    hours = 667 * plan.machines.work.seconds_a_tile / 3600 / (5 * 16) + START_HOURS if plan.machines else 0
    assert usd == pytest.approx(hours * (5 * 0.78 + 0.23), abs=1e-3)


def test_a_budget_for_machines_needs_machines_and_their_prices(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("extends: west_africa\nbudget: {max_machine_usd: 10}\n")
    with pytest.raises(ProjectError, match=r"budget\.max_machine_usd: .*no `cluster:` section"):
        make_plan(str(tmp_path / "other.yaml"), AREA)
    priced = "{instance_types: c6i.4xlarge, spot_share: 1}"
    plan = planned(tmp_path, priced, f"{PRICES}\nbudget: {{max_machine_usd: 10}}")
    assert plan.loaded.project.budget.max_machine_usd == 10
    with pytest.raises(ProjectError, match=r"add cluster\.prices\.m6i\.4xlarge\.spot"):
        planned(tmp_path, "{instance_types: m6i.4xlarge}", f"{PRICES}\nbudget: {{max_machine_usd: 10}}")


def test_without_a_cluster_nothing_is_said_of_machines() -> None:
    assert "machines" not in make_plan("west_africa", None).as_json(names=False)
    with pytest.raises(ClusterError, match="--deadline is about machines"):
        make_plan("west_africa", None, deadline_hours=2)
