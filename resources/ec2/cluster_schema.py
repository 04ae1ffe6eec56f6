"""The cluster launcher's file, checked to its last key: Ray lets any key through inside `provider` and `node_config`.

For files that people have changed by hand, and for the one that is rendered here. Keys are Ray's and EC2's own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eo_assets.errors import ClusterError
from eo_assets.project_cluster import InstanceType, Region


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provider(_Strict):
    """Where: always EC2."""

    type: Literal["aws"]
    region: Region
    availability_zone: str | None = None
    cache_stopped_nodes: Literal[False] = Field(description="stopped machines still pay for their disks")
    use_internal_ips: bool = False


class Auth(_Strict):
    """Who the launcher signs in as by ssh."""

    ssh_user: str
    ssh_private_key: str | None = None


class Docker(_Strict):
    """The container that Ray runs in."""

    image: str
    container_name: str
    pull_before_run: bool = True
    run_options: list[str] = []


class Ebs(_Strict):
    """A disk."""

    VolumeSize: Annotated[int, Field(ge=8)]
    VolumeType: Literal["gp3", "gp2", "io2"]
    Encrypted: Literal[True]
    DeleteOnTermination: Literal[True]


class BlockDevice(_Strict):
    """A disk and where it is seen."""

    DeviceName: str
    Ebs: Ebs


class Profile(_Strict):
    """The role that a machine has."""

    Arn: str


class Market(_Strict):
    """Spot, where it is said."""

    MarketType: Literal["spot"]


class Metadata(_Strict):
    """How a machine is asked about itself: with a session token, so that no redirected request tells its keys."""

    HttpTokens: Literal["required"]
    HttpPutResponseHopLimit: Annotated[int, Field(ge=1, le=2)]


class Tag(_Strict):
    """A tag."""

    Key: str
    Value: str


class TagSpecification(_Strict):
    """The tags of machines, or of their disks."""

    ResourceType: Literal["instance", "volume"]
    Tags: list[Tag]


class NodeConfig(_Strict):
    """What EC2 is asked for: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html."""

    InstanceType: InstanceType
    ImageId: str
    IamInstanceProfile: Profile
    SubnetIds: Annotated[list[str], Field(min_length=1)]
    SecurityGroupIds: Annotated[list[str], Field(min_length=1)]
    BlockDeviceMappings: Annotated[list[BlockDevice], Field(min_length=1)]
    InstanceInitiatedShutdownBehavior: Literal["terminate"]
    MetadataOptions: Metadata
    UserData: str
    TagSpecifications: list[TagSpecification]
    InstanceMarketOptions: Market | None = None
    KeyName: str | None = None


class NodeType(_Strict):
    """A kind of machine, and how many of it there may be."""

    node_config: NodeConfig
    resources: dict[str, float]
    labels: dict[str, str]
    min_workers: Annotated[int, Field(ge=0)]
    max_workers: Annotated[int, Field(ge=0)]


class ClusterFile(_Strict):
    """The whole file."""

    cluster_name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    max_workers: Annotated[int, Field(ge=0)]
    upscaling_speed: Annotated[float, Field(gt=0)]
    idle_timeout_minutes: Annotated[int, Field(ge=1)]
    provider: Provider
    auth: Auth
    docker: Docker
    available_node_types: dict[str, NodeType]
    head_node_type: str
    file_mounts: dict[str, str]
    initialization_commands: list[str]
    setup_commands: list[str]
    head_start_ray_commands: list[str]
    worker_start_ray_commands: list[str]


def check_cluster_file(text: str, name: str) -> None:
    """Refuse a file that Ray's launcher could not use, or that has a key which nobody reads.

    Raises:
        ClusterError: names the file `name`, the key, its value and what is allowed.
    """
    try:
        document = yaml.safe_load(text)
        ClusterFile.model_validate(document)
    except yaml.YAMLError as error:
        raise ClusterError(f"{name}: not YAML: {error}") from None
    except ValidationError as error:
        raise ClusterError("\n".join(f"{name}: {_told(one)}" for one in error.errors(include_url=False))) from None
    _checked_by_ray(document, name)


def _checked_by_ray(document: dict[str, Any], name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(document))
    except Exception as error:  # of jsonschema, or plain ValueErrors: whatever it is, the launcher would end with it
        raise ClusterError(f"{name}: Ray's launcher refuses it: {error}") from None


def _told(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{key}: {error['input']!r}: nobody reads this key; take it out or correct its name"
    return f"{key}: {error['msg']}" + ("" if error["type"] == "missing" else f", not {error['input']!r}")
