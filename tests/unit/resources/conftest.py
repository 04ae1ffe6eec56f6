"""A tiny HTTP service whose answers a test decides, on a real socket of this machine."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, Any]


@dataclasses.dataclass
class HttpService:
    """`answer(method, path, body)` gives (status, JSON or bytes); `asked` are the requests so far."""

    url: str = ""
    answer: Callable[[str, str, Any], Answer] = lambda method, path, body: (404, {})
    token: Answer = (
        200,
        {"access_token": "secret-token", "token_type": "Bearer", "expires_in": 3600, "expires_at": 4e9},
    )
    asked: list[tuple[str, str, Any]] = dataclasses.field(default_factory=list)


def _handler(service: HttpService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/token":
                self._send(service.token)
                return
            text = json.loads(body) if body[:1] == b"{" else body
            service.asked.append((self.command, self.path, text))
            self._send(service.answer(self.command, self.path, text))

        do_GET = do_PUT = do_DELETE = do_POST

        def _send(self, answer: Answer) -> None:
            status, content = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "image/tiff" if isinstance(content, bytes) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def http_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpService]:
    """Running, with credentials in the environment, and a client that does not sleep between its tries."""
    service = HttpService()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(service)) as server:
        service.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("SH_CLIENT_ID", f"client-{server.server_port}")
        monkeypatch.setenv("SH_CLIENT_SECRET", "top-secret")
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
        monkeypatch.setattr("resources.service_calls.pause", lambda seconds: None)
        yield service
        server.shutdown()
        thread.join()
