"""A cluster started on moto's EC2: what is bought, what is left when its starter is killed, and that it is ended."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
import yaml

from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount
from resources.ec2.launcher import ClusterLauncher
from resources.ec2.machines import end, machines
from tests.moto_server import Moto

ROOT = Path(__file__).parents[3]
START = """
import json, sys
from pathlib import Path
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount
from resources.ec2.launcher import ClusterLauncher
cluster = Cluster.model_validate_json(sys.argv[1])
ClusterLauncher("demo", cluster, AwsAccount(cluster.region), Path(sys.argv[2]), "1.0").up()
"""


@pytest.fixture
def launcher(cluster: Cluster, aws: AwsAccount, stack: str, tmp_path: Path) -> ClusterLauncher:
    return ClusterLauncher("demo", cluster, aws, tmp_path / "cache", "1.0")


@pytest.fixture
def starter(launcher: ClusterLauncher, moto: Moto, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts the cluster, at the point where the head is bought and waited for.

    Behind moto's addresses there are machines of other people: no ssh goes there.
    """
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\nexec sleep 60\n")
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", START, launcher.cluster.model_dump_json(), str(launcher.home)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    while not any({"Key": "ray-node-status", "Value": "waiting-for-ssh"} in one["Tags"] for one in moto.machines()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def test_the_head_is_what_the_project_asked_for(starter: Any, moto: Moto, launcher: ClusterLauncher) -> None:
    (head,) = moto.machines()
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert (head["InstanceType"], head["ImageId"]) == ("m6i.xlarge", launcher.cluster.ami)
    assert tags["ray-cluster-name"] == "eo-assets-demo" and tags["eo-assets:project"] == "demo"
    assert "HeadProfile" in head["IamInstanceProfile"]["Arn"]
    assert [group["GroupName"].split("-")[2] for group in head["SecurityGroups"]] == ["SecurityGroup"]
    disk = head["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    (volume,) = moto.client("ec2").describe_volumes(VolumeIds=[disk])["Volumes"]
    assert (volume["Size"], volume["Encrypted"]) == (100, True)


def test_nobody_else_reads_the_token_and_the_file_does_not_hold_it(starter: Any, launcher: ClusterLauncher) -> None:
    assert launcher.token_file.stat().st_mode & 0o077 == 0
    assert launcher.folder.stat().st_mode & 0o077 == 0
    assert launcher.token_file.read_text() not in launcher.file.read_text()
    assert yaml.safe_load(launcher.file.read_text())["cluster_name"] == "eo-assets-demo"


def test_a_cluster_whose_starter_was_killed_is_found_and_ended(
    starter: subprocess.Popen[bytes], moto: Moto, aws: AwsAccount
) -> None:
    starter.kill()
    starter.wait(10)
    (left,) = machines(aws, "demo")
    assert (left.kind, left.ready) == ("head", False)
    assert end(aws, "demo") == 1
    assert moto.machines() == []


def test_a_head_that_is_up_is_found_and_nothing_is_bought(launcher: ClusterLauncher, moto: Moto) -> None:
    bought = _head(launcher, moto, status="up-to-date", started_on="another-computer")
    assert launcher.up().id == bought
    assert len(moto.machines()) == 1


def test_the_head_is_entered_by_the_key_that_it_was_started_with(launcher: ClusterLauncher, moto: Moto) -> None:
    """The first name that Ray has for a key pair is another computer's, as for the second person of an account."""
    moto.client("ec2").create_key_pair(KeyName=f"ray-autoscaler_{launcher.aws.region}")
    key = str(_as_ray_takes_it(launcher)["available_node_types"]["head"]["node_config"]["KeyName"])
    _head(launcher, moto, status="up-to-date", started_on="here", KeyName=key)
    shell = launcher.shell(launcher.up())
    assert shell.key.name == f"ray-autoscaler_1_{launcher.aws.region}.pem"
    assert "PRIVATE KEY" in shell.key.read_text()


def test_a_head_whose_key_is_elsewhere_is_told_with_where(launcher: ClusterLauncher, moto: Moto) -> None:
    moto.client("ec2").create_key_pair(KeyName="theirs")
    _head(launcher, moto, status="up-to-date", started_on="another-computer", KeyName="theirs")
    with pytest.raises(ClusterError, match=r"key theirs, .*theirs\.pem is not there: .*started on another-computer"):
        launcher.shell(launcher.up())


def test_a_start_on_another_computer_is_waited_for(
    launcher: ClusterLauncher, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.ec2.launcher.LOOK_SECONDS", 0.1)
    bought = _head(launcher, moto, status="waiting-for-ssh", started_on="another-computer")
    ready = [{"Key": "ray-node-status", "Value": "up-to-date"}]
    threading.Timer(1.5, moto.client("ec2").create_tags, kwargs={"Resources": [bought], "Tags": ready}).start()
    assert launcher.up().id == bought
    assert len(moto.machines()) == 1


def test_what_a_start_on_this_computer_left_half_made_is_ended_before_another(
    launcher: ClusterLauncher, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = _head(launcher, moto, status="waiting-for-ssh", started_on=launcher.computer)
    there: list[list[str]] = []
    monkeypatch.setattr(
        ClusterLauncher, "_launch", lambda self: there.append([one["InstanceId"] for one in moto.machines()])
    )
    with pytest.raises(ClusterError, match="came up and is gone"):
        launcher.up()
    assert left and there == [[]]


def test_of_two_computers_that_start_at_once_the_first_has_the_cluster(
    launcher: ClusterLauncher, moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before either has bought; they bear the same name, as two machines of a CI may."""
    other = dataclasses.replace(launcher, home=tmp_path / "another-computer")
    bought = []

    def both(self: ClusterLauncher) -> None:
        for one in (other, launcher):
            bought.append(_head(one, moto, status="up-to-date", started_on=one.computer))
            time.sleep(1.1)  # EC2 tells of seconds

    monkeypatch.setattr(ClusterLauncher, "_launch", both)
    assert launcher.up().id == bought[0]
    assert [one["InstanceId"] for one in moto.machines()] == bought[:1]


def test_a_start_that_fails_ends_nothing_of_another_computers(
    launcher: ClusterLauncher, moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(launcher, home=tmp_path / "another-computer")
    theirs: list[str] = []

    def fail(self: ClusterLauncher) -> None:
        theirs.append(_head(launcher, moto, status="setting-up", started_on=other.computer))
        _head(launcher, moto, status="setting-up", started_on=launcher.computer)
        raise ClusterError("ssh")

    monkeypatch.setattr(ClusterLauncher, "_launch", fail)
    with pytest.raises(ClusterError, match=r"^ssh$"):
        launcher.up()
    assert [one["InstanceId"] for one in moto.machines()] == theirs


def test_a_start_that_fails_leaves_nothing(
    launcher: ClusterLauncher, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ClusterLauncher) -> None:
        _head(launcher, moto, status="setting-up", started_on=launcher.computer)
        raise ClusterError("ssh")

    monkeypatch.setattr(ClusterLauncher, "_launch", fail)
    with pytest.raises(ClusterError, match=r"^ssh$"):
        launcher.up()
    assert moto.machines() == []


def test_what_aws_refuses_of_the_launcher_is_told_with_a_remedy(
    launcher: ClusterLauncher, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray raises some of AWS's answers as they are: here to its wish for a key pair."""

    def refused(*_: object, **more: object) -> None:
        raise botocore.exceptions.ClientError({"Error": {"Code": "UnauthorizedOperation"}}, "CreateKeyPair")

    monkeypatch.setattr("ray.autoscaler.sdk.create_or_update_cluster", refused)
    with pytest.raises(ClusterError, match=r"starting the cluster eo-assets-demo in .*: these credentials may not do"):
        launcher.up()


def test_spot_workers_are_found_and_ended_too(launcher: ClusterLauncher, moto: Moto, aws: AwsAccount) -> None:
    _workers(launcher, 3)
    found = machines(aws, "demo")
    assert [(one.instance_type, one.spot) for one in found] == [("c6i.4xlarge", True)] * 3
    assert machines(aws) == found
    assert machines(aws, "another") == ()
    assert end(aws, "another") == 0
    assert end(aws, "demo") == 3
    assert moto.machines() == []


def _workers(launcher: ClusterLauncher, count: int) -> None:
    """Workers as Ray's autoscaler buys them, from the file."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

    file = _as_ray_takes_it(launcher)
    kind = "spot-c6i-4xlarge"
    provider = AWSNodeProvider(file["provider"], file["cluster_name"])
    tags = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_USER_NODE_TYPE: kind}
    for _ in range(count):  # moto starts as many as are asked for at least, which is one
        provider.create_node(file["available_node_types"][kind]["node_config"], tags, 1)


def _as_ray_takes_it(launcher: ClusterLauncher) -> dict[str, Any]:
    """The file with what Ray's launcher fills in of the account."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    filled: dict[str, Any] = AWSNodeProvider.bootstrap_config(prepare_config(yaml.safe_load(launcher.render())))
    return filled


def _head(launcher: ClusterLauncher, moto: Moto, *, status: str, started_on: str, **more: str) -> str:
    tags = {
        "ray-cluster-name": "eo-assets-demo", "ray-node-type": "head", "ray-node-status": status,
        "eo-assets:project": "demo", "eo-assets:started-on": started_on,
    }  # fmt: skip
    specifications = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
    asked = {"ImageId": launcher.cluster.ami, "MinCount": 1, "MaxCount": 1, "InstanceType": "m6i.xlarge"}
    (made,) = moto.client("ec2").run_instances(**asked, **more, TagSpecifications=specifications)["Instances"]
    return str(made["InstanceId"])
