"""SeaweedFS, a real S3 server, on loopback and free ports, in a process group of its own that is ended by its id.

`python -m tests.seaweed --folder F --bucket B` prints the environment to set as one line of JSON and serves until
SIGTERM. It uses nothing of pytest: whoever wants a bucket on this machine starts the same server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import botocore.client
import botocore.config
import botocore.exceptions
import requests

from tests.loopback_supervisor import end_with_parent

HOST = "127.0.0.1"
REGION = "us-east-1"
GRPC = 10_000
"""SeaweedFS opens every port again this much higher."""

READY_S = 60
"""Seconds until a server counts as failed; 3 to 7 are usual."""

STOP_S = 3
"""Seconds that it is given to end by itself; it waits for idle connections longer than that."""

VOLUME_MB = 256
ROLES = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class Key:
    """An access key of the server. Its secret is not shown."""

    id: str
    secret: str = field(repr=False)

    def environment(self, endpoint: str) -> dict[str, str]:
        """What the AWS chain needs to find this key, and the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def _new_key(name: str) -> Key:
    # With what AWS's own have too, and what looks different in a URL.
    return Key(f"{name}{secrets.token_hex(6)}".upper(), f"MARKED/SECRET+{secrets.token_hex(20)}")


@dataclass
class Seaweed:
    """A server over a folder. It may be killed and started again: folder, ports and keys stay."""

    folder: Path
    ports: Mapping[str, int]
    admin: Key
    reader: Key
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The URL of its S3 interface."""
        return f"http://{HOST}:{self.ports['s3']}"

    def environment(self, key: Key | None = None) -> dict[str, str]:
        """What the AWS chain needs to reach it, as its admin or with another key."""
        return (key or self.admin).environment(self.endpoint)

    def client(self, key: Key | None = None) -> botocore.client.BaseClient:
        """A boto3 client of it, for what our own code must not be asked about itself."""
        key = key or self.admin
        config = botocore.config.Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            config=config,
        )

    def start(self) -> None:
        """Start it and wait until it answers; RuntimeError with the end of its log if it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        identities = self.folder / "identities.json"
        identities.write_text(json.dumps(_identities(self.admin, self.reader)))
        identities.chmod(0o600)
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(identities),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,  # whoever started it may be killed
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it and its children, first asked, then forced."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power failure would."""
        self._end(signal.SIGKILL)

    def make_bucket(self, name: str) -> str:
        """A new bucket, or the one that is there."""
        with contextlib.suppress(botocore.exceptions.ClientError):
            self.client().create_bucket(Bucket=name)
        self.client().head_bucket(Bucket=name)
        return name

    def _command(self, identities: Path) -> list[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return [
            str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server",
            f"-ip={HOST}", f"-ip.bind={HOST}", f"-dir={data}",
            f"-master.volumeSizeLimitMB={VOLUME_MB}", "-master.telemetry=false",
            "-volume.max=100", "-volume.preStopSeconds=0", "-filer=true",
            "-s3", f"-s3.config={identities}", "-s3.iam=false", "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",  # on fixed ports otherwise, and a second server ends
            *(f"-{role}.port={port}" for role, port in self.ports.items()),
        ]  # fmt: skip

    def _wait(self) -> None:
        """Ready is when an object was put and read: the parts of the server come up one after another."""
        assert self.process is not None
        limit = time.monotonic() + READY_S
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise RuntimeError(f"SeaweedFS ended:\n{self._log_end()}")
            with contextlib.suppress(requests.RequestException, botocore.exceptions.BotoCoreError, _REFUSED):
                self._probe()
                return
            time.sleep(0.2)
        raise RuntimeError(f"SeaweedFS did not answer within {READY_S} s:\n{self._log_end()}")

    def _probe(self) -> None:
        requests.get(f"{self.endpoint}/status", timeout=1).raise_for_status()
        client = self.client()
        with contextlib.suppress(_REFUSED):
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"1")
        client.get_object(Bucket="ready", Key="ready")["Body"].read()

    def _log_end(self) -> str:
        return (self.folder / "weed.log").read_text(errors="replace")[-2000:]

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        for kind in (how, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, kind)  # its own group: no one else's process is in it
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
                return


_REFUSED = botocore.exceptions.ClientError


def _identities(admin: Key, reader: Key) -> dict[str, object]:
    def entry(name: str, key: Key, *actions: str) -> dict[str, object]:
        credentials = [{"accessKey": key.id, "secretKey": key.secret}]
        return {"name": name, "credentials": credentials, "actions": list(actions)}

    return {"identities": [entry("admin", admin, "Admin"), entry("reader", reader, "Read", "List")]}


def free_ports() -> dict[str, int]:
    """A port for each role, free now, and free again where SeaweedFS opens its second one."""
    found: list[int] = []
    with contextlib.ExitStack() as taken:
        while len(found) < len(ROLES):
            first = taken.enter_context(socket.socket())
            first.bind((HOST, 0))
            port = first.getsockname()[1]
            second = taken.enter_context(socket.socket())
            with contextlib.suppress(OSError, OverflowError):  # taken, or beyond the last port
                second.bind((HOST, port + GRPC))
                found.append(port)
    return dict(zip(ROLES, found))


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """A running server over a folder."""
    server = Seaweed(folder, free_ports(), _new_key("admin"), _new_key("reader"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def main() -> None:
    """Serve a bucket until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the server keeps its data")
    parser.add_argument("--bucket", required=True, help="a bucket to make")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), seaweed(asked.folder.resolve()) as server:
        server.make_bucket(asked.bucket)
        print(json.dumps(server.environment()), flush=True)
        while server.process is not None and server.process.poll() is None:
            time.sleep(0.5)


if __name__ == "__main__":
    main()
