"""A server of this machine's loopback on the loopback of other machines, which are namespaces of this one.

`python -m tests.simulation.forwarding HOST PORT TARGET_HOST TARGET_PORT` passes on what comes, and prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.loopback_supervisor import end_with_parent

CHUNK = 1 << 16
LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def reachable_from(networks: Sequence[str], between: str, url: str) -> Iterator[None]:
    """In each network namespace, by its name, the URL's port leads to the URL's server, by the address `between`."""
    port = urlsplit(url).port or 80
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(_forward([], between, 0, LOOPBACK, port))
        for network in networks:
            stack.enter_context(_forward(["ip", "netns", "exec", network], LOOPBACK, port, between, here))
        yield


@contextlib.contextmanager
def _forward(within: list[str], host: str, port: int, target: str, target_port: int) -> Iterator[int]:
    """A process that forwards; the port on which it listens."""
    words = [sys.executable, "-m", "tests.simulation.forwarding", host, str(port), target, str(target_port)]
    process = subprocess.Popen(
        [*within, *words], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], preexec_fn=end_with_parent
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()
        target.write_eof()


async def _serve(host: str, port: int, target: str, target_port: int) -> None:
    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            its_reader, its_writer = await asyncio.open_connection(target, target_port)
            await asyncio.gather(_copy(reader, its_writer), _copy(its_reader, writer))
            its_writer.close()
        writer.close()

    server = await asyncio.start_server(passed_on, host, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
