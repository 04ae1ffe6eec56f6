"""For every test: no network but this machine's own. What needs the shared folder is left out where there is none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from .loopback_guard import Guard, stand_guard
from .loopback_supervisor import NAMESPACES, why_not

SHARED = Path(__file__).parents[2] / "shared"
GUARD = pytest.StashKey[Guard]()
UNGUARDED = pytest.StashKey[str]()
LOOPBACK = ["127.0.0.1", "::1", "localhost", str(NAMESPACES)]
OURS = ("DAGSTER_HOME", "EO_ASSETS_RAY", "EO_ASSETS_S3_PATIENCE_SECONDS")
"""What `eo-assets` sets in the environment of its own process, for the programs that it starts."""

REMOTE_SERVICE = os.environ.get("EO_ASSETS_VERIFY_SERVICE", "local") != "local"
"""`make verify-sentinel-hub` on a real service leaves this machine; tests/contract limits it to the service's hosts."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """From here on the session is guarded, see loopback_guard."""
    reason = "a real service is to be reached" if REMOTE_SERVICE else why_not()
    if reason is None:
        try:
            config.stash[GUARD] = stand_guard(Path(tempfile.mkdtemp(prefix="loopback-guard-")) / "refused.jsonl")
        except OSError as error:
            reason = str(error)
    if reason is not None:
        config.stash[UNGUARDED] = reason


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Connections to anything but loopback and unix sockets raise SocketConnectBlockedError in the test's process."""
    if not REMOTE_SERVICE:
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A command that a test runs in this process leaves nothing in the environment of the tests after it.

    The instance of a project in a bucket, left in DAGSTER_HOME, had later runs send their logs to that bucket.
    """
    before = {name: os.environ.get(name) for name in OURS}
    try:
        return (yield)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is left out before anything runs."""
    said = [] if SHARED.is_dir() else ["no shared folder beside the checkout: tests marked `shared` are deselected"]
    if GUARD not in config.stash:
        reason = config.stash[UNGUARDED]
        said.append(f"connections are watched in this process only, not in those that it starts: {reason}")
    return said


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, never skip: a skipped test looks like one that might have run."""
    contract = Path(__file__).parent / "contract"
    if REMOTE_SERVICE and any(contract not in item.path.parents for item in items):
        raise pytest.UsageError("EO_ASSETS_VERIFY_SERVICE names a real service: only tests/contract may run")
    absent = {name for name, there in (("shared", SHARED.is_dir()), ("guarded", GUARD in config.stash)) if not there}
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A connection to another machine, by whatever process, fails the session."""
    guard = session.config.stash.get(GUARD, None)
    if guard is not None and guard.failures():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the connections that were refused."""
    guard = config.stash.get(GUARD, None)
    if guard is None:
        return
    if guard.failures():
        terminalreporter.section("connections to other machines", red=True, bold=True)
        for line in sorted({str(attempt) for attempt in guard.failures()}):
            terminalreporter.line(line)
    unseen = {attempt.command for attempt in guard.attempts() if not attempt.address}
    if unseen:
        terminalreporter.section("connections that could not be looked at (kernel.yama.ptrace_scope)")
        for line in sorted(unseen):
            terminalreporter.line(line)


@pytest.fixture
def guard(request: pytest.FixtureRequest) -> Guard:
    """The guard of the session, for the tests of it."""
    return request.config.stash[GUARD]
