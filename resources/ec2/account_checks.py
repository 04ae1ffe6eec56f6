"""What `eo-assets doctor` asks of an AWS account about a cluster that is not there yet: nothing is made or changed."""

from __future__ import annotations

import ipaddress
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eo_assets.core.bucket_policies import Place
from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount, network, stack_outputs, ubuntu
from resources.ec2.findings import Row
from resources.ec2.held_stack import held_stack

ABOUT = "AWS"
FOUND_BY: Mapping[str, str] = {
    "env": "variables of the environment",
    "shared-credentials-file": "the credentials file",
    "config-file": "the configuration file",
    "sso": "`aws sso login`",
    "login": "`aws login`",
    "assume-role": "a role that the profile takes",
    "assume-role-with-web-identity": "a web identity",
    "container-role": "the container's role",
    "iam-role": "the machine's role",
    "custom-process": "the profile's credential process",
}
DOCUMENTATION = tuple(map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")))
ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>[^:@]+)"
                 r"(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """An account, the cluster that a project wants there, the version whose image it runs, and where its data lie."""

    aws: AwsAccount
    cluster: Cluster
    project: str
    version: str
    place: Place | None = None


def credentials(aws: AwsAccount) -> Iterator[Row]:
    """Which account, as whom, and how the credentials were found; never the secret."""
    import boto3

    with aws.asked("asking AWS who this is"):
        who = aws.client("sts").get_caller_identity()
        held = boto3.Session(profile_name=aws.profile).get_credentials()
    how = FOUND_BY.get(held.method, held.method) if held else "the AWS chain"
    profile = f", profile {aws.profile}" if aws.profile else ""
    yield Row(
        ABOUT, "credentials", True, f"account {who['Account']} as {who['Arn'].split(':', 5)[-1]}, by {how}{profile}"
    )
    if who["Arn"].endswith(":root"):
        remedy = "work as a user or role: https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html"
        yield Row(ABOUT, "not root", None, "these are the account's root credentials", remedy)


def stack(asked: Asked) -> Iterator[Row]:
    """What `cluster setup` makes: is it there, finished, and does its network group let in who the project says?"""
    name, again = asked.cluster.stack, f"eo-assets cluster setup {asked.project}"
    held = stack_outputs(asked.aws, name)
    if held is None:
        yield Row(ABOUT, "stack", False, f"there is no {name} in {asked.aws.region}", again)
        return
    yield Row(ABOUT, "stack", True, f"{name} in {asked.aws.region}")
    made = held_stack(asked.aws, name)
    if asked.place is not None and made is not None and not made.is_for(asked.place):
        remedy = f"name another in cluster.stack, and then {again}; or take this one from there: {again} --move"
        yield Row(ABOUT, "reach", False, f"the machines of {name} may reach {made.place} alone", remedy)
    with asked.aws.asked("looking for the network group"):
        (group,) = asked.aws.client("ec2").describe_security_groups(GroupIds=[held["SecurityGroup"]])["SecurityGroups"]
    let_in = {
        ranged.get("CidrIp") or ranged.get("CidrIpv6")
        for rule in group["IpPermissions"]
        for ranged in [*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", [])]
    }
    wanted = set(asked.cluster.ssh_from)
    if let_in != wanted:
        found = f"the stack lets in {', '.join(sorted(map(str, let_in))) or 'nobody'}"
        yield Row(ABOUT, "ssh", False, f"{found}; cluster.ssh_from says {', '.join(sorted(wanted))}", again)


def ssh(cluster: Cluster) -> Iterator[Row]:
    """What can be known here of ssh to the head: its programs, and addresses that are nobody's."""
    missing = [program for program in ("ssh", "rsync") if shutil.which(program) is None]
    if missing:
        remedy = "install them: sudo apt install openssh-client rsync"
        yield Row(ABOUT, "programs", False, f"this machine lacks {' and '.join(missing)}", remedy)
    for ranged in cluster.ssh_from:
        net = ipaddress.ip_network(ranged)
        if any(net.version == one.version and net.subnet_of(one) for one in DOCUMENTATION):  # type: ignore[arg-type]
            remedy = "write your own: curl https://checkip.amazonaws.com, and /32 after it"
            yield Row(ABOUT, "ssh", False, f"cluster.ssh_from: {ranged} is an address of documentation", remedy)
        else:
            remedy = "compare with curl https://checkip.amazonaws.com"
            yield Row(ABOUT, "ssh", None, f"from {ranged}; this machine's own public address is not looked up", remedy)


