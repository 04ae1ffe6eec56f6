"""The machines of a cluster as EC2 knows them: found by their tags, without Ray and without any file of ours.

That is how a cluster is found and ended whose starter was killed: whatever became of its file, its head or its Ray.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eo_assets.errors import ClusterError
from resources.ec2.account import AwsAccount
from resources.ec2.cluster_file import CLUSTER_TAG, LONGEST_TAG, PROJECT_TAG, STARTER_TAG, cluster_name

ALIVE = ("pending", "running", "stopping", "stopped")
"""States in which a machine costs something, or may again: a stopped one pays for its disk."""

SHUTTING_DOWN = "shutting-down"

USED_TAG = "eo-assets:used-at"
"""On the head: when a run was last seen there, told by the head itself. Of such a run no other Dagster knows."""

STARTING_HOURS = 0.5
"""What a head is given to come up."""

END_SECONDS = 300.0
END_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. `address` is public where there is one; `ready` is Ray's own word for it, on a tag.

    `key`: EC2's name of the key pair that ssh needs there.
    """

    id: str
    kind: str
    instance_type: str
    spot: bool
    state: str
    launched: dt.datetime
    address: str
    project: str
    longest_hours: float | None
    ready: bool
    started_on: str
    used: dt.datetime | None = None
    key: str = ""

    @property
    def hours(self) -> float:
        """Hours since its start."""
        return (dt.datetime.now(dt.UTC) - self.launched).total_seconds() / 3600

    @property
    def ends(self) -> dt.datetime | None:
        """When it ends itself, UTC; None if nobody told it to."""
        return None if self.longest_hours is None else self.launched + dt.timedelta(hours=self.longest_hours)

    @property
    def too_old(self) -> bool:
        """It should have ended itself by now."""
        return self.longest_hours is not None and self.hours > self.longest_hours


def machines(aws: AwsAccount, project: str | None = None, states: Sequence[str] = ALIVE) -> tuple[Machine, ...]:
    """Every living machine of a project's cluster, or of all clusters of ours in the region; the head first."""
    wanted = [{"Name": "instance-state-name", "Values": list(states)}]
    if project is None:
        wanted.append({"Name": "tag-key", "Values": [PROJECT_TAG]})
    else:
        wanted.append({"Name": f"tag:{CLUSTER_TAG}", "Values": [cluster_name(project)]})
        wanted.append({"Name": f"tag:{PROJECT_TAG}", "Values": [project]})
    with aws.asked("looking for machines"):
        pages = aws.client("ec2").get_paginator("describe_instances").paginate(Filters=wanted)
        found = [one for page in pages for held in page["Reservations"] for one in held["Instances"]]
    return tuple(
        sorted(map(_machine, found), key=lambda machine: (machine.kind != "head", machine.launched, machine.id))
    )


def forgotten(found: Sequence[Machine]) -> str:
    """Why a cluster with these machines is nobody's any more, whatever runs; "" if it is not."""
    old = next((one for one in found if one.too_old), None)
    if old is not None:
        return f"{old.id} is older than {old.longest_hours:g} h and did not end itself"
    head = next((one for one in found if one.kind == "head"), None)
    if head is None:
        return "workers without a head: nobody gives them work, and nobody ends them" if found else ""
    if not head.ready and head.hours > STARTING_HOURS:
        return f"its head {head.id} is not up after {head.hours:.1f} h: whoever started it was stopped"
    return ""


def end(aws: AwsAccount, project: str, longest_s: float = END_SECONDS, started_on: str | None = None) -> int:
    """End a project's cluster and wait until its head is gone and nobody left. How many machines were ended.

    `started_on`: only what this computer has started, where two have begun at once.

    A head that shuts down starts machines as long as its autoscaler lives: they are ended too.

    Raises:
        ClusterError: some are still there after `longest_s`.
    """
    ended: set[str] = set()
    until = time.monotonic() + longest_s
    while found := _not_ended(aws, project, started_on):
        alive = [one.id for one in found if one.state in ALIVE]
        if time.monotonic() > until:
            if alive:
                names = ", ".join(alive)
                raise ClusterError(
                    f"{names} in {aws.region} did not end within {longest_s:.0f} s: look in the EC2 console"
                )
            break
        if alive:
            _terminate(aws, alive)
            ended.update(alive)
        if _not_ended(aws, project, started_on):
            time.sleep(END_POLL_SECONDS)
    return len(ended)


def _not_ended(aws: AwsAccount, project: str, started_on: str | None) -> list[Machine]:
    """Living machines, and the head until its last moment."""
    found = machines(aws, project, (*ALIVE, SHUTTING_DOWN))
    wanted = [one for one in found if started_on is None or one.started_on == started_on]
    return [one for one in wanted if one.state in ALIVE or one.kind == "head"]


def note_use(aws: AwsAccount, project: str, at: dt.datetime) -> None:
    """Write on a cluster's head that a run was there at a time, in UTC: whoever ends idle clusters reads it."""
    heads = [one.id for one in machines(aws, project) if one.kind == "head"]
    if not heads:
        return
    with aws.asked("noting that a run uses the cluster"):
        tags = [{"Key": USED_TAG, "Value": at.isoformat(timespec="seconds")}]
        aws.client("ec2").create_tags(Resources=heads, Tags=tags)


def _terminate(aws: AwsAccount, ids: Sequence[str]) -> None:
    with aws.asked(f"ending {len(ids)} machines"):
        aws.client("ec2").terminate_instances(InstanceIds=list(ids))


def _machine(found: dict[str, Any]) -> Machine:
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    longest, used = None, None
    with contextlib.suppress(KeyError, ValueError):  # whatever people write into tags, a cluster is found and ended
        longest = float(tags[LONGEST_TAG])
    with contextlib.suppress(KeyError, ValueError):
        used = dt.datetime.fromisoformat(tags[USED_TAG])
    return Machine(
        id=found["InstanceId"],
        kind=tags.get("ray-node-type", "worker"),
        instance_type=found["InstanceType"],
        spot=found.get("InstanceLifecycle") == "spot",
        state=found["State"]["Name"],
        launched=found["LaunchTime"],
        address=found.get("PublicIpAddress") or found.get("PrivateIpAddress") or "",
        project=tags.get(PROJECT_TAG, ""),
        longest_hours=longest,
        ready=tags.get("ray-node-status") == "up-to-date",
        started_on=tags.get(STARTER_TAG, ""),
        used=used,
        key=found.get("KeyName", ""),
    )
