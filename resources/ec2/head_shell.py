"""Commands on a cluster's head, by ssh, in the container that runs there."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from eo_assets.errors import ClusterError

CONNECT_SECONDS = 30
ALIVE_SECONDS = 15
"""How often a connection is asked whether it still stands; three silences end it."""

SSH_FAILED = 255
"""What ssh ends with when it is not the command that failed."""

FILE_MODE = 0o600


@dataclass(frozen=True)
class HeadShell:
    """How the head is reached. `known_hosts` is a file of this one machine: an address may be another's tomorrow.

    `container`: the Docker container in which commands run; None where Ray runs on the machine itself.
    """

    address: str
    user: str
    key: Path
    known_hosts: Path
    container: str | None

    def command(
        self, words: Sequence[str], *, terminal: bool = False, forward: Mapping[int, int] | None = None
    ) -> list[str]:
        """The ssh command that runs `words` there. `forward`: ports here to ports there, on loopback."""
        inside = list(words)
        if self.container is not None and inside:
            inside = ["docker", "exec", "-it" if terminal else "-i", self.container, *inside]
        ports = [
            part for here, there in (forward or {}).items() for part in ("-L", f"127.0.0.1:{here}:127.0.0.1:{there}")
        ]
        return [
            "ssh", "-i", str(self.key), *(["-t"] if terminal else []), *([] if inside else ["-N"]), *ports,
            *_options(self.known_hosts), f"{self.user}@{self.address}", *([shlex.join(inside)] if inside else []),
        ]  # fmt: skip

    def become(
        self, words: Sequence[str], *, terminal: bool = False, forward: Mapping[int, int] | None = None
    ) -> NoReturn:
        """Take this process's place."""
        command = self.command(words, terminal=terminal, forward=forward)
        os.execvp(command[0], command)

    def follow(self, words: Sequence[str]) -> int:
        """Run it with this process's output; its exit code, or `SSH_FAILED` if the connection broke."""
        return subprocess.run(self.command(words), stdin=subprocess.DEVNULL, check=False).returncode

    def answer(self, words: Sequence[str], given: bytes = b"") -> str:
        """What a short command prints. `given` is its input: nothing secret is in anybody's list of processes.

        Raises:
            ClusterError: it can't be reached, or the command failed.
        """
        done = subprocess.run(self.command(words), input=given, capture_output=True, check=False)
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == SSH_FAILED:
            raise ClusterError(
                f"the head at {self.address} can't be reached by ssh with {self.key}: {said}; is your address in "
                "cluster.ssh_from? `eo-assets cluster setup` brings a changed one to the account"
            )
        if done.returncode:
            raise ClusterError(f"on the head at {self.address}: {words[0]} failed: {said or done.returncode}")
        return done.stdout.decode(errors="replace")

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """Put files into a folder of the head's user, for that user's eyes only. What else is there stays."""
        script = f"umask 077; mkdir -p {shlex.quote(folder)} && tar -x -C {shlex.quote(folder)} -f -"
        self.answer(["sh", "-c", script], _tar(files))


def _options(known_hosts: Path) -> list[str]:
    said = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "accept-new",
        # ssh takes several files after one another, and %h and the like as its own.
        "UserKnownHostsFile": f'"{str(known_hosts).replace("%", "%%")}"',
        # Whatever this user's own configuration says: who holds the head must not sign in elsewhere as the user.
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "LogLevel": "ERROR",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": str(ALIVE_SECONDS),
        "ExitOnForwardFailure": "yes",
    }
    return [part for name, value in said.items() for part in ("-o", f"{name}={value}")]


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o700 if name.endswith(".sh") else FILE_MODE
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
