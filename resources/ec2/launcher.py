"""A project's cluster, started and ended: Ray's cluster launcher over a file that is rendered each time.

What is there is found by the machines' tags. A cluster whose head is up stays as it is; one that was only half made,
by a starter that was killed or refused, is ended before another is begun.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import socket
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount, places
from resources.ec2.cluster_file import CONTAINER, SECRETS_FILE, as_yaml, cluster_file, cluster_name
from resources.ec2.cluster_schema import check_cluster_file
from resources.ec2.head_shell import HeadShell
from resources.ec2.machines import Machine, end, forgotten, machines
from resources.local_folder import LocalFolder

TOKEN_BYTES = 32
LOOK_SECONDS = 10.0
WHY = (
    "what it printed above says why, and the machines that it had begun are ended. If ssh never became available: "
    "cluster.ssh_from has to hold this machine's public address (curl https://checkip.amazonaws.com), and "
    "`eo-assets cluster setup` brings a changed one to the account"
)


@dataclass(frozen=True)
class ClusterLauncher:
    """One project's cluster. `home`: a folder of this machine's user, for the rendered file and the cluster's token.

    `secrets`: what the services' clients find in the environment of every machine, by the variables' names.
    """

    project: str
    cluster: Cluster
    aws: AwsAccount
    home: Path
    version: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        """Where this machine keeps what it knows of the cluster; nobody else may read it."""
        return self.home / "clusters" / f"{self.aws.region}-{cluster_name(self.project)}"

    @property
    def file(self) -> Path:
        """The rendered file, for `ray attach` and the like."""
        return self.folder / "cluster.yaml"

    @property
    def token_file(self) -> Path:
        """The secret by which the cluster's processes, and this machine, know each other."""
        return self.folder / "ray" / "auth_token"

    def head(self) -> Machine | None:
        """The head that is up, if one is."""
        return next((one for one in self.machines() if one.kind == "head" and one.ready), None)

    def machines(self) -> tuple[Machine, ...]:
        """Those that are there, the head first."""
        return machines(self.aws, self.project)

    def shell(self, head: Machine) -> HeadShell:
        """Commands on a head of this cluster. A ClusterError where its key is not on this computer.

        Ray's launcher makes a key pair a computer: which one of the account's it was, EC2 knows.
        """
        key = Path.home() / ".ssh" / f"{head.key}.pem"
        if not key.is_file():
            raise ClusterError(
                f"the head {head.id} is entered by the key {head.key or '(none)'}, and {key} is not there: the cluster "
                f"was started on {head.started_on or 'another computer'}; bring the file from there, mode 0600, or end "
                "the cluster and start it here"
            )
        known_hosts = self.folder / f"known_hosts-{head.id}"
        return HeadShell(head.address, self.cluster.ssh_user, key, known_hosts, CONTAINER)

    def render(self) -> str:
        """The file's text, checked."""
        found = places(self.aws, self.cluster, self.version, self.computer)
        text = as_yaml(cluster_file(self.project, self.cluster, found, str(self.token_file.parent)))
        check_cluster_file(text, "the file rendered of the project's `cluster:`")
        return text

    def up(self) -> Machine:
        """Start the cluster, or find it. What was begun is ended again when it does not come up.

        Raises:
            ClusterError: the account lacks something, or the head did not come up.
        """
        with LocalFolder(self.folder).exclusive("start", waiting=lambda: None):
            if head := self.head() or self._begun_elsewhere():
                return head
            self.write(self.render())
            if head := self._begun_elsewhere():  # meanwhile AWS was asked this and that
                return head
            self.down()
            try:
                self._launch()
            except BaseException:
                self.down(own=True)
                raise
            return self._first_of_all()

    def _begun_elsewhere(self) -> Machine | None:
        """The head that somebody is starting on another computer, once it is up; None if nobody is, or it never was."""
        while True:
            found = self.machines()
            head = next((one for one in found if one.kind == "head"), None)
            if head is None or head.started_on == self.computer or forgotten(found):
                return None
            if head.ready:
                return head
            time.sleep(LOOK_SECONDS)

    def _first_of_all(self) -> Machine:
        """The cluster's head. Of two that were begun in the same seconds the older stays, and its starter is followed.

        Raises:
            ClusterError: there is none any more.
        """
        head = next((one for one in self.machines() if one.kind == "head"), None)
        if head is not None and head.started_on not in ("", self.computer):
            self.down(own=True)
            head = self._begun_elsewhere()
        if head is None:
            raise ClusterError(
                f"the cluster {cluster_name(self.project)} came up and is gone: `eo-assets cluster status`"
            )
        return head

    @property
    def computer(self) -> str:
        """This computer as tags name it: its name may be another's too, so there is chance in it, kept in `home`."""
        kept = self.home / "clusters" / "computer"
        if not kept.exists():
            chance = secrets.token_hex(4)
            LocalFolder(kept.parent).create(kept.name, chance.encode())
        return f"{socket.gethostname()}-{kept.read_text()}"

    def down(self, *, own: bool = False) -> int:
        """End every machine of the cluster, or those that were started here alone. How many there were."""
        return end(self.aws, self.project, started_on=self.computer if own else None)

    def write(self, text: str) -> None:
        """Keep the file, the services' secrets, and a token for a cluster that has none yet, for this user's eyes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # the lock of a start has made it already
        self.token_file.parent.mkdir(exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError), open(self.token_file, "x", opener=_private) as file:
            file.write(secrets.token_hex(TOKEN_BYTES))
        with open(self.token_file.with_name(SECRETS_FILE), "wb", opener=_private) as secrets_file:
            secrets_file.write(as_shell(self.secrets))
        self.file.write_text(text)

    def _launch(self) -> None:
        from ray.autoscaler.sdk import create_or_update_cluster

        doing = f"starting the cluster {cluster_name(self.project)}"
        with self.aws.asked(doing), _launchers_errors(doing):
            create_or_update_cluster(str(self.file), no_config_cache=True)


def as_shell(variables: Mapping[str, str]) -> bytes:
    """Variables as lines that a shell reads."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())).encode()


@contextlib.contextmanager
def _launchers_errors(doing: str) -> Generator[None]:
    """What the launcher raises, which is a click exception for the command line, as an error of ours."""
    import click

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    except click.ClickException as error:
        raise ClusterError(f"{doing}: {error.format_message()}; {WHY}") from error
    except SystemExit as error:
        raise ClusterError(f"{doing}: the launcher gave up; {WHY}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
