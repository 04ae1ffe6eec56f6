"""What a run takes of machines: hours from first to last sight, by label, of those alone that it used."""

from __future__ import annotations

from typing import Any

import pytest

from eo_assets.core.cluster_cost import Hours
from resources.run_usage import INSTANCE_TYPE_LABEL, MARKET_LABEL, RunUsage


def node(name: str, kind: str = "", market: str = "spot", *, alive: bool = True) -> dict[str, Any]:
    labels = {INSTANCE_TYPE_LABEL: kind, MARKET_LABEL: market} if kind else {"ray.io/node-group": "x"}
    return {"NodeID": name, "Alive": alive, "Labels": labels}


def at(usage: RunUsage, hours: float) -> None:
    usage.clock = lambda: 3600 * hours


def test_hours_from_the_first_sight_to_the_last() -> None:
    usage = RunUsage()
    for used in ("head", "a", "b"):
        usage.worked_on(used)
    at(usage, 1)
    usage.saw([node("head", "m6i.xlarge", "on-demand"), node("a", "c6i.large"), node("idle", "c6i.large")])
    at(usage, 2)
    usage.saw([node("head", "m6i.xlarge", "on-demand"), node("a", "c6i.large"), node("b", "c6i.large")])
    at(usage, 4)
    usage.saw([node("head", "m6i.xlarge", "on-demand"), node("a", "c6i.large", alive=False), node("b", "c6i.large")])
    assert usage.hours() == (Hours("c6i.large", True, 1 + 2), Hours("m6i.xlarge", False, 3))


def test_a_machine_that_is_counted_once_works_from_its_first_tile_to_its_last() -> None:
    usage = RunUsage()
    at(usage, 1)
    usage.saw([node("a", "c6i.large")])
    usage.worked_on("a")
    at(usage, 1.5)
    usage.worked_on("a")
    assert usage.hours() == (Hours("c6i.large", True, 0.5),)


def test_one_machine_without_a_label_among_others_is_not_passed_over() -> None:
    usage = RunUsage(clock=lambda: 0)
    usage.saw([node("a", "c6i.large"), node("b")])
    usage.worked_on("a")
    usage.worked_on("b")
    assert [one.instance_type for one in usage.hours()] == ["", "c6i.large"]


def test_without_labels_nothing_is_said_of_machines() -> None:
    usage = RunUsage()
    usage.saw([node("a")])
    usage.worked_on("a")
    assert usage.hours() == ()


def test_lost_tries_are_tries_too() -> None:
    usage = RunUsage()
    usage.ended(30)
    usage.ended(10, lost=True)
    assert (usage.tries, usage.tries_lost, usage.cpu_seconds, usage.cpu_seconds_lost) == (2, 1, 40, pytest.approx(10))
