"""Where requests to a bucket go, as the environment says."""

from __future__ import annotations

import pytest

from eo_assets.errors import StorageRefused
from resources.s3_access import S3Access
from resources.s3_settings import settings


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8333", "localhost:8333", "s3.example.com", "ftp://s3.example.com"])
def test_an_endpoint_without_http_is_refused_in_plain_words(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(StorageRefused, match=r"does not begin with http.*for example http://127\.0\.0\.1:8333"):
        settings(S3Access())


@pytest.mark.parametrize("endpoint", ["http://jane:hidden@host:8333", "https://host?key=hidden", "jane:hidden@host"])
def test_what_an_endpoint_must_not_hold_is_not_repeated(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(StorageRefused, match="S3 endpoint") as told:
        settings(S3Access())
    assert "hidden" not in str(told.value)
