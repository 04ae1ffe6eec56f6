"""The clients that Dagster uses go where all others go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType

from resources.dagster_s3 import BucketLogs, s3_resource
from resources.s3_access import S3Access
from resources.s3_settings import forget_profiles


def resource_client(access: S3Access) -> Any:
    return s3_resource(access).get_client()


def logs_client(access: S3Access) -> Any:
    said = {"endpoint_url": access.endpoint, "region": access.region, "profile": access.profile}
    return BucketLogs("bucket", addressing=access.addressing, **said)._s3_session


CLIENTS = pytest.mark.parametrize("client", [resource_client, logs_client])


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys in the environment; returns the file of profiles, which is not there yet."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "B")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    forget_profiles()
    return tmp_path / "config"


def url(client: Any) -> str:
    return str(client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "a"}).partition("?")[0])


@CLIENTS
def test_the_region_is_that_of_aws_region(client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert client(S3Access()).meta.region_name == "eu-north-1"


@CLIENTS
def test_the_bucket_lies_in_the_path_of_another_server_and_in_the_host_where_it_is_said(
    client: Callable[..., Any],
) -> None:
    assert url(client(S3Access("http://s3.example.com:9000"))) == "http://s3.example.com:9000/bucket/a"
    named = S3Access("http://s3.example.com:9000", addressing="virtual")
    assert url(client(named)) == "http://bucket.s3.example.com:9000/a"


@CLIENTS
def test_a_profile_says_where_and_who(client: Callable[..., Any], key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    key.write_text(
        "[profile other]\naws_access_key_id = OTHER\naws_secret_access_key = C\nregion = eu-west-3\n"
        "endpoint_url = http://s3.example.com:9000\n"
    )
    found = client(S3Access(profile="other"))
    assert found.meta.region_name == "eu-west-3"
    assert url(found) == "http://s3.example.com:9000/bucket/a"
    assert found._request_signer._credentials.access_key == "OTHER"


def test_the_ui_is_handed_no_signed_address_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = BucketLogs("bucket", endpoint_url="http://s3.example.com:9000")
    monkeypatch.setattr(logs, "is_capture_complete", lambda log_key: True)
    assert logs.download_url_for_type(["run"], ComputeIOType.STDOUT) is None
    assert "s3://bucket/" in str(logs.display_path_for_type(["run"], ComputeIOType.STDOUT))
