"""The ssh command to a cluster's head, and what it may show."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from eo_assets.errors import ClusterError
from resources.ec2.head_shell import HeadShell, _tar


@pytest.fixture
def shell(tmp_path: Path) -> HeadShell:
    return HeadShell("203.0.113.7", "ubuntu", tmp_path / "key", tmp_path / "known_hosts", "eo-assets")


def test_a_command_runs_in_the_container_and_is_quoted_once_for_ssh(shell: HeadShell) -> None:
    command = shell.command(["echo", "two words"])
    assert command[-2:] == ["ubuntu@203.0.113.7", "docker exec -i eo-assets echo 'two words'"]
    assert "-t" not in command and "-N" not in command


def test_a_forward_runs_nothing_and_stays_on_loopback(shell: HeadShell) -> None:
    command = shell.command([], forward={3001: 3000})
    assert "-N" in command and command[command.index("-L") + 1] == "127.0.0.1:3001:127.0.0.1:3000"
    assert command[-1] == "ubuntu@203.0.113.7"


def test_a_shell_has_a_terminal_on_both_sides(shell: HeadShell) -> None:
    command = shell.command(["bash"], terminal=True)
    assert "-t" in command and command[-1] == "docker exec -it eo-assets bash"


def test_the_host_is_known_by_a_file_of_its_own_and_gets_nobodys_keys(tmp_path: Path) -> None:
    """As ssh itself understands it, with a configuration of the user's that is too kind to all hosts."""
    kind = tmp_path / "config"
    kind.write_text("Host *\n  ForwardAgent yes\n  ForwardX11 yes\n  StrictHostKeyChecking no\n")
    shell = HeadShell("203.0.113.7", "ubuntu", tmp_path / "key", tmp_path / "my cache/100%h/known", "eo-assets")
    command = shell.command(["true"])
    said = subprocess.run([command[0], "-G", "-F", kind, *command[1:]], capture_output=True, text=True, check=True)
    options = dict(line.partition(" ")[::2] for line in said.stdout.splitlines())
    assert options["userknownhostsfile"].replace("%%", "%") == str(shell.known_hosts)
    assert (options["forwardagent"], options["forwardx11"]) == ("no", "no")
    assert options["stricthostkeychecking"] == "accept-new"


def test_files_are_sent_for_the_users_eyes_only() -> None:
    with tarfile.open(fileobj=io.BytesIO(_tar({"secret": b"1", "run.sh": b"2"}))) as packed:
        modes = {entry.name: entry.mode for entry in packed}
        inner = packed.extractfile("secret")
        assert inner is not None and inner.read() == b"1"
    assert modes == {"secret": 0o600, "run.sh": 0o700}


def test_a_head_that_is_not_reached_is_an_error_with_a_remedy(
    shell: HeadShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\necho 'Connection timed out' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match=r"Connection timed out.*ssh_from.*cluster setup"):
        shell.answer(["true"], b"secret")
