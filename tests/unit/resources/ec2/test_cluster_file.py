"""The file for Ray's launcher: valid for Ray and for us, and what it says of machines, money and secrets."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.cluster_file import EXAMPLE, as_yaml, cluster_file, cluster_name
from resources.ec2.cluster_schema import check_cluster_file

SETTINGS: dict[str, Any] = {"region": "eu-central-1", "ssh_from": "203.0.113.0/28"}


def rendered(**said: Any) -> dict[str, Any]:
    return cluster_file("west_africa", Cluster.model_validate({**SETTINGS, **said}), EXAMPLE, "/home/me/ray")


def workers(file: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: kind for name, kind in file["available_node_types"].items() if name != "head"}


@settings(max_examples=30, deadline=None)
@given(
    types=st.lists(st.sampled_from(["c6i.4xlarge", "m6i.2xlarge", "r7i.large"]), min_size=1, unique=True),
    most=st.integers(1, 60), share=st.floats(0, 1), fewest=st.integers(0, 60),
)  # fmt: skip
def test_whatever_is_set_the_file_is_valid_and_the_shares_hold(
    types: list[str], most: int, share: float, fewest: int
) -> None:
    said = {"instance_types": types, "most": most, "spot_share": share, "fewest": min(fewest, most)}
    file = rendered(workers=said)
    check_cluster_file(as_yaml(file), "cluster.yaml")
    spot = [kind["max_workers"] for name, kind in workers(file).items() if name.startswith("spot-")]
    assert sum(spot) <= round(most * share) or share * most >= most - 0.5
    assert file["max_workers"] == most
    assert all(kind["max_workers"] >= kind["min_workers"] for kind in workers(file).values())


def test_spot_machines_are_bought_on_the_spot_market_and_the_head_never_is() -> None:
    file = rendered(workers={"instance_types": ["c6i.4xlarge"], "most": 10, "spot_share": 0.7})
    markets = {name: kind["node_config"].get("InstanceMarketOptions") for name, kind in workers(file).items()}
    assert markets == {"spot-c6i-4xlarge": {"MarketType": "spot"}, "on-demand-c6i-4xlarge": None}
    assert {name: kind["max_workers"] for name, kind in workers(file).items()} == {
        "spot-c6i-4xlarge": 7, "on-demand-c6i-4xlarge": 3,
    }  # fmt: skip
    assert "InstanceMarketOptions" not in file["available_node_types"]["head"]["node_config"]


def test_every_machine_ends_itself_and_is_found_by_its_project() -> None:
    for kind in rendered(longest_hours=1.5)["available_node_types"].values():
        machine = kind["node_config"]
        assert machine["InstanceInitiatedShutdownBehavior"] == "terminate"
        assert "+90 minutes" in machine["UserData"]
        tags = {tag["Key"]: tag["Value"] for spec in machine["TagSpecifications"] for tag in spec["Tags"]}
        assert tags == {
            "eo-assets:project": "west_africa",
            "eo-assets:longest-hours": "1.5",
            "eo-assets:started-on": "your-computer",
        }


def test_tokens_are_asked_for_and_the_token_itself_is_not_in_the_file() -> None:
    file = rendered()
    for role in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in file[f"{role}_start_ray_commands"][1]
    assert file["file_mounts"] == {"~/.ray": "/home/me/ray"}
    assert "--dashboard-host=127.0.0.1" in file["head_start_ray_commands"][1]


@pytest.mark.parametrize("ami", [None, "ami-0123456789abcdef0"])
@pytest.mark.parametrize(
    ("has", "installs"), [((), True), (("docker",), True), (("docker", "docker-credential-ecr-login"), False)]
)
def test_what_an_ami_lacks_to_pull_the_image_is_installed(
    ami: str | None, has: tuple[str, ...], installs: bool, tmp_path: Path
) -> None:
    """The command itself, run by a shell that has no programs but these: a stock AMI with Docker is enough."""
    (command,) = [line for line in rendered(ami=ami)["initialization_commands"] if "docker.io" in line]
    for program in has:
        (tmp_path / program).touch(mode=0o755)
    (tmp_path / "sudo").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "sudo").chmod(0o755)
    subprocess.run(["/bin/bash", "-c", command], env={"PATH": str(tmp_path)}, check=True)
    assert (tmp_path / "asked").exists() == installs


def test_the_name_is_one_that_ray_and_ec2_take() -> None:
    assert cluster_name("west_africa") == "eo-assets-west-africa"


WRONG = {
    "provider.regoin": lambda file: file["provider"].update(regoin="eu-central-1"),
    "node_config.InstanceMarketOption": lambda file: file["available_node_types"]["head"]["node_config"].update(
        InstanceMarketOption={"MarketType": "spot"}
    ),
    "idle_timeout_minute": lambda file: file.update(idle_timeout_minute=5),
    "provider.cache_stopped_nodes": lambda file: file["provider"].update(cache_stopped_nodes=True),
    "node_config.InstanceType": lambda file: file["available_node_types"]["head"]["node_config"].update(
        InstanceType="huge"
    ),
    "Encrypted": lambda file: file["available_node_types"]["head"]["node_config"]["BlockDeviceMappings"][0][
        "Ebs"
    ].update(Encrypted=False),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_slip_anywhere_in_a_file_is_refused_by_its_key(key: str) -> None:
    file = copy.deepcopy(rendered())
    WRONG[key](file)
    with pytest.raises(ClusterError, match=rf"^mine\.yaml: .*{key}"):
        check_cluster_file(yaml.safe_dump(file), "mine.yaml")


def test_what_ray_refuses_is_refused() -> None:
    file = rendered()
    file["head_node_type"] = "nope"
    with pytest.raises(ClusterError, match=r"Ray's launcher refuses it: .*head_node_type"):
        check_cluster_file(yaml.safe_dump(file), "mine.yaml")
    with pytest.raises(ClusterError, match="not YAML"):
        check_cluster_file("a: [", "mine.yaml")


BAD = {
    "region": "frankfurt", "ssh_from": "0.0.0.0/0", "ami": "ubuntu", "idle_minutes": 0, "longest_hours": 0,
    "tags": {"ray-cluster-name": "x"}, "subnets": ["subnet-x"], "availability_zones": ["us-east-1a"],
    "head": {"instance_type": "huge"}, "workers": {"fewest": 5, "most": 2}, "image": "Has Spaces",
}  # fmt: skip


@pytest.mark.parametrize("ranged", ["::/0", "2000::/3", "2a00::/8", "0.0.0.0/1"])
def test_half_a_world_is_no_range_of_addresses(ranged: str) -> None:
    with pytest.raises(ValueError, match="name the range that you work from"):
        Cluster.model_validate({**SETTINGS, "ssh_from": ranged})


@pytest.mark.parametrize("key", BAD)
def test_settings_that_cannot_work_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Cluster.model_validate({**SETTINGS, key: BAD[key]})


def test_a_container_knows_the_region_of_the_bucket() -> None:
    cluster = Cluster.model_validate({**SETTINGS, "region": "us-west-2"})
    assert "--env AWS_REGION=us-west-2" in cluster_file("demo", cluster, EXAMPLE, "/here")["docker"]["run_options"]
