"""The project file's section about a Ray cluster on EC2: machines, network, how long they may live, what they cost.

What Ray's own schema lets through (a typo inside `provider`, an instance type that is none) is refused here. The file
for the cluster launcher is rendered of these settings: nobody writes it by hand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, model_validator

from eo_assets.project_types import Section, like


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is named twice")
    return values


def _network(value: str) -> str:
    """A range of addresses in CIDR notation that is not the whole world."""
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"not a range of addresses: write it as 203.0.113.7/32 ({error})") from error
    if network.prefixlen < (8 if network.version == 4 else 32):
        raise ValueError(f"{value} is {network.num_addresses} addresses: name the range that you work from")
    return str(network)


def _tag(value: str) -> str:
    for ours in ("aws:", "ray-", "eo-assets:"):
        if value.lower().startswith(ours):
            raise ValueError(f"a tag {ours}... is not yours to set; choose another name")
    return value


InstanceType = Annotated[
    str, like("c6i.4xlarge", r"[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|[0-9]*xlarge|metal[a-z0-9-]*)")
]
InstanceTypes = Annotated[
    tuple[InstanceType, ...], BeforeValidator(_one_or_many), AfterValidator(_unique), Field(min_length=1, max_length=10)
]
Range = Annotated[str, AfterValidator(_network)]
TagKey = Annotated[str, Field(pattern=r"^[\w .:/=+@-]{1,128}$"), AfterValidator(_tag)]
Tags = Mapping[TagKey, Annotated[str, Field(max_length=256)]]
Region = Annotated[str, like("eu-central-1", r"[a-z]{2}(-[a-z]+)+-\d")]
Image = Annotated[
    str,
    like(
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com/eo-assets:0.1.0",
        r"[a-z0-9][a-z0-9./_-]*(:[\w.-]{1,128})?(@sha256:[0-9a-f]{64})?",
    ),
]
DiskGb = Annotated[int, Field(ge=20, le=16_000)]


class Head(Section):
    """The machine that Ray's head, the run and, in production, Dagster live on: on demand, never a spot machine."""

    instance_type: InstanceType = "m6i.xlarge"
    disk_gb: DiskGb = 100


class Workers(Section):
    """The machines that tiles run on. Of several types Ray takes the one that fits, and another where it is sold out.

    `spot_share`: how much of `most` may be spot machines; the rest is on demand. `disk_gb`: of each machine.
    """

    instance_types: InstanceTypes = ("c6i.4xlarge", "m6i.4xlarge")
    fewest: Annotated[int, Field(ge=0, le=1000)] = 0
    most: Annotated[int, Field(ge=1, le=1000)] = 10
    spot_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    disk_gb: DiskGb = 100

    @model_validator(mode="after")
    def _ordered(self) -> Workers:
        if self.fewest > self.most:
            raise ValueError(f"fewest: {self.fewest} is more than most: {self.most}; lower it")
        return self

    @property
    def most_spot(self) -> int:
        """How many of them may be spot machines."""
        return round(self.most * self.spot_share)


class HourlyPrice(Section):
    """US dollars an hour of one instance type."""

    on_demand: NonNegativeFloat
    spot: NonNegativeFloat | None = None


class Cluster(Section):
    """A Ray cluster on EC2 for this project.

    `stack`: the CloudFormation stack that holds its roles and network (`eo-assets cluster setup`). `ami`: by default
    Canonical's Ubuntu 24.04 of the region, Docker put on it at the start. `image`: the Docker image that runs on it,
    by default the stack's own repository with this version as its tag. `ssh_from`: the addresses that may reach the
    head by ssh. `idle_minutes`: until a worker without work ends. `end_idle_after_minutes`: until the whole cluster
    ends for which Dagster knows no run; null: never, where Dagster itself lives on its head. `longest_hours`: every
    machine ends itself after this, whatever became of the run, Ray or Dagster.
    """

    region: Region
    stack: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$")] = "eo-assets"
    head: Head = Head()
    workers: Workers = Workers()
    availability_zones: Annotated[tuple[str, ...], BeforeValidator(_one_or_many), AfterValidator(_unique)] = ()
    subnets: Annotated[
        tuple[Annotated[str, like("subnet-0123456789abcdef0", r"subnet-[0-9a-f]{8,17}")], ...],
        BeforeValidator(_one_or_many),
        AfterValidator(_unique),
    ] = ()
    ami: Annotated[str, like("ami-0123456789abcdef0", r"ami-[0-9a-f]{8,17}")] | None = None
    image: Image | None = None
    ssh_from: Annotated[tuple[Range, ...], BeforeValidator(_one_or_many), Field(min_length=1)]
    ssh_user: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")] = "ubuntu"
    idle_minutes: Annotated[int, Field(ge=1, le=120)] = 5
    end_idle_after_minutes: Annotated[int, Field(ge=5, le=24 * 60)] | None = 30
    longest_hours: Annotated[float, Field(gt=0, le=24 * 14)] = 24.0
    tags: Tags = Field({})
    prices: Mapping[InstanceType, HourlyPrice] = Field({})

    @model_validator(mode="after")
    def _zones_of_region(self) -> Cluster:
        foreign = [zone for zone in self.availability_zones if not zone.startswith(self.region)]
        if foreign:
            raise ValueError(f"availability_zones: {foreign[0]} is not in region {self.region}")
        return self
