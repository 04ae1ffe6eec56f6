"""For every test: no network but this machine's own. What needs the shared folder is left out where there is none."""

from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

SHARED = Path(__file__).parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Connections to anything but loopback and unix sockets raise SocketConnectBlockedError."""
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


def pytest_report_header() -> str | None:
    """Say what is left out before anything runs."""
    return None if SHARED.is_dir() else "no shared folder beside the checkout: tests marked `shared` are deselected"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, never skip: a skipped test looks like one that might have run."""
    if SHARED.is_dir():
        return
    left_out = [item for item in items if item.get_closest_marker("shared")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("shared")]
