"""What an account holds already when its stack is made again: the stack's place and alarm, other endpoints of S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eo_assets.core.bucket_policies import Place
from resources.ec2.account import AwsAccount, stack_outputs


@dataclass(frozen=True, slots=True)
class HeldStack:
    """`place`: the only one that its machines reach, `s3://bucket/prefix`. The alarm is None where it has none."""

    place: str
    alarm_email: str | None
    alarm_usd: float | None

    def is_for(self, place: Place) -> bool:
        """Do its machines reach this place?"""
        return self.place == place.address


def held_stack(aws: AwsAccount, stack: str) -> HeldStack | None:
    """What the stack was made with; None if there is none. A ClusterError for one that is not finished."""
    held = stack_outputs(aws, stack)
    if held is None:
        return None
    usd = held.get("AlarmUsd")
    return HeldStack(held["Place"], held.get("AlarmEmail"), None if usd is None else float(usd))


def free_route_tables(aws: AwsAccount, stack: str, vpc: str, tables: tuple[str, ...]) -> tuple[str, ...]:
    """Those that no other gateway to S3 serves: AWS refuses a second one, and the first does the same."""
    service = f"com.amazonaws.{aws.region}.s3"
    wanted = {"vpc-id": vpc, "service-name": service, "vpc-endpoint-type": "Gateway"}
    filters = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
    with aws.asked("looking for the network's endpoints"):
        found = aws.client("ec2").describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]
    mine = _endpoint_of(aws, stack)
    served = {table for one in found if not _is_of(stack, mine, one) for table in one.get("RouteTableIds", [])}
    return tuple(table for table in tables if table not in served)


def _is_of(stack: str, mine: str | None, endpoint: Mapping[str, Any]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in endpoint.get("Tags", [])}
    return endpoint["VpcEndpointId"] == mine or tags.get("aws:cloudformation:stack-name") == stack


def _endpoint_of(aws: AwsAccount, stack: str) -> str | None:
    if stack_outputs(aws, stack) is None:
        return None
    with aws.asked(f"looking into the stack {stack}"):
        held = aws.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    return next((one.get("PhysicalResourceId") for one in held if one["LogicalResourceId"] == "BucketEndpoint"), None)
