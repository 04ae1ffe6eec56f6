"""A project's cluster on EC2: its settings, its account, and what starts and ends it."""

from __future__ import annotations

import os
from importlib.metadata import version

from eo_assets.errors import ClusterError
from eo_assets.project import LoadedProject
from eo_assets.project_cluster import Cluster
from eo_assets.project_imagery import SERVICES
from resources.ec2.account import AwsAccount
from resources.ec2.launcher import ClusterLauncher
from resources.workspaces import home

SECRETS = ("CLIENT_ID", "CLIENT_SECRET", "DELIVERY_ACCESS_KEY", "DELIVERY_SECRET_KEY")


def cluster_settings(loaded: LoadedProject) -> Cluster:
    """The project's `cluster:` section. A ClusterError if it has none."""
    if loaded.project.cluster is None:
        raise ClusterError(
            f"{loaded.file}: no `cluster:` section; the least is region and ssh_from, see docs/cluster.md"
        )
    return loaded.project.cluster


def aws_account(cluster: Cluster) -> AwsAccount:
    """The account that the AWS chain finds, in the cluster's region."""
    return AwsAccount(cluster.region, os.environ.get("AWS_PROFILE"))


def cluster_launcher(loaded: LoadedProject) -> ClusterLauncher:
    """What starts and ends the project's cluster, with the image of this version."""
    cluster = cluster_settings(loaded)
    aws, secrets = aws_account(cluster), service_secrets(loaded)
    return ClusterLauncher(loaded.project.name, cluster, aws, home(), version("eo-assets"), secrets)


def service_secrets(loaded: LoadedProject) -> dict[str, str]:
    """The secrets of the project's services that this environment has. A bucket is reached by the role of a machine."""
    services = (*SERVICES.values(), *loaded.project.services.values())
    names = {f"{service.credentials}{secret}" for service in services for secret in SECRETS}
    return {name: os.environ[name] for name in names if os.environ.get(name)}
