"""The kernel's side of loopback_guard: the filter, and the process that answers the calls which the filter hands over.

See seccomp(2) and seccomp_unotify(2). The calls that count are connect() and sendto() with an address; all others cost
nothing. io_uring, which filters do not see, is switched off.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NoReturn

NAMESPACES = IPv4Network("10.77.0.0/24")
"""The network of machines that are namespaces of this one: tests/simulation/namespaces.py."""

DNS_PORT = 53
_AUDIT_ARCH, _CONNECT, _SENDTO, _SECCOMP = {
    "x86_64": (0xC000003E, 42, 44, 317),
    "aarch64": (0xC00000B7, 203, 206, 277),
}.get(platform.machine(), (0, 0, 0, 0))
_IO_URING_SETUP, _PIDFD_OPEN, _PIDFD_GETFD = 425, 434, 438
_NOTIFY_RECEIVE, _NOTIFY_SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_ADDRESS_BYTES = 128


def why_not() -> str | None:
    """The reason for which this machine can't be guarded, None if it can."""
    if not sys.platform.startswith("linux") or not _SECCOMP:
        return f"{platform.system()} on {platform.machine()} is not supported"
    action = ctypes.c_uint32(0x7FC00000)
    if _libc().syscall(_SECCOMP, 2, 0, ctypes.byref(action)) != 0:
        return f"the kernel does not hand system calls over ({os.strerror(ctypes.get_errno())})"
    return None


def end_with_parent() -> None:
    """Have this process told to end (SIGTERM) when its parent ends."""
    set_death_signal = 1
    _libc().prctl(set_death_signal, signal.SIGTERM, 0, 0, 0)


def install_filter() -> int:
    """Filter this process and all that come from it; returns the descriptor at which the calls are answered."""
    load, equal, set_, give = 0x20, 0x15, 0x45, 0x06
    allow, notify, refuse = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.ENOSYS
    argument_4 = 16 + 8 * 4
    # struct sock_filter: (code, steps to jump if true, if false, constant), over struct seccomp_data.
    program = [
        (load, 0, 0, 4),
        (equal, 0, 9, _AUDIT_ARCH),
        (load, 0, 0, 0),
        (equal, 8, 0, _CONNECT),
        (equal, 5, 0, _IO_URING_SETUP),
        (equal, 0, 5, _SENDTO),
        (load, 0, 0, argument_4),  # the low half of the address' pointer
        (set_, 4, 0, 0xFFFFFFFF),
        (load, 0, 0, argument_4 + 4),
        (set_, 2, 1, 0xFFFFFFFF),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
        (give, 0, 0, notify),
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer)))
    libc = _libc()
    no_new_privileges, all_threads, new_listener, threads_error = 38, 1, 8, 16
    libc.prctl(no_new_privileges, 1, 0, 0, 0)
    found = libc.syscall(_SECCOMP, 1, all_threads | new_listener | threads_error, header)
    if found < 0:
        raise OSError(ctypes.get_errno(), "the loopback guard could not be installed")
    return int(found)


def supervise(child: int, channel: socket.socket, log: Path) -> NoReturn:
    """Answer the session's calls until it ends, then end as it did."""
    waker, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for passed_on in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(passed_on, lambda number, _: os.kill(child, number))
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    poll = select.poll()
    poll.register(waker, select.POLLIN)
    if descriptors:
        poll.register(descriptors[0], select.POLLIN)
        channel.send(b".")
    own = _own_addresses()
    with log.open("a", encoding="utf-8", buffering=1) as file:
        while True:
            for descriptor, event in poll.poll():
                if descriptor == waker:
                    _drain(waker)
                elif event & select.POLLIN:
                    _answer(descriptor, own, file.write)
                else:
                    poll.unregister(descriptor)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    log.unlink()
                    log.parent.rmdir()
                _end_as(status)


def _end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 512):
            pass


