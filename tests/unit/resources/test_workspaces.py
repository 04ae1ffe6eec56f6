"""What a project in a bucket keeps on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from resources.s3_access import S3Access
from resources.workspaces import HOME_VARIABLE, local_home, machine_folder

PLACE = "s3://bucket/prefix"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path


def test_on_aws_it_is_told_by_its_address_alone(home: Path) -> None:
    digest = hashlib.sha256(PLACE.encode()).hexdigest()[:16]
    assert machine_folder(PLACE) == local_home(PLACE) == home / f"prefix-{digest}"


def test_buckets_of_one_name_at_two_servers_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = (None, "https://one.example.com", "https://two.example.com", "https://two.example.com:9000")
    found = [machine_folder(PLACE, S3Access(endpoint)) for endpoint in endpoints]
    assert len(set(found)) == len(found)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://one.example.com")
    assert machine_folder(PLACE) == found[1], "wherever the endpoint is said"


def test_a_server_on_this_machine_may_come_back_with_another_port() -> None:
    one, other = (machine_folder(PLACE, S3Access(f"http://127.0.0.1:{port}")) for port in (8333, 9000))
    assert one == other != machine_folder(PLACE)


def test_a_folder_is_itself() -> None:
    assert machine_folder("/data/project") == Path("/data/project")
