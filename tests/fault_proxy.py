"""A proxy before an S3 server on loopback that goes wrong on purpose: once a request, before or after it was forwarded.

It speaks HTTP/1.1 with `Connection: close`, so that one connection is one request, and counts requests and bytes.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

HOST = "127.0.0.1"
How = Literal["400", "500", "503", "429", "403", "301", "507", "slow", "reset", "cut"]
WORDS = {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests", "403": "AccessDenied", "301": "X"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with requests of a method, `times` times, from the one after the first `after_requests` on.

    `forwarded` sends the request on first: the server does what was asked, and only the answer is lost. `code` replaces
    the error code of S3, `seconds` is how long `slow` waits before it forwards; with `every` only one in so many
    goes wrong.
    """

    how: How
    method: str = ""
    times: int = 1
    forwarded: bool = False
    after_requests: int = 0
    code: str = ""
    seconds: float = 0.0
    every: int = 1


@dataclass
class Counted:
    """What went through."""

    requests: list[str] = field(default_factory=list)
    sent: int = 0
    received: int = 0

    def of(self, method: str) -> int:
        """Requests of a method."""
        return sum(line.startswith(method + " ") for line in self.requests)


class FaultProxy:
    """A running proxy; its faults may be changed while it runs."""

    def __init__(self, upstream: str, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        url = urlsplit(upstream)
        self._rewrite = rewrite
        self._upstream = (url.hostname or HOST, url.port or 80)
        self._listener = socket.create_server((HOST, 0))
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._met: dict[int, int] = {}
        self._in_hand = 0
        self.counted = Counted()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Its address, in the place of the server's."""
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def inject(self, *faults: Fault) -> None:
        """From now on these faults, and a new count."""
        with self._lock:
            self._faults = list(faults)
            self._met = {}
            self.counted = Counted()

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait for what is held: a slow request reaches the server even when its client has died meanwhile."""
        limit = time.monotonic() + timeout_s
        while self._in_hand:
            if time.monotonic() > limit:
                raise TimeoutError(f"{self._in_hand} requests are still held after {timeout_s:g} s")
            time.sleep(0.05)

    def close(self) -> None:
        """Take no more requests."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, self._counted_in_hand():
            request = _read_request(client)
            if request is None:
                return
            fault = self._next_fault(request)
            if fault is not None and fault.how == "slow":
                time.sleep(fault.seconds)
            elif fault is not None and not fault.forwarded and fault.how != "cut":
                self._fail(client, fault)
                return
            answer = self._forward(self._rewrite(request))
            if fault is None or fault.how == "slow":
                self._send(client, answer)
            elif fault.how == "cut":
                self._send(client, answer[: max(len(answer) - 1 - _body_size(answer) // 2, 0)])
            else:
                self._fail(client, fault)

    @contextlib.contextmanager
    def _counted_in_hand(self) -> Iterator[None]:
        with self._lock:
            self._in_hand += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_hand -= 1

    def _next_fault(self, request: bytes) -> Fault | None:
        line = request.partition(b"\r\n")[0].decode("latin-1")
        with self._lock:
            self.counted.requests.append(line)
            self.counted.sent += len(request)
            for n, fault in enumerate(self._faults):
                if not line.startswith(fault.method):
                    continue
                met = self._met.get(n, 0)
                self._met[n] = met + 1
                due = fault.after_requests <= met < fault.after_requests + fault.times
                if due and (met + 1) % fault.every == 0:
                    return fault
        return None

    def _forward(self, request: bytes) -> bytes:
        with socket.create_connection(self._upstream) as upstream:
            upstream.sendall(re.sub(rb"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", request, count=1))
            return b"".join(iter(lambda: upstream.recv(1 << 20), b""))

    def _send(self, client: socket.socket, answer: bytes) -> None:
        with self._lock:
            self.counted.received += len(answer)
        client.sendall(answer)

    def _fail(self, client: socket.socket, fault: Fault) -> None:
        if fault.how == "reset":
            # Linger zero: closing sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        body = f"<Error><Code>{fault.code or WORDS[fault.how]}</Code><Token>SECRET-TOKEN</Token></Error>".encode()
        head = f"HTTP/1.1 {fault.how} Fault\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + body)


@contextlib.contextmanager
def fault_proxy(upstream: str, rewrite: Callable[[bytes], bytes] = bytes) -> Iterator[FaultProxy]:
    """A proxy before the server at this address, which gets each request as `rewrite` makes it."""
    proxy = FaultProxy(upstream, rewrite)
    try:
        yield proxy
    finally:
        proxy.close()


def _read_request(client: socket.socket) -> bytes | None:
    read = _until(client, lambda got: b"\r\n\r\n" in got, b"")
    head, _, _ = read.partition(b"\r\n\r\n")
    if not head:
        return None
    if b"expect: 100-continue" in head.lower():
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    whole = len(head) + 4 + (int(length.group(1)) if length else 0)
    return _until(client, lambda got: len(got) >= whole, read)


def _until(client: socket.socket, done: Callable[[bytes], bool], read: bytes) -> bytes:
    buffer = bytearray(read)
    while not done(buffer):
        piece = client.recv(1 << 20)
        if not piece:
            return b""
        buffer += piece
    return bytes(buffer)


def _body_size(answer: bytes) -> int:
    return len(answer.partition(b"\r\n\r\n")[2])