def _answer(descriptor: int, own: frozenset[str], note: Callable[[str], object]) -> None:
    """Let one call go on, or refuse and note it."""
    call = bytearray(80)
    try:
        fcntl.ioctl(descriptor, _NOTIFY_RECEIVE, call)
    except OSError:
        return  # the process ended meanwhile
    identity, pid, _, number = struct.unpack_from("QIIi", call)
    arguments = struct.unpack_from("6Q", call, 32)
    attempt = _look_at(pid, number, arguments, own)
    refused = attempt is not None and bool(attempt["address"])
    if attempt is not None:
        note(json.dumps(attempt) + "\n")
    answer = struct.pack("Qqi", identity, 0, -errno.ENETUNREACH if refused else 0)
    with suppress(OSError):  # likewise
        fcntl.ioctl(descriptor, _NOTIFY_SEND, bytearray(answer + struct.pack("I", 0 if refused else _CONTINUE)))


def _look_at(pid: int, number: int, arguments: tuple[int, ...], own: frozenset[str]) -> Mapping[str, Any] | None:
    """The attempt that a call is, as loopback_guard.Attempt has it; None if it stays on this machine."""
    place, length = (arguments[1], arguments[2]) if number == _CONNECT else (arguments[4], arguments[5])
    try:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(place)
            raw = memory.read(min(length, _ADDRESS_BYTES))
    except (OSError, ValueError, OverflowError):
        # It ended, or the kernel lets none look into it (kernel.yama.ptrace_scope, once its parent has ended).
        return _attempt("", 0, False, pid)
    found = _destination(raw)
    if found is None or (_stays_here(found[0], own) and found[1] != DNS_PORT):
        return None
    return _attempt(str(found[0]), found[1], _is_datagram(pid, arguments[0]), pid)


def _attempt(address: str, port: int, datagram: bool, pid: int) -> Mapping[str, Any]:
    return {"address": address, "port": port, "datagram": datagram, "pid": pid, "command": _command(pid)}


def _destination(raw: bytes) -> tuple[IPv4Address | IPv6Address, int] | None:
    """Address and port of a sockaddr, None if it is no internet address."""
    if len(raw) < 8:
        return None
    family, port = struct.unpack("H", raw[:2])[0], struct.unpack("!H", raw[2:4])[0]
    if family == socket.AF_INET:
        return ip_address(raw[4:8]), port
    if family == socket.AF_INET6 and len(raw) >= 24:
        address = IPv6Address(raw[8:24])
        return address.ipv4_mapped or address, port
    return None


def _stays_here(address: IPv4Address | IPv6Address, own: frozenset[str]) -> bool:
    """Loopback, this machine's own addresses (which go over loopback too), 0.0.0.0, which stands for it, and what
    tests make of network namespaces."""
    return address.is_loopback or address.is_unspecified or str(address) in own or address in NAMESPACES


def _own_addresses() -> frozenset[str]:
    """The addresses of this machine's interfaces, from the kernel's tables."""
    found, last = set(), ""
    for line in _lines("/proc/net/fib_trie"):
        if "|--" in line:
            last = line.split("|--")[1].strip()
        elif "/32 host LOCAL" in line:
            found.add(last)
    for line in _lines("/proc/net/if_inet6"):
        found.add(str(IPv6Address(bytes.fromhex(line.split()[0]))))
    return frozenset(found)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _is_datagram(pid: int, descriptor: int) -> bool:
    """Whether another process' socket is one for datagrams."""
    libc = _libc()
    handle = libc.syscall(_PIDFD_OPEN, pid, 0)
    if handle < 0:
        return False
    copy = libc.syscall(_PIDFD_GETFD, handle, descriptor, 0)
    os.close(handle)
    if copy < 0:
        return False
    with socket.socket(fileno=copy) as found:
        return bool(found.type & 0xF == socket.SOCK_DGRAM)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:500]
    except OSError:
        return "(ended)"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
