"""The stack that an account needs: made, made again, refused; what its roles may, and who may come in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eo_assets.cli import main
from eo_assets.command_doctor import doctor
from eo_assets.core.bucket_policies import place_of
from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount, network, places, stack_outputs
from resources.ec2.held_stack import HeldStack, free_route_tables, held_stack
from resources.ec2.stack import Account, stack_template
from tests.moto_server import REGION, Moto

from .conftest import PLACE


def test_cfn_lint_has_nothing_to_say(cluster: Cluster, tmp_path: Path) -> None:
    whole = Account("vpc-0123456789abcdef0", ("rtb-0123456789abcdef0",), "me@example.com", 50)
    template = tmp_path / "stack.json"
    template.write_text(json.dumps(stack_template(cluster, place_of(PLACE), whole)))
    told = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--region", REGION, "--", str(template)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout


def test_the_only_way_in_is_ssh_from_the_addresses_that_are_named(moto: Moto, stack: str, aws: AwsAccount) -> None:
    held = stack_outputs(aws, stack)
    assert held is not None
    (group,) = moto.client("ec2").describe_security_groups(GroupIds=[held["SecurityGroup"]])["SecurityGroups"]
    addresses = {(rule["FromPort"], ranged["CidrIp"]) for rule in group["IpPermissions"] for ranged in rule["IpRanges"]}
    groups = {pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]}
    assert addresses == {(22, "203.0.113.0/28")}
    assert groups == {held["SecurityGroup"]}, "and its own machines"


def test_addresses_of_both_kinds_are_let_in(cluster: Cluster) -> None:
    both = cluster.model_copy(update={"ssh_from": ("203.0.113.0/28", "2001:db8::/48")})
    template = stack_template(both, place_of(PLACE), Account("vpc-0123456789abcdef0"))
    ways = template["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]
    assert [(way["ToPort"], way.get("CidrIp"), way.get("CidrIpv6")) for way in ways] == [
        (22, "203.0.113.0/28", None),
        (22, None, "2001:db8::/48"),
    ]


def test_workers_may_reach_the_projects_bucket_and_pull_and_nothing_else(cluster: Cluster) -> None:
    held = stack_template(cluster, place_of(PLACE), Account("vpc-0123456789abcdef0"))["Resources"]
    allowed = {
        role: {
            action
            for policy in held[role]["Properties"]["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
            for action in statement["Action"]
        }
        for role in ("WorkerRole", "HeadRole")
    }
    assert {action.partition(":")[0] for action in allowed["WorkerRole"]} == {"s3", "ecr"}
    assert {action.partition(":")[0] for action in allowed["HeadRole"]} == {"s3", "ecr", "ec2", "iam"}
    assert not any("*" in action for actions in allowed.values() for action in actions)


def test_the_head_ends_only_machines_of_clusters_and_hands_out_only_the_workers_role(cluster: Cluster) -> None:
    template = stack_template(cluster, place_of(PLACE), Account("vpc-0123456789abcdef0"))
    policies = template["Resources"]["HeadRole"]["Properties"]["Policies"]
    statements = {one["Sid"]: one for policy in policies for one in policy["PolicyDocument"]["Statement"]}
    ending = statements["TagAndEndMachinesOfClusters"]
    assert ending["Condition"] == {"StringLike": {"aws:ResourceTag/ray-cluster-name": "eo-assets-*"}}
    assert statements["GiveWorkersTheirRole"]["Resource"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}
    used = json.dumps(statements["StartMachinesWithWhatIsThere"]["Resource"])
    assert "security-group/*" not in used and '":security-group/", {"Fn::GetAtt": ["SecurityGroup"' in used
    unconditional = {sid for sid, one in statements.items() if one["Resource"] == "*"}
    assert unconditional == {"Look", "SignIn"}


def test_places_say_what_is_missing_and_what_makes_it(aws: AwsAccount, cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no stack eo-assets in eu-central-1: make it once with `eo-assets cluster"):
        places(aws, cluster, "1.0", "here")


def test_places_are_those_of_the_stack(aws: AwsAccount, cluster: Cluster, stack: str, ami: str) -> None:
    found = places(aws, cluster, "1.0", "here")
    assert found.ami == ami
    assert found.image == "123456789012.dkr.ecr.eu-central-1.amazonaws.com/eo-assets:1.0"
    assert found.head_profile != found.worker_profile
    assert len(found.subnets) == 3


def test_an_image_that_is_not_there_is_told(aws: AwsAccount, cluster: Cluster, stack: str) -> None:
    wrong = cluster.model_copy(update={"ami": "ami-0123456789abcdef0"})
    with pytest.raises(ClusterError, match="looking for the machine image ami-0123456789abcdef0 in eu-central-1"):
        places(aws, wrong, "1.0", "here")


def test_without_credentials_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, aws: AwsAccount, cluster: Cluster
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ClusterError, match="no AWS credentials; set AWS_PROFILE, or sign in"):
        network(aws, cluster)


def test_a_profile_that_is_not_there_is_told(moto: Moto, cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"nobody.* could not be found"):
        network(AwsAccount(REGION, "nobody"), cluster)


def _project(folder: Path, ami: str, place: str) -> str:
    file = folder / "my.yaml"
    file.write_text(
        f"extends: west_africa\nstorage: {{project_folder: '{place}'}}\n"
        f"cluster: {{region: {REGION}, ssh_from: 198.18.0.0/28, ami: {ami}}}\n"
    )
    return str(file)


def setup(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["cluster", "setup", *words])


def test_made_again_it_keeps_its_alarm(aws: AwsAccount, ami: str, tmp_path: Path) -> None:
    project = _project(tmp_path, ami, PLACE)
    refused = setup(project, "--usd", "20")
    assert refused.exit_code == 2 and "add --email" in refused.output
    assert setup(project, "--email", "me@example.com", "--usd", "20").exit_code == 0
    assert setup(project).exit_code == 0, "as doctor says, and make verify-aws does"
    assert held_stack(aws, "eo-assets") == HeldStack(PLACE, "me@example.com", 20.0)
    assert setup(project, "--usd", "30").exit_code == 0
    assert held_stack(aws, "eo-assets") == HeldStack(PLACE, "me@example.com", 30.0)


def test_a_stack_of_another_place_is_not_taken_without_a_word(aws: AwsAccount, ami: str, tmp_path: Path) -> None:
    assert setup(_project(tmp_path, ami, PLACE)).exit_code == 0
    other = _project(tmp_path, ami, "s3://maps-of-a-team/togo")
    refused = setup(other)
    assert refused.exit_code == 2 and f"eo-assets in {REGION} is for {PLACE}" in refused.output, refused.output
    reach = next(row for row in doctor(other) if row.what == "reach")
    assert reach.good is False and reach.found == f"the machines of eo-assets may reach {PLACE} alone"
    assert reach.remedy.endswith(f"eo-assets cluster setup {other} --move")
    assert setup(other, "--move").exit_code == 0
    held = held_stack(aws, "eo-assets")
    assert held is not None and held.place == "s3://maps-of-a-team/togo"


def test_a_network_that_has_a_gateway_to_s3_gets_no_second_one(
    aws: AwsAccount, cluster: Cluster, stack: str, moto: Moto
) -> None:
    vpc, tables = network(aws, cluster)
    assert tables and free_route_tables(aws, stack, vpc, tables) == tables, "its own"
    assert free_route_tables(aws, "another", vpc, tables) == ()
