"""The metadata service of an EC2 machine on loopback: a session token first, and a notice once there is one."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/latest/meta-data/spot/instance-action"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"


class MetadataService(ThreadingHTTPServer):
    """A machine's metadata: its token, what it answers, and how often it was asked for the notice."""

    token = "first"
    answer: bytes | None = None
    asked = 0

    @property
    def address(self) -> str:
        """Instead of http://169.254.169.254."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take_back(self, seconds: int = 120) -> None:
        """The notice: the machine will be terminated so many seconds from now."""
        at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=seconds)
        self.answer = json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: MetadataService

    def do_PUT(self) -> None:
        self._answer(200, self.server.token.encode()) if self.headers[TTL] else self._answer(400, b"")

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.headers["X-aws-ec2-metadata-token"] != self.server.token:
            self._answer(401, b"")
        elif self.path != PATH or self.server.answer is None:
            self._answer(404, b"")
        else:
            self._answer(200, self.server.answer)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def metadata_service() -> Iterator[MetadataService]:
    """One machine's, without a notice yet."""
    with MetadataService(("127.0.0.1", 0), _Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