def machine_image(asked: Asked) -> Iterator[Row]:
    """Is the AMI there, ready and for x86-64?"""
    aws, ami, key = asked.aws, asked.cluster.ami, "cluster.ami"
    if ami is None:
        ami, key = ubuntu(aws), "Ubuntu 24.04"
    with aws.asked(f"looking for the machine image {ami}"):
        found = aws.client("ec2").describe_images(ImageIds=[ami])["Images"]
    remedy = "take cluster.ami out: Ubuntu's own is found"
    if not found:
        yield Row(ABOUT, "AMI", False, f"{key}: {ami} is not in {aws.region}, or not shared with this account", remedy)
        return
    state, built = found[0].get("State", "available"), found[0].get("Architecture", "x86_64")
    good = state == "available" and built == "x86_64"
    yield Row(ABOUT, "AMI", good, f"{key}: {ami}, {state}, {built}", "" if good else remedy)


def docker_image(asked: Asked) -> Iterator[Row]:
    """Is the image that every machine pulls in its repository?"""
    from botocore.exceptions import ClientError

    image = asked.cluster.image
    if image is None:
        held = stack_outputs(asked.aws, asked.cluster.stack)
        if held is None:
            yield Row(ABOUT, "image", False, "no repository yet: the stack makes it", "see the row of the stack")
            return
        image = f"{held['Repository']}:{asked.version}"
    found = ECR.fullmatch(image)
    if found is None:
        yield Row(ABOUT, "image", None, f"{image} is not in ECR; only a pull shows whether it is there")
        return
    wanted = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    ecr = AwsAccount(found["region"], asked.aws.profile, asked.aws.patience_s).client("ecr")
    with asked.aws.asked(f"looking for {image}"):
        try:
            ecr.describe_images(registryId=found["account"], repositoryName=found["name"], imageIds=[wanted])
        except ClientError as error:
            if error.response["Error"].get("Code") not in ("ImageNotFoundException", "RepositoryNotFoundException"):
                raise
            yield Row(ABOUT, "image", False, f"{image} is not there", _push(image, found))
            return
    yield Row(ABOUT, "image", True, image)


def _push(image: str, found: re.Match[str]) -> str:
    registry = image.partition("/")[0]
    return (
        f"docker build --platform linux/amd64 -f deploy/docker/Dockerfile -t {image} . && aws ecr get-login-password "
        f"--region {found['region']} | docker login --username AWS --password-stdin {registry} && docker push {image}"
    )


def zones(asked: Asked) -> Iterator[Row]:
    """Are the instance types sold in the zones that the cluster's machines may be in?"""
    aws, cluster = asked.aws, asked.cluster
    types = [cluster.head.instance_type, *cluster.workers.instance_types]
    usable = _zones(aws, cluster)
    ec2 = aws.client("ec2")
    with aws.asked("looking for instance types"):
        pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": sorted(set(types))}]
        )
        sold = {(one["InstanceType"], one["Location"]) for page in pages for one in page["InstanceTypeOfferings"]}
    for name in dict.fromkeys(types):
        where = sorted(zone for zone in usable if (name, zone) in sold)
        elsewhere = sorted({zone for kind, zone in sold if kind == name} - set(usable))
        remedy = (
            f"add {elsewhere[0]} to cluster.availability_zones, or choose another type" if elsewhere else
            "choose another type: aws ec2 describe-instance-type-offerings --region " + aws.region
        )  # fmt: skip
        found = f"sold in {', '.join(where)}" if where else f"not sold in {', '.join(usable)}"
        yield Row(ABOUT, name, bool(where), found, "" if where else remedy)


def _zones(aws: AwsAccount, cluster: Cluster) -> list[str]:
    vpc, _ = network(aws, cluster)
    with aws.asked("looking for subnets"):
        chosen = {"SubnetIds": list(cluster.subnets)} if cluster.subnets else {
            "Filters": [{"Name": "vpc-id", "Values": [vpc]}]
        }  # fmt: skip
        found = aws.client("ec2").describe_subnets(**chosen)["Subnets"]
    usable = {
        one["AvailabilityZone"]
        for one in found
        if cluster.subnets
        or (
            one["MapPublicIpOnLaunch"]
            and one["AvailabilityZone"] in (cluster.availability_zones or [one["AvailabilityZone"]])
        )
    }
    if not usable:
        raise ClusterError(f"{vpc} has no subnet with public addresses there: name some in cluster.subnets")
    return sorted(usable)
