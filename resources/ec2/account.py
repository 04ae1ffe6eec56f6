"""What of an AWS account a cluster stands on: its stack, made and looked up; the network, the machine image.

Credentials are the AWS chain's, as everywhere; what is asked is told in its errors, the keys never are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from eo_assets.core.bucket_policies import Place
from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.cluster_file import Places
from resources.ec2.stack import Account, stack_template

UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
"""Canonical's public parameter in every region: the newest machine image of Ubuntu 24.04."""

STACK_WAIT = {"Delay": 5, "MaxAttempts": 120}
SIGN_IN = frozenset({"AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch",
                     "ExpiredToken", "ExpiredTokenException", "RequestExpired"})  # fmt: skip
FORBIDDEN = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})

THERE_ALREADY = ("InvalidInput", "EntityAlreadyExists")
"""What AWS, and moto, say of a service-linked role that was made before."""


@dataclass(frozen=True)
class AwsAccount:
    """An account in one region, by a named profile or by the chain's first.

    `patience_s`: how long a connection and an answer are waited for, once; None is boto3's own minutes.
    """

    region: str
    profile: str | None = None
    patience_s: float | None = None

    def client(self, service: str) -> Any:
        """A client of boto3. A ClusterError without credentials, or with a profile that is not there."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import ProfileNotFound

        wait = self.patience_s
        config = wait and Config(connect_timeout=wait, read_timeout=4 * wait, retries={"total_max_attempts": 2})
        try:
            session = boto3.Session(profile_name=self.profile, region_name=self.region)
        except ProfileNotFound as error:
            raise ClusterError(f"{error}: `aws configure list-profiles` names those of this machine") from None
        return session.client(service, config=config or None)

    @contextlib.contextmanager
    def asked(self, doing: str) -> Generator[None]:
        """Whatever AWS refuses in here is told with what was being done and what to do about it."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except NoCredentialsError:
            raise ClusterError(f"{doing}: no AWS credentials; set AWS_PROFILE, or sign in: aws sso login") from None
        except ClientError as error:
            code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
            raise ClusterError(f"{doing} in {self.region}: {_remedy(code)} (AWS: {code}: {text})") from None
        except BotoCoreError as error:
            raise ClusterError(f"{doing} in {self.region}: {error}") from None


def _remedy(code: str) -> str:
    if code in SIGN_IN:
        return "AWS does not take the credentials; sign in again, or check AWS_PROFILE and the clock of this machine"
    if code in FORBIDDEN:
        return "these credentials may not do that; use others, or ask for the right that AWS names"
    return "AWS refuses"


def make_stack(aws: AwsAccount, cluster: Cluster, place: Place, account: Account) -> bool:
    """Make the stack, or bring it up to the template; wait for it. Was there anything to do?"""
    from botocore.exceptions import ClientError, WaiterError

    cloud = aws.client("cloudformation")
    there = stack_outputs(aws, cluster.stack) is not None
    template = json.dumps(stack_template(cluster, place, account))
    told = {"StackName": cluster.stack, "TemplateBody": template, "Capabilities": ["CAPABILITY_IAM"]}
    _allow_spot(aws)
    with aws.asked(f"making the stack {cluster.stack}"):
        try:
            (cloud.update_stack if there else cloud.create_stack)(**told)
        except ClientError as error:
            if "No updates are to be performed" in error.response["Error"].get("Message", ""):
                return False
            raise
        try:
            waited = "stack_update_complete" if there else "stack_create_complete"
            cloud.get_waiter(waited).wait(StackName=cluster.stack, WaiterConfig=STACK_WAIT)
        except WaiterError:
            raise ClusterError(_failed(cloud, cluster.stack)) from None
    return True


def _allow_spot(aws: AwsAccount) -> None:
    """The role by which EC2 itself runs spot machines: an account has it from its first spot request by a person on."""
    from botocore.exceptions import ClientError

    with aws.asked("making the role of spot machines"):
        try:
            aws.client("iam").create_service_linked_role(AWSServiceName="spot.amazonaws.com")
        except ClientError as error:
            if error.response["Error"].get("Code") not in THERE_ALREADY:
                raise


def _failed(cloud: Any, stack: str) -> str:
    """The first thing that went wrong: what follows it is the stack being taken back."""
    events = cloud.describe_stack_events(StackName=stack)["StackEvents"]
    failures = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
    first = failures[-1] if failures else {"LogicalResourceId": "?", "ResourceStatusReason": "no reason given"}
    reason = first.get("ResourceStatusReason", "no reason given")
    return f"the stack {stack} was not made: {first['LogicalResourceId']}: {reason}; mend it and run setup again"


