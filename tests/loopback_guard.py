"""A guard over the whole test session: no process of it, whatever it is written in, connects to another machine.

Before the first test the session forks. The parent stays behind as the supervisor; the child runs the tests under a
seccomp filter that hands every connect() and every addressed sendto() to the supervisor. Processes inherit the filter:
services, Ray, the Dagster UI, browsers, detached ones too. What goes to this machine goes on at full speed. What goes
elsewhere is refused with ENETUNREACH and noted, with address and command line, and the session fails at its end.

Needs Linux 5.0 or later on x86-64 or ARM64, and no rights. Not seen: sendmsg() with an address on a datagram socket
that was never connected, since asking about every sendmsg() would slow all of Ray.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from .loopback_supervisor import DNS_PORT, end_with_parent, install_filter, supervise

LOG_VARIABLE = "EO_ASSETS_TEST_CONNECTIONS"
"""Names the supervisor's log to sessions within the session: a process can have one supervisor only."""


@dataclass(frozen=True)
class Probe:
    """What somebody else's program asks the network by itself. It is refused like all else, but is no failure.

    An empty `address` is any; `program` is a part of the command line.
    """

    address: str
    port: int
    datagram: bool
    program: str
    why: str


RAY_DASHBOARD = "ray/dashboard/dashboard.py"
PROBES = (
    Probe("8.8.8.8", DNS_PORT, True, "", "Ray: which of this machine's addresses faces the network? Sends nothing"),
    Probe("2001:4860:4860::8888", DNS_PORT, True, "", "the same for IPv6"),
    Probe("169.254.169.254", 80, False, RAY_DASHBOARD, "Ray: in which cloud is this? Also with usage reports off"),
    Probe("", DNS_PORT, True, RAY_DASHBOARD, "the same, by the name metadata.google.internal"),
    Probe("", DNS_PORT, False, RAY_DASHBOARD, "the same, asked by TCP when UDP is not answered"),
)


@dataclass(frozen=True)
class Attempt:
    """One connection that was refused, or (`address` empty) one that could not be looked at."""

    address: str
    port: int
    datagram: bool
    pid: int
    command: str

    @property
    def harmless(self) -> bool:
        """Whether it is a probe that is known, or was not seen at all."""
        return not self.address or any(self._is(probe) for probe in PROBES)

    def _is(self, probe: Probe) -> bool:
        return (
            probe.address in ("", self.address)
            and (probe.port, probe.datagram) == (self.port, self.datagram)
            and probe.program in self.command
        )

    def __str__(self) -> str:
        kind = "udp" if self.datagram else "tcp"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{kind}://{host}:{self.port} by process {self.pid}: {self.command}"


class Guard:
    """The session's view of the supervisor's log."""

    def __init__(self, log: Path) -> None:
        self._log, self._start = log, log.stat().st_size
        self._expected: set[str] = set()

    def attempts(self) -> list[Attempt]:
        """All that was refused since the session began."""
        with self._log.open("rb") as file:
            file.seek(self._start)
            return [Attempt(**json.loads(line)) for line in file]

    def expect(self, address: str) -> None:
        """An address that a test of the guard connects to on purpose."""
        self._expected.add(address)

    def failures(self) -> list[Attempt]:
        """What the session must fail for."""
        return [found for found in self.attempts() if not found.harmless and found.address not in self._expected]


def stand_guard(log: Path) -> Guard:
    """Fork, and return in the child, guarded; the parent supervises it and ends with its exit status.

    Within a guarded session, the outer supervisor goes on guarding and its log is used.

    Raises:
        OSError: in the child, the system refused; it goes on unguarded.
    """
    outer = os.environ.get(LOG_VARIABLE)
    if outer:
        return Guard(Path(outer))
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    os.environ[LOG_VARIABLE] = str(log)
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        theirs.close()
        supervise(child, ours, log)
    ours.close()
    end_with_parent()
    try:
        listener = install_filter()
    except OSError:
        theirs.close()
        os.environ.pop(LOG_VARIABLE)
        raise
    socket.send_fds(theirs, [b"."], [listener])
    os.close(listener)
    theirs.recv(1)  # the supervisor listens from here on
    theirs.close()
    return Guard(log)
