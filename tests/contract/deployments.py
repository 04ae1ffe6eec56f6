"""Where the contract tests can run: the local service, and the three deployments that people have accounts with."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

SERVICE = os.environ.get("EO_ASSETS_VERIFY_SERVICE", "local")
BUCKET = os.environ.get("EO_ASSETS_VERIFY_BUCKET", "")
ROLE = os.environ.get("EO_ASSETS_VERIFY_ROLE_ARN", "")
S3_HOST = "amazonaws.com"


@dataclass(frozen=True)
class Deployment:
    """A Sentinel Hub: its addresses, and how patiently it is asked."""

    name: str
    base_url: str
    token_url: str
    keys_for_delivery: bool = False
    poll_s: float = 10.0
    timeout_s: float = 3600.0

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that the tests may reach, each with its subdomains."""
        bucket = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or f"https://{S3_HOST}"
        return tuple(str(urlsplit(url).hostname) for url in (self.base_url, self.token_url, bucket))

    def delivery(self, url: str) -> dict[str, Any]:
        """How a request names an s3 URL: by role on AWS, by key pair on CDSE, by nothing here."""
        if self.name == "local":
            return {"s3": {"url": url}}
        if self.keys_for_delivery:
            keys = {
                "accessKey": os.environ["AWS_ACCESS_KEY_ID"],
                "secretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
            }
            return {"s3": {"url": url, **keys}}
        return {"s3": {"url": url, "iamRoleARN": ROLE}}


MAIN_TOKENS = "https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token"
DEPLOYMENTS = {
    found.name: found
    for found in (
        Deployment("sentinel_hub", "https://services.sentinel-hub.com", MAIN_TOKENS),
        Deployment("sentinel_hub_uswest", "https://services-uswest2.sentinel-hub.com", MAIN_TOKENS),
        Deployment(
            "cdse",
            "https://sh.dataspace.copernicus.eu",
            "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token",
            keys_for_delivery=True,
        ),
    )
}


def why_not() -> str | None:
    """What is missing for the chosen service, None if it can be asked."""
    if SERVICE == "local":
        return None
    if SERVICE not in DEPLOYMENTS:
        return f"EO_ASSETS_VERIFY_SERVICE={SERVICE} is none of local, {', '.join(DEPLOYMENTS)}"
    missing = [name for name in ("SH_CLIENT_ID", "SH_CLIENT_SECRET") if not os.environ.get(name)]
    return f"set {' and '.join(missing)} for {SERVICE}" if missing else None


def why_no_bucket() -> str | None:
    """What is missing for deliveries, None if they can be tried."""
    if SERVICE == "local" or SERVICE not in DEPLOYMENTS:
        return None
    needed = {"EO_ASSETS_VERIFY_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID")}
    if not DEPLOYMENTS[SERVICE].keys_for_delivery:
        needed = {"EO_ASSETS_VERIFY_BUCKET": BUCKET, "EO_ASSETS_VERIFY_ROLE_ARN": ROLE}
    missing = [name for name, value in needed.items() if not value]
    return f"{' and '.join(missing)} not set" if missing else None


class Bucket(Protocol):
    """A bucket as the tests use it. Keys are below the tests' own prefix."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""

    def get(self, key: str) -> bytes | None:
        """Read an object, None if there is none."""

    def url(self, key: str) -> str:
        """The s3 URL of a key."""

    def name_and_key(self, key: str) -> tuple[str, str]:
        """The bucket's name, and the key in it."""

    def clear(self) -> None:
        """Remove what the tests put there."""


@dataclass(frozen=True)
class FolderBucket:
    """The bucket of the local service: a folder."""

    name: str
    folder: Path

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get(self, key: str) -> bytes | None:
        """Read an object, None if there is none."""
        path = self.folder / key
        return path.read_bytes() if path.is_file() else None

    def url(self, key: str) -> str:
        """The s3 URL of a key."""
        return f"s3://{self.name}/{key}"

    def name_and_key(self, key: str) -> tuple[str, str]:
        """The bucket's name, and the key in it."""
        return self.name, key

    def clear(self) -> None:
        """The folder goes with the session."""


@dataclass(frozen=True)
class S3Bucket:
    """A real bucket, signed in to as boto3 does by itself; `prefix` keeps the tests' objects apart."""

    name: str
    prefix: str

    @property
    def _client(self) -> Any:
        import boto3

        return boto3.client("s3")

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self.name, Key=f"{self.prefix}/{key}", Body=data)

    def get(self, key: str) -> bytes | None:
        """Read an object, None if there is none."""
        client = self._client
        try:
            return bytes(client.get_object(Bucket=self.name, Key=f"{self.prefix}/{key}")["Body"].read())
        except client.exceptions.NoSuchKey:
            return None

    def url(self, key: str) -> str:
        """The s3 URL of a key."""
        return f"s3://{self.name}/{self.prefix}/{key}"

    def name_and_key(self, key: str) -> tuple[str, str]:
        """The bucket's name, and the key in it."""
        return self.name, f"{self.prefix}/{key}"

    def clear(self) -> None:
        """Remove what the tests and the service put under the prefix."""
        client = self._client
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{self.prefix}/"):
            for found in page.get("Contents", []):
                client.delete_object(Bucket=self.name, Key=found["Key"])


def allow_only(hosts: tuple[str, ...]) -> None:
    """From now on this process looks up no other host, nor a subdomain of another. Can't be undone."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.getaddrinfo":
            return
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
        if not any(host == allowed or host.endswith(f".{allowed}") for allowed in hosts):
            raise PermissionError(f"the contract tests may reach {', '.join(hosts)}, and not {host}")

    sys.addaudithook(look)
