"""The file that Ray's cluster launcher reads, made of a project's `cluster:` section and what the account holds.

Plain values in, a plain mapping out: nothing is asked of AWS here. Its format is Ray's,
https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html; Ray's own check knows no key
inside `provider` or `node_config`, so both are written here and by nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from eo_assets.project_cluster import Cluster
from resources.ec2.instance_end import end_after
from resources.run_usage import INSTANCE_TYPE_LABEL, MARKET_LABEL

PROJECT_TAG = "eo-assets:project"
LONGEST_TAG = "eo-assets:longest-hours"
STARTER_TAG = "eo-assets:started-on"
"""The computer on which the cluster was started: its name, and what tells it from others of that name."""

CLUSTER_TAG = "ray-cluster-name"
"""Ray's own tag on each machine of a cluster."""

RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
}
"""What every process of the cluster is given: Ray wants its kind of sign-in to be said on every machine alike."""
GIVEN = " ".join(f"{name}={value}" for name, value in RAY_ENVIRONMENT.items())
"""The same before a command, whatever its image says."""

WATCH_FOR_THE_END = (
    f"{GIVEN} setsid nohup python -m resources.ec2.interruption > /tmp/interruption.log 2>&1 < /dev/null &"
)

CONTAINER = "eo-assets"
RAY_HOME = "~/.ray"
"""Where Ray looks for its token, `auth_token`. A folder is given it: Docker loses track of a single file."""
SECRETS_FILE = "eo-assets.environment"
"""In that folder too: the services' secrets, as lines for a shell. Ray copies the folder to every machine by ssh."""

DOCKER_PACKAGES = "docker.io amazon-ecr-credential-helper"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Places:
    """What the account holds for a cluster: made once, by the stack, and looked up at each start."""

    ami: str
    root_device: str
    image: str
    security_group: str
    head_profile: str
    worker_profile: str
    subnets: tuple[str, ...]
    started_on: str = "your-computer"


EXAMPLE = Places(
    ami="ami-0123456789abcdef0",
    root_device="/dev/sda1",
    image="123456789012.dkr.ecr.eu-central-1.amazonaws.com/eo-assets:latest",
    security_group="sg-0123456789abcdef0",
    head_profile="arn:aws:iam::123456789012:instance-profile/eo-assets-head",
    worker_profile="arn:aws:iam::123456789012:instance-profile/eo-assets-worker",
    subnets=("subnet-0123456789abcdef0",),
)
"""An account that is not there: for the example in deploy/ray/, and for a look without credentials."""


def cluster_name(project: str) -> str:
    """The cluster's name for Ray, and the value of its tag on every machine: one cluster a project."""
    return f"eo-assets-{project}".replace("_", "-")


def cluster_file(project: str, cluster: Cluster, places: Places, token_folder: str) -> Document:
    """The whole file. `token_folder`: of this machine, with the secret that the cluster's processes share."""
    return {
        "cluster_name": cluster_name(project),
        "max_workers": cluster.workers.most,
        "upscaling_speed": float(cluster.workers.most),
        "idle_timeout_minutes": cluster.idle_minutes,
        "provider": {
            "type": "aws",
            "region": cluster.region,
            **({"availability_zone": ",".join(cluster.availability_zones)} if cluster.availability_zones else {}),
            "cache_stopped_nodes": False,
        },
        "auth": {"ssh_user": cluster.ssh_user},
        "docker": {
            "image": places.image,
            "container_name": CONTAINER,
            "pull_before_run": True,
            # The bucket is where the cluster is; nothing else tells a container in which region that is.
            "run_options": ["--ulimit nofile=65536:65536", "--init", f"--env AWS_REGION={cluster.region}"],
        },
        "available_node_types": _node_types(project, cluster, places),
        "head_node_type": "head",
        "file_mounts": {RAY_HOME: token_folder},
        "initialization_commands": _initialization(places),
        "setup_commands": [],
        "head_start_ray_commands": ["ray stop", _started("--head --port=6379 --dashboard-host=127.0.0.1"
                                    " --autoscaling-config=~/ray_bootstrap_config.yaml")],
        "worker_start_ray_commands": ["ray stop", _started("--address=$RAY_HEAD_IP:6379"), WATCH_FOR_THE_END],
    }  # fmt: skip


