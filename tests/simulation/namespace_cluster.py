"""A project's cluster whose machines are namespaces of this one: all of the product but EC2 and Docker.

`python -m tests.simulation.namespace_cluster FILE ARGUMENTS` is `eo-assets ARGUMENTS` with such a cluster instead of
one of the account; FILE says which machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from eo_assets import command_cluster, command_cluster_run
from eo_assets.cli import main
from eo_assets.cluster import cluster_settings, service_secrets
from eo_assets.project import LoadedProject
from resources.ec2.account import AwsAccount
from resources.ec2.cluster_file import EXAMPLE, WATCH_FOR_THE_END, as_yaml, cluster_file
from resources.ec2.head_shell import HeadShell
from resources.ec2.launcher import ClusterLauncher
from resources.ec2.machines import Machine
from resources.workspaces import home
from tests.simulation.namespaces import Machines, NamespaceMachine

OBJECT_STORE = "--object-store-memory=150000000"


@dataclass(frozen=True)
class NamespaceLauncher(ClusterLauncher):
    """The first machine is the head, which works on no tile; each of the others has one CPU."""

    there: Machines = field(kw_only=True)

    @property
    def ssh_key(self) -> Path:
        """The key of these machines."""
        return self.there.key

    @property
    def nodes(self) -> tuple[NamespaceMachine, ...]:
        """The machines, the head first."""
        return tuple(self.there.nodes)

    def render(self) -> str:
        """The file of EC2 with Ray's provider for machines that are there: its commands, token and options stay."""
        head, *workers = (node.address for node in self.nodes)
        said = cluster_file(self.project, self.cluster, EXAMPLE, str(self.token_file.parent))
        for of_ec2 in ("docker", "available_node_types", "head_node_type"):
            del said[of_ec2]
        said |= {
            "provider": {"type": "local", "head_ip": head, "worker_ips": workers},
            "auth": {"ssh_user": "root", "ssh_private_key": str(self.ssh_key)},
            "min_workers": len(workers),
            "max_workers": len(workers),
            "initialization_commands": [],
            "setup_commands": [],
        }
        options = {
            # Ray would ask which of its addresses leads to 8.8.8.8: none does.
            "head_start_ray_commands": f"--num-cpus=0 --node-ip-address={head} {OBJECT_STORE}",
            "worker_start_ray_commands": f"--num-cpus=1 {OBJECT_STORE}",
        }
        for key, more in options.items():
            said[key] = [_with(command, more) for command in said[key] if command != WATCH_FOR_THE_END]
        return as_yaml(said)

    def machines(self) -> tuple[Machine, ...]:
        """Those on which Ray runs."""
        return tuple(
            _machine(node, "worker" if index else "head", self.project)
            for index, node in enumerate(self.nodes)
            if "raylet" in node.processes()
        )

    def down(self, *, own: bool = False) -> int:
        """Ray's own end of the cluster; the machines stay."""
        from ray.autoscaler.sdk import teardown_cluster

        found = len(self.machines())
        if found:
            with contextlib.redirect_stdout(sys.stderr):
                teardown_cluster(str(self.file))
        return found

    def shell(self, head: Machine) -> HeadShell:
        """No container: Ray runs on the machine itself."""
        return HeadShell(head.address, "root", self.ssh_key, self.folder / "known_hosts", None)


def _with(command: str, options: str) -> str:
    return command.replace("ray start ", f"ray start {options} ") if "ray start" in command else command


def _machine(node: NamespaceMachine, kind: str, project: str) -> Machine:
    return Machine(
        id=node.name,
        kind=kind,
        instance_type="namespace",
        spot=False,
        state="running",
        launched=dt.datetime.now(dt.UTC),
        address=node.address,
        project=project,
        longest_hours=None,
        ready=True,
        started_on="",
    )


def describe(file: Path, there: Machines) -> None:
    """Keep in a file which machines there are."""
    file.write_text(json.dumps(dataclasses.asdict(there), default=str))


def launcher_of(file: Path, loaded: LoadedProject) -> NamespaceLauncher:
    """The launcher of a project's cluster on the machines that a file describes."""
    said = json.loads(file.read_text())
    nodes = [NamespaceMachine(**node) for node in said["nodes"]]
    there = Machines(Path(said["folder"]), Path(said["key"]), nodes)
    settings = cluster_settings(loaded)
    aws = AwsAccount(settings.region)
    secrets = service_secrets(loaded)
    return NamespaceLauncher(loaded.project.name, settings, aws, home(), "1.0", secrets, there=there)


def _main(file: Path, arguments: list[str]) -> None:
    for module in (command_cluster, command_cluster_run):
        module.cluster_launcher = functools.partial(launcher_of, file)  # type: ignore[attr-defined]
    main(arguments)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
