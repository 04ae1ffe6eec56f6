"""The session's guard over connections catches every kind of process, and a session that leaves the machine fails."""

from __future__ import annotations

import _socket
import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_socket import SocketConnectBlockedError

from resources.ray_cluster import RayCluster
from tests.loopback_guard import LOG_VARIABLE, PROBES, RAY_DASHBOARD, Attempt, Guard

pytestmark = pytest.mark.guarded

# Addresses of TEST-NET-2, which no host has (RFC 5737): one for each test.
IN_PROCESS, IN_PYTHON, IN_SHELL, IN_SESSION, DETACHED, DATAGRAM, UNGUARDED = (f"198.51.100.{i}" for i in range(1, 8))
CONNECT = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], 80)))"


def plain_socket(kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> _socket.socket:
    """A socket that pytest-socket does not see, as a library written in C would open it."""
    return _socket.socket(family, kind)


@pytest.fixture
def refused(guard: Guard) -> Callable[[str], list[Attempt]]:
    """`refused(address)`: what was refused of connections to it; they are not counted against this session."""

    def to(address: str) -> list[Attempt]:
        guard.expect(address)
        return [attempt for attempt in guard.attempts() if attempt.address == address]

    return to


def test_the_tests_own_process_is_caught_by_the_guard_and_before_it_by_pytest_socket(
    refused: Callable[[str], list[Attempt]],
) -> None:
    refused(IN_PROCESS)
    with socket.socket() as tried, pytest.raises((SocketConnectBlockedError, UserWarning)):
        tried.connect((IN_PROCESS, 80))
    assert refused(IN_PROCESS) == []
    with closing(plain_socket()) as tried, pytest.raises(OSError) as caught:
        tried.connect((IN_PROCESS, 80))
    assert caught.value.errno == errno.ENETUNREACH
    (attempt,) = refused(IN_PROCESS)
    assert attempt.port == 80 and not attempt.datagram and "pytest" in attempt.command


def test_a_python_child_is_caught(refused: Callable[[str], list[Attempt]]) -> None:
    refused(IN_PYTHON)
    ended = subprocess.run([sys.executable, "-I", "-c", CONNECT, IN_PYTHON], env={}, check=False)
    assert ended.returncode == errno.ENETUNREACH
    (attempt,) = refused(IN_PYTHON)
    assert str(attempt).startswith(f"tcp://{IN_PYTHON}:80 by process ") and CONNECT in attempt.command


def test_a_child_of_another_language_is_caught(refused: Callable[[str], list[Attempt]]) -> None:
    refused(IN_SHELL)
    shell = shutil.which("bash")
    assert shell, "the test needs bash"
    script = f"exec 3<>/dev/tcp/{IN_SHELL}/443"
    ended = subprocess.run([shell, "-c", script], env={}, capture_output=True, check=False)
    assert ended.returncode != 0 and b"unreachable" in ended.stderr
    (attempt,) = refused(IN_SHELL)
    assert (attempt.port, attempt.command) == (443, f"{shell} -c {script}")


def test_a_detached_grandchild_is_caught_after_its_parent_has_ended(refused: Callable[[str], list[Attempt]]) -> None:
    refused(DETACHED)
    shell = shutil.which("bash")
    script = f'(sleep 0.3; "{sys.executable}" -I -c "{CONNECT}" {DETACHED}) & disown'
    subprocess.run([str(shell), "-c", script], env={"PATH": "/usr/bin:/bin"}, start_new_session=True, check=True)
    deadline = time.monotonic() + 20
    while not refused(DETACHED):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_datagram_is_caught(refused: Callable[[str], list[Attempt]]) -> None:
    refused(DATAGRAM)
    with closing(plain_socket(socket.SOCK_DGRAM)) as tried, pytest.raises(OSError, match="unreachable"):
        tried.sendto(b"hello", (DATAGRAM, 9))
    (attempt,) = refused(DATAGRAM)
    assert attempt.datagram and not attempt.harmless


def test_a_name_that_is_looked_up_is_caught_whoever_answers(guard: Guard) -> None:
    with closing(plain_socket(socket.SOCK_DGRAM)) as tried, pytest.raises(OSError, match="unreachable"):
        tried.connect(("127.0.0.53", 53))
    guard.expect("127.0.0.53")
    assert [str(found)[:20] for found in guard.attempts() if found.port == 53][-1] == "udp://127.0.0.53:53 "


def test_a_known_probe_is_harmless_from_its_program_only() -> None:
    metadata = next(probe for probe in PROBES if probe.program == RAY_DASHBOARD)
    asked = Attempt(metadata.address, metadata.port, metadata.datagram, 1, f"python /venv/{RAY_DASHBOARD} --port=1")
    assert asked.harmless
    assert not replace(asked, command="python job.py").harmless
    assert not replace(asked, datagram=not asked.datagram).harmless
    assert not replace(asked, port=443).harmless


def test_this_machine_is_reached_by_all_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, closing(plain_socket()) as client:
        client.connect(("127.0.0.1", server.getsockname()[1]))
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        closing(plain_socket(family=socket.AF_INET6)) as client,
    ):
        client.connect(("::1", server.getsockname()[1]))


def test_many_connections_at_once_cost_little() -> None:
    """Threads that connect side by side do not wait for the supervisor in vain; a connection stays far below 10 ms."""

    def connect() -> None:
        for _ in range(50):
            with closing(plain_socket()) as client:
                client.connect(server.getsockname())

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        threads = [threading.Thread(target=connect) for _ in range(8)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert time.monotonic() - started < 4


def test_ray_sends_no_usage_reports(local_ray: None) -> None:
    RayCluster(workers=1).connect()
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert not usage_stats_enabled()


def session_that_leaves(folder: Path, address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A session of its own with one test, which passes, and whose child connects to an address."""
    tests, copy = Path(__file__).parents[1], folder / "tests"
    copy.mkdir()
    for name in ("conftest.py", "loopback_guard.py", "loopback_supervisor.py"):
        shutil.copy(tests / name, copy / name)
    (copy / "test_leaves.py").write_text(
        "import subprocess, sys\n"
        "def test_that_passes_all_the_same():\n"
        f"    subprocess.run([sys.executable, '-I', '-c', {CONNECT!r}, {address!r}])\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_session_in_which_a_process_leaves_the_machine_fails_and_says_which(
    refused: Callable[[str], list[Attempt]], tmp_path: Path
) -> None:
    refused(IN_SESSION)
    ended = session_that_leaves(tmp_path, IN_SESSION)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
    assert f"tcp://{IN_SESSION}:80 by process" in ended.stdout and CONNECT in ended.stdout


def test_a_session_that_the_system_lets_none_guard_says_so(
    refused: Callable[[str], list[Attempt]], tmp_path: Path
) -> None:
    """A process has one supervisor at most, so an inner session that does not know of the outer one gets none."""
    refused(UNGUARDED)
    ended = session_that_leaves(tmp_path, UNGUARDED, **{LOG_VARIABLE: ""})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "connections are watched in this process only, not in those that it starts: " in ended.stdout
