"""Machines on this machine: namespaces, each with its own network, processes, sshd, home, /tmp/ray and shared memory.

They see this machine's files, and reach one another and `HERE` over a bridge of their own, and nothing else. Needs
root, iproute2, util-linux and openssh-server.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.loopback_supervisor import NAMESPACES, end_with_parent

PROGRAMS = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "rsync", "/usr/sbin/sshd")
HOSTS = [str(address) for address in NAMESPACES.hosts()]
HERE, FIRST = HOSTS[0], 9
READY_SECONDS = 30


def why_not() -> str | None:
    """Why no such machines can be made here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (openssh-server, rsync, iproute2)"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    made = _ip("netns", "add", "eo-probe", check=False)
    _ip("netns", "del", "eo-probe", check=False)
    return None if made.returncode == 0 else f"no network namespace can be made: {made.stderr.decode().strip()}"


@dataclass(frozen=True)
class NamespaceMachine:
    """One machine. The process `pid` holds its namespaces: when it ends, all of them end."""

    name: str
    address: str
    pid: int

    @property
    def inside(self) -> int | None:
        """The id, as this machine sees it, of the first process inside, sshd; None once it is switched off."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def processes(self) -> list[str]:
        """The names of what runs on it."""
        found: list[str] = []
        with contextlib.suppress(OSError):
            namespace = Path(f"/proc/{self.inside}/ns/pid").readlink()
            for entry in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (entry / "ns/pid").readlink() == namespace:
                        found.append((entry / "comm").read_text().strip())
        return found

    def cut_off(self) -> None:
        """Pull its cable: it goes on, and nobody hears of it."""
        _ip("link", "set", _cable(self.name), "down")

    def is_reached(self) -> bool:
        """Is its cable in?"""
        return b"state UP" in _ip("link", "show", _cable(self.name)).stdout

    def end(self) -> None:
        """Switch it off."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Machines:
    """Several machines, and the key that opens them for root."""

    folder: Path
    key: Path
    nodes: Sequence[NamespaceMachine]

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """What every shell on them has: this machine's programs, and what a machine on EC2 has by its role."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in {"PATH": path, **environment}.items()]
        for node in self.nodes:
            (self.folder / node.name / "home/.bashrc").write_text("".join(lines))


@contextlib.contextmanager
def machines(count: int) -> Iterator[Machines]:
    """So many machines, up and answering; nothing of them is left behind."""
    folder = Path(tempfile.mkdtemp(prefix="eo-machines-"))
    nodes: list[NamespaceMachine] = []
    holders: list[subprocess.Popen[bytes]] = []
    bridge = f"eo{os.getpid() % 100000}"
    try:
        for name in ("key", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{HERE}/{NAMESPACES.prefixlen}", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in range(count):
            holder, node = _machine(folder, bridge, f"{bridge}n{number}", HOSTS[FIRST + number])
            holders.append(holder)
            nodes.append(node)
        for node in nodes:
            _wait_for(node)
        yield Machines(folder, folder / "key", nodes)
    finally:
        for holder, node in zip(holders, nodes):
            node.end()
            holder.wait(10)
            _ip("netns", "del", node.name, check=False)
            _ip("link", "del", _cable(node.name), check=False)
        _ip("link", "del", bridge, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _machine(folder: Path, bridge: str, name: str, address: str) -> tuple[subprocess.Popen[bytes], NamespaceMachine]:
    _ip("netns", "add", name)
    _ip("link", "add", _cable(name), "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", _cable(name), "master", bridge, "up")
    _ip("-n", name, "addr", "add", f"{address}/{NAMESPACES.prefixlen}", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "link", "set", "lo", "up")
    own = folder / name
    for part in ("home", "ray", "run"):
        (own / part).mkdir(parents=True)
    users = (line.split(":") for line in Path("/etc/passwd").read_text().splitlines())
    homes = [
        ":".join([*fields[:5], f"{own}/home" if fields[0] == "root" else fields[5], fields[6]]) for fields in users
    ]
    (own / "passwd").write_text("\n".join(homes) + "\n")
    (own / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    (own / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # where nobody answers
    settings = own / "sshd_config"
    settings.write_text(_sshd(folder, own, address))
    authorized = folder / "authorized_keys"
    authorized.write_bytes((folder / "key.pub").read_bytes())
    Path("/tmp/ray").mkdir(exist_ok=True)
    script = " && ".join((
        "mount --make-rprivate /",
        *(f"mount --bind {own}/{file} /etc/{file}" for file in ("passwd", "hosts", "resolv.conf")),
        f"mount --bind {own}/ray /tmp/ray",
        "mount -t tmpfs -o size=512m tmpfs /dev/shm",
        "mkdir -p /run/sshd",
        f"hostname {name}",
        f"exec /usr/sbin/sshd -D -e -f {settings}",
    ))  # fmt: skip
    with (own / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "--pid", "--mount", "--uts", "--fork", "--kill-child",
             "--mount-proc", "bash", "-c", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent,
        )  # fmt: skip
    return process, NamespaceMachine(name, address, process.pid)


def _sshd(folder: Path, own: Path, address: str) -> str:
    said = {
        "ListenAddress": f"{address}:22",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "yes",
        "UsePAM": "no",
        "MaxSessions": 100,
        "MaxStartups": 100,
        "PidFile": own / "run/sshd.pid",
    }
    return "".join(f"{name} {value}\n" for name, value in said.items())


def _wait_for(node: NamespaceMachine) -> None:
    limit = time.monotonic() + READY_SECONDS
    while time.monotonic() < limit and Path(f"/proc/{node.pid}").exists():
        with contextlib.suppress(OSError), socket.create_connection((node.address, 22), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{node.name} does not answer at {node.address}")


def _cable(name: str) -> str:
    return f"{name}c"


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *words], check=check, capture_output=True)
