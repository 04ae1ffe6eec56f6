"""An account of moto's: empty for each test, and nothing of the user's AWS configuration or home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from eo_assets.core.bucket_policies import delivery_trust, place_of, principal_of
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount, make_stack, network
from resources.ec2.stack import Account
from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop
from tests.moto_server import REGION, Moto, moto_server

PLACE = "s3://maps-of-a-team/west_africa"
COLLECTION = "{collection: sentinel-2-l2a, service: mine, harmonize_values: true}"
ROLE = "arn:aws:iam::123456789012:role/delivers"


@pytest.fixture(scope="session")
def running_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def moto(running_moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Moto:
    running_moto.reset()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in running_moto.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # Ray keeps its key pairs in ~/.ssh
    return running_moto


@pytest.fixture
def aws(moto: Moto) -> AwsAccount:
    return AwsAccount(REGION)


@pytest.fixture
def ami(moto: Moto) -> str:
    """A machine image that moto has, under the name by which Ubuntu's is asked for."""
    found: str = moto.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    return found


@pytest.fixture
def cluster(ami: str) -> Cluster:
    said: dict[str, Any] = {"region": REGION, "ssh_from": ["203.0.113.0/28"], "ami": ami}
    return Cluster.model_validate(said)


@pytest.fixture
def stack(aws: AwsAccount, cluster: Cluster) -> str:
    """The stack is made."""
    vpc, tables = network(aws, cluster)
    make_stack(aws, cluster, place_of(PLACE), Account(vpc, tables))
    return cluster.stack


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A local Sentinel Hub that a project reaches as a remote service: its folder and its address."""
    folder = tmp_path_factory.mktemp("hub")
    collections = folder / "collections.yaml"
    collections.write_text("collections: [{type: sentinel-2-l1c, bands: {B02: {sample_type: UINT16}}, scenes: []}]\n")
    yield folder / "service", ensure_running(ServiceSettings(folder / "service", collections), 120).base_url
    stop(folder / "service")


@pytest.fixture
def project(tmp_path: Path, hub: tuple[Path, str], ami: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a cluster whose every request goes to that service."""
    client = client_of(hub[0])
    monkeypatch.setenv("SH_CLIENT_ID", client.client_id)
    monkeypatch.setenv("SH_CLIENT_SECRET", client.client_secret)
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    file = tmp_path / "project.yaml"
    file.write_text(
        f"extends: west_africa\nstorage: {{project_folder: '{PLACE}'}}\n"
        f"services: {{mine: {{base_url: '{hub[1]}', token_url: '{hub[1]}/oauth/token', iam_role_arn: '{ROLE}'}}}}\n"
        f"imagery: {{collections: [{COLLECTION}]}}\nreference: {{source: {{collection: {COLLECTION}}}}}\n"
        f"byoc: {{service: mine}}\ncluster: {{region: {REGION}, ssh_from: 198.18.0.0/28, ami: {ami}}}\n"
    )
    return file


def made_bucket(moto: Moto, region: str, policy: dict[str, Any] | None = None) -> None:
    s3, name = moto.client("s3"), place_of(PLACE).bucket
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    if policy:
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))


def made_role(moto: Moto, policy: dict[str, Any]) -> None:
    iam, trust = moto.client("iam"), delivery_trust(principal_of("sentinel-hub.com"), "me")
    if "delivers" not in [role["RoleName"] for role in iam.list_roles()["Roles"]]:
        iam.create_role(RoleName="delivers", AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName="delivers", PolicyName="eo-assets", PolicyDocument=json.dumps(policy))


def made_push(moto: Moto, tag: str | None = None) -> None:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"digest": "sha256:" + "0" * 64, "size": 1},
        "layers": [],
    }
    moto.client("ecr").put_image(
        repositoryName="eo-assets", imageManifest=json.dumps(manifest), imageTag=tag or version("eo-assets")
    )


def made_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may lack them: what is looked for is that they are there."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("ssh", "rsync"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
