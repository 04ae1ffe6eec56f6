"""For every test: no network but this machine's own."""

import pytest
from pytest_socket import socket_allow_hosts


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Connections to anything but loopback and unix sockets raise SocketConnectBlockedError."""
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
