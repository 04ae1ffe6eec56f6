"""What an account needs before a cluster can be started, as one CloudFormation template: made once, by one command.

Roles for head and workers with no more rights than they use, a network group that only ssh from named addresses may
enter, a repository for the image, the bucket's traffic kept inside the network, an alarm on the bill. A template is a
plain mapping that serializes to the JSON which CloudFormation takes; it is made from a project's `cluster:` section.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from eo_assets.core.bucket_policies import VERSION, Place, graph
from eo_assets.project_cluster import Cluster
from resources.ec2.cluster_file import CLUSTER_TAG, PROJECT_TAG

Document = dict[str, Any]

IMAGES_KEPT = 10
CLUSTERS = "eo-assets-*"
"""Every cluster of this product: what the head may tag and end."""

LOOKED_AT = (
    "ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeInstanceStatus", "ec2:DescribeImages",
    "ec2:DescribeKeyPairs", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
)  # fmt: skip
USED = ("subnet", "network-interface", "key-pair", "spot-instances-request")
"""What RunInstances touches beside the machine, its disks, and the stack's own security group."""

PULLED = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


@dataclass(frozen=True, slots=True)
class Account:
    """What the template is told of the account: its network, and whom to tell about the bill."""

    vpc: str
    route_tables: tuple[str, ...] = ()
    alarm_email: str | None = None
    alarm_usd: float = 100.0