def as_yaml(document: Mapping[str, Any]) -> str:
    """The file's text, its keys in the order of the document."""
    return yaml.dump(dict(document), Dumper=_Plain, sort_keys=False, width=120)


class _Plain(yaml.SafeDumper):
    """No anchors, and scripts as they are written: people read this file."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.Node:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Plain.add_representer(str, _Plain.represent_text)


def _started(options: str) -> str:
    secrets = f"{RAY_HOME}/{SECRETS_FILE}"
    given = f"set -a; [ ! -f {secrets} ] || . {secrets}; set +a"
    return f"{given}; {GIVEN} ray start {options} --object-manager-port=8076"


def _initialization(places: Places) -> list[str]:
    """On the machine itself, before its container starts: Docker and the right to pull, where the AMI lacks them."""
    registry = places.image.partition("/")[0]
    from_ecr = ".dkr.ecr." in registry
    needed = ["docker", *(["docker-credential-ecr-login"] if from_ecr else [])]
    there = " && ".join(f"command -v {program}" for program in needed)
    commands = [
        "cloud-init status --wait || true",
        f"({there}) || (sudo apt-get -qq update && sudo apt-get -qqy install {DOCKER_PACKAGES})",
        "sudo usermod -aG docker $USER",
    ]
    if from_ecr:
        helper = f'{{"credHelpers": {{"{registry}": "ecr-login"}}}}'
        commands.append(f"mkdir -p ~/.docker && echo '{helper}' > ~/.docker/config.json")
    return commands


def _node_types(project: str, cluster: Cluster, places: Places) -> Document:
    common = _node_config(project, cluster, places)
    head = cluster.head
    types: Document = {
        "head": {
            "node_config": {
                "InstanceType": head.instance_type,
                "IamInstanceProfile": {"Arn": places.head_profile},
                "BlockDeviceMappings": _disk(places, head.disk_gb),
                **common,
            },
            "resources": {"CPU": 0},
            "labels": _labels(head.instance_type, "on-demand"),
            "min_workers": 0,
            "max_workers": 0,
        }
    }
    for instance_type in cluster.workers.instance_types:
        for market, most in _markets(cluster).items():
            types[f"{market}-{instance_type.replace('.', '-')}"] = {
                "node_config": {
                    "InstanceType": instance_type,
                    "IamInstanceProfile": {"Arn": places.worker_profile},
                    "BlockDeviceMappings": _disk(places, cluster.workers.disk_gb),
                    **({"InstanceMarketOptions": {"MarketType": "spot"}} if market == "spot" else {}),
                    **common,
                },
                "resources": {},
                "labels": _labels(instance_type, market),
                "min_workers": 0,
                "max_workers": most,
            }
    if cluster.workers.fewest:
        first = next(name for name in types if name != "head")
        types[first]["min_workers"] = min(cluster.workers.fewest, types[first]["max_workers"])
    return types


def _labels(instance_type: str, market: str) -> dict[str, str]:
    """Of Ray's node: what a run tells its cost by."""
    return {INSTANCE_TYPE_LABEL: instance_type, MARKET_LABEL: market}


def _markets(cluster: Cluster) -> dict[str, int]:
    """How many machines of each instance type may be bought in which market.

    Several types share the spot machines, so that together they never have more than their share; where everything may
    be spot, any one of them may be all of it.
    """
    workers = cluster.workers
    spot, kinds = workers.most_spot, len(workers.instance_types)
    if spot == workers.most:
        return {"spot": workers.most}
    markets = {"spot": spot // kinds, "on-demand": workers.most - spot}
    return {market: most for market, most in markets.items() if most}


def _node_config(project: str, cluster: Cluster, places: Places) -> Document:
    """What RunInstances is given for every machine alike."""
    tags = {
        **cluster.tags,
        PROJECT_TAG: project,
        LONGEST_TAG: f"{cluster.longest_hours:g}",
        STARTER_TAG: places.started_on,
    }
    return {
        "ImageId": places.ami,
        "SubnetIds": list(places.subnets),
        "SecurityGroupIds": [places.security_group],
        # A machine that shuts itself down is gone, not stopped: a stopped one still pays for its disk.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "UserData": end_after(cluster.longest_hours),
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}
            for kind in ("instance", "volume")
        ],
    }


def _disk(places: Places, size_gb: int) -> list[Document]:
    disk = {"VolumeSize": size_gb, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    return [{"DeviceName": places.root_device, "Ebs": disk}]
