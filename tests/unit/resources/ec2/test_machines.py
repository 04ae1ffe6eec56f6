"""The end of a cluster on an EC2 whose machines take their time: what the head starts meanwhile is ended too."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import pytest

from resources.ec2 import machines as looked_at
from resources.ec2.account import AwsAccount
from resources.ec2.machines import end


@dataclass
class SlowEc2:
    """As EC2 does it: who is terminated shuts down for some looks, and the autoscaler goes on as long as the head."""

    looks_to_end: int
    states: dict[str, str] = field(default_factory=lambda: {"i-head": "running", "i-worker": "running"})
    looks: dict[str, int] = field(default_factory=dict)

    def get_paginator(self, name: str) -> SlowEc2:
        assert name == "describe_instances"
        return self

    def paginate(self, Filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (wanted,) = [one["Values"] for one in Filters if one["Name"] == "instance-state-name"]
        self._time_passes()
        found = [_described(name, state) for name, state in self.states.items() if state in wanted]
        return [{"Reservations": [{"Instances": found}]}]

    def terminate_instances(self, InstanceIds: list[str]) -> None:
        self.states |= dict.fromkeys(InstanceIds, "shutting-down")

    def _time_passes(self) -> None:
        for name in [name for name, state in self.states.items() if state == "shutting-down"]:
            self.looks[name] = self.looks.get(name, 0) + 1
            if self.looks[name] > self.looks_to_end:
                self.states[name] = "terminated"
            elif name == "i-head" and self.looks[name] == 3:
                self.states.setdefault("i-late", "pending")


def _described(name: str, state: str) -> dict[str, Any]:
    kind = "head" if name == "i-head" else "worker"
    return {
        "InstanceId": name, "InstanceType": "m6i.xlarge", "State": {"Name": state},
        "LaunchTime": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "Tags": [{"Key": "ray-node-type", "Value": kind}],
    }  # fmt: skip


class Account(AwsAccount):
    """That EC2, for whatever is asked."""

    def client(self, service: str) -> Any:
        return EC2[self.region]


EC2: dict[str, SlowEc2] = {}


def test_a_worker_that_the_head_still_starts_while_it_shuts_down_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_at, "END_POLL_SECONDS", 0.0)
    EC2["eu-central-1"] = slow = SlowEc2(looks_to_end=4)
    assert end(Account("eu-central-1"), "demo") == 3
    assert slow.states["i-head"] == "terminated"
    assert set(slow.states.values()) <= {"terminated", "shutting-down"}


def test_a_head_that_takes_for_ever_to_shut_down_is_not_waited_for_longer_than_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looked_at, "END_POLL_SECONDS", 0.01)
    EC2["eu-central-1"] = SlowEc2(looks_to_end=10**9)
    assert end(Account("eu-central-1"), "demo", longest_s=0.2) == 3