def stack_outputs(aws: AwsAccount, stack: str) -> Mapping[str, str] | None:
    """What a finished stack holds, by name; None if there is none. A ClusterError for one that is not finished."""
    from botocore.exceptions import ClientError

    with aws.asked(f"looking for the stack {stack}"):
        try:
            found = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise
    if found["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        raise ClusterError(
            f"the stack {stack} in {aws.region} is {found['StackStatus']}: wait for it, or delete it with "
            f"`aws cloudformation delete-stack --stack-name {stack} --region {aws.region}` and run setup again"
        )
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def network(aws: AwsAccount, cluster: Cluster) -> tuple[str, tuple[str, ...]]:
    """The id of the network that the cluster lives in, and of its routing tables: its subnets', or the default one."""
    ec2 = aws.client("ec2")
    with aws.asked("looking for the network"):
        if cluster.subnets:
            found = ec2.describe_subnets(SubnetIds=list(cluster.subnets))["Subnets"]
            vpcs = sorted({subnet["VpcId"] for subnet in found})
            if len(vpcs) > 1:
                raise ClusterError(
                    f"cluster.subnets are of {len(vpcs)} networks ({', '.join(vpcs)}): name those of one"
                )
        else:
            found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
            vpcs = [vpc["VpcId"] for vpc in found]
            if not vpcs:
                raise ClusterError(f"{aws.region} has no default network: name subnets in cluster.subnets")
        tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": vpcs}])["RouteTables"]
    return vpcs[0], tuple(sorted(table["RouteTableId"] for table in tables))


def places(aws: AwsAccount, cluster: Cluster, version: str, started_on: str) -> Places:
    """What the file of the cluster is rendered with. A ClusterError says what is missing and which command makes it."""
    held = stack_outputs(aws, cluster.stack)
    if held is None:
        raise ClusterError(
            f"there is no stack {cluster.stack} in {aws.region}: make it once with `eo-assets cluster setup PROJECT`"
        )
    ami = cluster.ami or ubuntu(aws)
    return Places(
        ami=ami,
        root_device=_root_device(aws, ami),
        image=cluster.image or f"{held['Repository']}:{version}",
        security_group=held["SecurityGroup"],
        head_profile=held["HeadProfile"],
        worker_profile=held["WorkerProfile"],
        subnets=cluster.subnets or _subnets(aws, held["Vpc"], cluster),
        started_on=started_on,
    )


def ubuntu(aws: AwsAccount) -> str:
    """The id of Ubuntu's machine image in the region. A ClusterError where Canonical's parameter is not."""
    from botocore.exceptions import ClientError

    with aws.asked("looking for Ubuntu's machine image"):
        try:
            return str(aws.client("ssm").get_parameter(Name=UBUNTU)["Parameter"]["Value"])
        except ClientError as error:
            if error.response["Error"].get("Code") != "ParameterNotFound":
                raise
            raise ClusterError(
                f"{aws.region} does not tell Ubuntu's machine image ({UBUNTU}): name one in cluster.ami, x86-64, of "
                "Ubuntu or with Docker"
            ) from None


def _root_device(aws: AwsAccount, ami: str) -> str:
    with aws.asked(f"looking for the machine image {ami}"):
        found = aws.client("ec2").describe_images(ImageIds=[ami])["Images"]
    if not found:
        raise ClusterError(f"cluster.ami: {ami} is not in {aws.region}, or not shared with this account")
    return str(found[0].get("RootDeviceName", "/dev/sda1"))


def _subnets(aws: AwsAccount, vpc: str, cluster: Cluster) -> tuple[str, ...]:
    """Those of the network whose machines get a public address, in the zones that the project names, if it does."""
    with aws.asked(f"looking for the subnets of {vpc}"):
        found = aws.client("ec2").describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    usable = [
        subnet
        for subnet in found
        if subnet["MapPublicIpOnLaunch"]
        and (not cluster.availability_zones or subnet["AvailabilityZone"] in cluster.availability_zones)
    ]
    if not usable:
        raise ClusterError(f"{vpc} has no subnet with public addresses there: name some in cluster.subnets")
    return tuple(subnet["SubnetId"] for subnet in sorted(usable, key=lambda subnet: subnet["AvailabilityZone"]))
