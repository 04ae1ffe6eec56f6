"""One real S3 server for the session, a prefix for each test, and nothing of the user's AWS configuration."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.bucket import Bucket
from resources.bucket_requests import Patience, forget_clients
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from tests.seaweed import Key, Seaweed, seaweed

SHORT = Patience(total_s=3, first_s=0.05, longest_s=0.3, connect_s=2, silence_s=2)
"""Enough for a server on this machine, and a fault that does not pass is told soon."""

AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
)  # fmt: skip


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No AWS settings at all: not of the environment, of files, or of the machine."""
    for name in AWS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_clients()
    yield monkeypatch
    forget_clients()


@pytest.fixture
def as_key(server: Seaweed, clean_environment: pytest.MonkeyPatch) -> Callable[[Key], None]:
    """Become the user of a key, as the environment tells it."""

    def become(key: Key) -> None:
        for name, value in key.environment(server.endpoint).items():
            clean_environment.setenv(name, value)
        forget_clients()

    return become


@pytest.fixture
def address(server: Seaweed, as_key: Callable[[Key], None]) -> str:
    """The address of a new project in the session's bucket: SeaweedFS takes seven volumes for each bucket."""
    as_key(server.admin)
    return f"s3://{server.make_bucket('projects')}/{secrets.token_hex(4)}/a project"


@pytest.fixture
def bucket(address: str) -> Bucket:
    return Bucket.at(address, patience=SHORT)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each kind of store, empty."""
    if request.param == "folder":
        return LocalFolder(tmp_path / "project")
    found: Bucket = request.getfixturevalue("bucket")
    return found
