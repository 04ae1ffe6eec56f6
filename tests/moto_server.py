"""Moto's EC2, IAM, CloudFormation and SSM on loopback and a free port: an API, and no machine behind it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import requests

from tests.loopback_supervisor import end_with_parent

HOST = "127.0.0.1"
REGION = "eu-central-1"
READY_S = 60


@dataclass(frozen=True)
class Moto:
    """A running server."""

    endpoint: str

    def environment(self) -> dict[str, str]:
        """What the AWS chain needs to find it; it takes any key."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A plain client of boto3."""
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, region_name=REGION, endpoint_url=self.endpoint, **keys)

    def reset(self) -> None:
        """An empty account again."""
        requests.post(f"{self.endpoint}/moto-api/reset", timeout=READY_S).raise_for_status()

    def machines(self) -> list[dict[str, Any]]:
        """Every machine that is not terminated."""
        held = self.client("ec2").describe_instances()["Reservations"]
        return [one for some in held for one in some["Instances"] if one["State"]["Name"] != "terminated"]


@contextlib.contextmanager
def moto_server(folder: Path) -> Iterator[Moto]:
    """A server until the block ends, or this process does."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with (folder / "moto.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", HOST, "-p", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
            preexec_fn=end_with_parent,
        )
    try:
        found = Moto(f"http://{HOST}:{port}")
        _wait(found, process, folder / "moto.log")
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _wait(server: Moto, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"{server.endpoint}/moto-api/", timeout=5).raise_for_status()
            return
        time.sleep(0.1)
    raise TimeoutError(log.read_text())
