"""The image as Ray's launcher uses it, without an engine: Ray's own code asks, deploy/docker/Dockerfile answers.

Not proved here: that the image builds, and that Docker does what it is told.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eo_assets.project_cluster import Cluster
from resources.ec2.cluster_file import EXAMPLE, RAY_HOME, cluster_file

DOCKERFILE = (Path(__file__).parents[2] / "deploy/docker/Dockerfile").read_text().replace("\\\n", " ")
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def environment() -> dict[str, str]:
    """What `ENV` says of the image that runs."""
    lines = re.findall(r"^ENV (.*)$", LAST_STAGE, re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


def home() -> str:
    """Where Docker, too, has the home of the image's user."""
    (name,) = re.findall(r"useradd --create-home --uid 1000 (\w+)", LAST_STAGE)
    assert re.search(r"^USER 1000:1000$", LAST_STAGE, re.MULTILINE)
    return f"/home/{name}"


@dataclass
class Machine:
    """A machine with Docker on it at the end of Ray's ssh, which answers as the image would."""

    cluster_name: str = "eo-assets-demo"
    ssh_user: str = "ubuntu"
    asked: list[str] = field(default_factory=list)

    def run(self, command: str, **_: Any) -> bytes:
        self.asked.append(command)
        if ".Config.Env" in command:
            return json.dumps([f"{name}={value}" for name, value in environment().items()]).encode()
        return home().encode() if command.endswith("printenv HOME") else b""

    def run_rsync_up(self, *_: Any, **__: Any) -> None:
        pass


@pytest.fixture
def runner() -> Any:
    from ray.autoscaler._private.command_runner import DockerCommandRunner

    cluster = Cluster(region="eu-central-1", ssh_from=("198.18.0.0/28",))
    said = cluster_file("demo", cluster, EXAMPLE, "/here/ray")
    common = {"log_prefix": "", "node_id": "i-1", "provider": None, "auth_config": said["auth"], "cluster_name": "c"}
    made = DockerCommandRunner(said["docker"], **common, process_runner=subprocess, use_internal_ip=False)
    made.ssh_command_runner = Machine()
    return made


def test_the_token_is_where_the_images_user_looks_for_it(runner: Any) -> None:
    runner.run_init(as_head=True, file_mounts={RAY_HOME: "/here/ray"}, sync_run_yet=True)
    (started,) = (command for command in runner.ssh_command_runner.asked if command.startswith("docker run"))
    assert f"/~/.ray:{home()}/.ray " in started, started


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root mounts a profile.d")
@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="the image's /etc/profile is Debian's")
def test_what_ray_starts_in_a_login_shell_finds_the_programs_of_the_image(runner: Any, tmp_path: Path) -> None:
    runner.run("ray start --head")
    (asked,) = (command for command in runner.ssh_command_runner.asked if "ray start" in command)
    assert "bash --login" in asked
    (line,) = re.findall(r'echo "(.*?)" > /etc/profile\.d/eo-assets\.sh', LAST_STAGE)
    (tmp_path / "eo-assets.sh").write_text(line.replace("\\$", "$") + "\n")
    first = environment()["PATH"].partition(":")[0]
    login = ["env", "-i", f"HOME={tmp_path}", f"PATH={first}:/usr/bin:/bin", "bash", "--login", "-c", "echo $PATH"]
    mounted = f"mount --bind {tmp_path} /etc/profile.d && exec {shlex.join(login)}"
    said = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], capture_output=True, text=True, check=True)
    assert said.stdout.partition(":")[0] == first
    bare = subprocess.run(login, capture_output=True, text=True, check=True)
    assert first not in bare.stdout.split(":"), "the reason for the line"