def stack_template(cluster: Cluster, place: Place, account: Account) -> Document:
    """The template. `place`: where the project's data live, the only objects that machines may touch."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "eo-assets: roles, network group and image repository of clusters that make maps",
        "Resources": {
            "SecurityGroup": _security_group(cluster, account),
            "WithinTheCluster": _within_the_cluster(),
            "WorkerRole": _role(graph(place), _pull()),
            "WorkerProfile": _profile("WorkerRole"),
            "HeadRole": _role(graph(place), _pull(), _scaling(cluster)),
            "HeadProfile": _profile("HeadRole"),
            "Repository": _repository(cluster),
            **({"BucketEndpoint": _endpoint(cluster, account)} if account.route_tables else {}),
            **({"BillAlarm": _alarm(cluster, account)} if account.alarm_email else {}),
        },
        "Outputs": {
            "SecurityGroup": {"Value": {"Fn::GetAtt": ["SecurityGroup", "GroupId"]}},
            "HeadProfile": {"Value": {"Fn::GetAtt": ["HeadProfile", "Arn"]}},
            "WorkerProfile": {"Value": {"Fn::GetAtt": ["WorkerProfile", "Arn"]}},
            "Repository": {
                "Value": _join(
                    _ACCOUNT, f".dkr.ecr.{cluster.region}.", {"Ref": "AWS::URLSuffix"}, "/", {"Ref": "Repository"}
                )
            },
            "Vpc": {"Value": account.vpc},
            "Place": {"Value": place.address},
            **(
                {"AlarmEmail": {"Value": account.alarm_email}, "AlarmUsd": {"Value": f"{account.alarm_usd:g}"}}
                if account.alarm_email
                else {}
            ),
        },
    }


_ACCOUNT: Document = {"Ref": "AWS::AccountId"}


def _join(*parts: Any) -> Document:
    return {"Fn::Join": ["", list(parts)]}


def _arn(service: str, region: Any, resource: str) -> Document:
    return _join("arn:", {"Ref": "AWS::Partition"}, f":{service}:", region, ":", _ACCOUNT, f":{resource}")


def _security_group(cluster: Cluster, account: Account) -> Document:
    ssh = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Description": "ssh",
         **({"CidrIpv6": ranged} if ":" in ranged else {"CidrIp": ranged})}
        for ranged in cluster.ssh_from
    ]  # fmt: skip
    return {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "eo-assets: ssh from named addresses, and the machines of the cluster among themselves",
            "VpcId": account.vpc,
            "SecurityGroupIngress": ssh,
            "SecurityGroupEgress": [
                {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "Sentinel Hub, S3, ECR, packages"}
            ],
        },
    }


def _within_the_cluster() -> Document:
    group = {"Fn::GetAtt": ["SecurityGroup", "GroupId"]}
    rule = {"IpProtocol": "-1", "Description": "Ray among the machines of the cluster"}
    return {
        "Type": "AWS::EC2::SecurityGroupIngress",
        "Properties": {"GroupId": group, "SourceSecurityGroupId": group, **rule},
    }


def _role(*policies: Document) -> Document:
    names = ("project-bucket", "pull-image", "scale-cluster")
    trusted = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {"Version": VERSION, "Statement": [trusted]},
            "Policies": [
                {"PolicyName": name, "PolicyDocument": policy} for name, policy in zip(names, policies, strict=False)
            ],
        },
    }


def _profile(role: str) -> Document:
    return {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": role}]}}


def _pull() -> Document:
    repository = {"Fn::GetAtt": ["Repository", "Arn"]}
    return _policy(
        _allow("SignIn", ("ecr:GetAuthorizationToken",), "*"),
        _allow("Pull", PULLED, repository),
    )


def _scaling(cluster: Cluster) -> Document:
    """What Ray's autoscaler does on the head: make machines with this product's tag, tag and end those of clusters."""
    here = cluster.region
    machine, disk = (_arn("ec2", here, f"{kind}/*") for kind in ("instance", "volume"))
    used = [
        _join("arn:", {"Ref": "AWS::Partition"}, f":ec2:{here}::image/*"),
        *(_arn("ec2", here, f"{kind}/*") for kind in USED),
        _join(
            "arn:",
            {"Ref": "AWS::Partition"},
            f":ec2:{here}:",
            _ACCOUNT,
            ":security-group/",
            {"Fn::GetAtt": ["SecurityGroup", "GroupId"]},
        ),
    ]
    ours = {"StringLike": {f"aws:RequestTag/{PROJECT_TAG}": "*"}}
    of_a_cluster = {"StringLike": {**ours["StringLike"], f"aws:RequestTag/{CLUSTER_TAG}": CLUSTERS}}
    of_clusters = {"StringLike": {f"aws:ResourceTag/{CLUSTER_TAG}": CLUSTERS}}
    return _policy(
        _allow("Look", LOOKED_AT, "*"),
        {**_allow("StartMachinesOfClusters", ("ec2:RunInstances",), machine), "Condition": of_a_cluster},
        {**_allow("WithTheirDisks", ("ec2:RunInstances",), disk), "Condition": ours},
        _allow("StartMachinesWithWhatIsThere", ("ec2:RunInstances",), used),
        {**_allow("TagAtTheStart", ("ec2:CreateTags",), [machine, disk]),
         "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}}},
        {**_allow("TagAndEndMachinesOfClusters", ("ec2:CreateTags", "ec2:TerminateInstances"), machine),
         "Condition": of_clusters},
        {**_allow("GiveWorkersTheirRole", ("iam:PassRole",), {"Fn::GetAtt": ["WorkerRole", "Arn"]}),
         "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}},
    )  # fmt: skip


def _repository(cluster: Cluster) -> Document:
    rule = {
        "rulePriority": 1,
        "description": f"the last {IMAGES_KEPT} images",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_KEPT},
        "action": {"type": "expire"},
    }
    return {
        "Type": "AWS::ECR::Repository",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Properties": {
            "RepositoryName": cluster.stack.lower(),
            "ImageScanningConfiguration": {"ScanOnPush": True},
            "ImageTagMutability": "IMMUTABLE",
            "EncryptionConfiguration": {"EncryptionType": "AES256"},
            "EmptyOnDelete": True,
            "LifecyclePolicy": {"LifecyclePolicyText": json.dumps({"rules": [rule]}, separators=(",", ":"))},
        },
    }


def _endpoint(cluster: Cluster, account: Account) -> Document:
    """Traffic to the bucket stays in the network: faster, and no gateway counts its gigabytes."""
    return {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {
            "VpcId": account.vpc,
            "ServiceName": f"com.amazonaws.{cluster.region}.s3",
            "VpcEndpointType": "Gateway",
            "RouteTableIds": list(account.route_tables),
        },
    }


def _alarm(cluster: Cluster, account: Account) -> Document:
    """Mail when the month's bill for EC2, actual or as foreseen, goes past the limit."""
    people = [{"SubscriptionType": "EMAIL", "Address": account.alarm_email}]
    return {
        "Type": "AWS::Budgets::Budget",
        "Properties": {
            "Budget": {
                "BudgetName": f"{cluster.stack}-ec2",
                "BudgetType": "COST",
                "TimeUnit": "MONTHLY",
                "BudgetLimit": {"Amount": account.alarm_usd, "Unit": "USD"},
                "CostFilters": {"Service": ["Amazon Elastic Compute Cloud - Compute", "EC2 - Other"]},
            },
            "NotificationsWithSubscribers": [
                {
                    "Notification": {"NotificationType": kind, "ComparisonOperator": "GREATER_THAN", "Threshold": 100},
                    "Subscribers": people,
                }
                for kind in ("ACTUAL", "FORECASTED")
            ],
        },
    }


def _policy(*statements: Document) -> Document:
    return {"Version": VERSION, "Statement": list(statements)}


def _allow(name: str, actions: tuple[str, ...], resource: Any) -> Document:
    return {"Sid": name, "Effect": "Allow", "Action": list(actions), "Resource": resource}
