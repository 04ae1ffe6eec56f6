"""A server that overlooks the conditions of a put is found out before anything is committed to it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from eo_assets.errors import StorageRefused
from resources.bucket import Bucket
from resources.object_store import ObjectStore
from resources.s3_access import S3Access
from resources.tile_store import TileStore
from tests.integration.object_store.conftest import SHORT
from tests.seaweed import Key


class _Careless(http.server.BaseHTTPRequestHandler):
    """Takes every put and gives it back: as old S3 servers do, whatever the condition."""

    objects: dict[str, bytes]
    heeds: frozenset[str]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        taken = not (self.heeds and "If-None-Match" in self.headers and self.path in self.objects)
        if taken:
            self.objects[self.path] = data
        self.send_response(200 if taken else 412)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        data = self.objects.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 26 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(params=["If-None-Match", "If-Match"])
def careless(request: pytest.FixtureRequest, as_key: Callable[[Key], None]) -> Iterator[tuple[str, str]]:
    """The address of a server, and the condition that it overlooks; of the second kind it heeds the other."""
    as_key(Key("careless", "secret"))
    heeds = frozenset() if request.param == "If-None-Match" else frozenset({"If-None-Match"})
    handler = type("Handler", (_Careless,), {"objects": {}, "heeds": heeds})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", request.param
    server.shutdown()
    server.server_close()


def test_a_careless_server_is_refused_when_a_stage_first_takes_its_folder(careless: tuple[str, str]) -> None:
    endpoint, condition = careless
    bucket = Bucket.at("s3://b/project", S3Access(endpoint), SHORT)
    with pytest.raises(StorageRefused, match=rf"s3://b/project/features/_owner.json: the server overlooks {condition}"):
        TileStore(bucket, "demo", {"features": "features"}).claim("features")


def test_a_careful_one_is_not(store: ObjectStore) -> None:
    store.put("a", b"1")
    store.check_conditions("a", b"1")
    assert store.get("a") == b"1"
