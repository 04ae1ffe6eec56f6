"""`eo-assets run --ray ec2`: a run whose driver is on the head of the project's cluster, watched from here.

Training and maps read what tiles made, so the driver belongs where the bucket is near; and Ray's client, which would
have let it stay here, streams no results (docs/adr/0014). The run goes on when this machine is closed.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files

from rich.console import Console
from rich.markup import escape

from eo_assets.cluster import cluster_launcher, service_secrets
from eo_assets.command_cluster import started
from eo_assets.command_cluster_checks import require_beginnable
from eo_assets.command_machines import require_machine_budget
from eo_assets.definitions import open_project
from eo_assets.errors import ClusterError
from eo_assets.project import LoadedProject
from eo_assets.project_parcel import parcel
from eo_assets.stages.build import in_bucket
from jobs.launches import Request
from resources.ec2.cluster_file import RAY_ENVIRONMENT, RAY_HOME, SECRETS_FILE
from resources.ec2.head_shell import SSH_FAILED, HeadShell
from resources.ec2.launcher import ClusterLauncher, as_shell

RUNNER = "run_on_head.sh"
RAY_FOLDER = RAY_HOME.removeprefix("~/")
UNDER_WAY = 75
"""What the runner ends with when a run of the project is under way."""

STOP_MINUTES = 1
"""With --stop the cluster ends this long after the run, should nobody be watching who ends it at once."""

VERSIONS = """
import json, platform
from importlib.metadata import version
print(json.dumps({"Python": platform.python_version(), "ray": version("ray"), "eo-assets": version("eo-assets")}))
"""


def run_on_cluster(name: str, request: Request, console: Console, *, start: bool, stop: bool) -> bool:
    """Begin a run on the project's cluster, or follow the one under way; True if nothing failed."""
    loaded = open_project(name)
    if not in_bucket(loaded):
        raise ClusterError(
            f"{loaded.file}: storage.project_folder: {loaded.project_folder} is a folder of this machine, which a "
            "cluster does not reach; put the project in a bucket, s3://bucket/prefix (docs/buckets.md)"
        )
    if start:
        require_beginnable(loaded, request)
    return followed(name, loaded, cluster_launcher(loaded), request, console, start=start, stop=stop)


def followed(
    name: str,
    loaded: LoadedProject,
    launcher: ClusterLauncher,
    request: Request,
    console: Console,
    *,
    start: bool,
    stop: bool,
) -> bool:
    """The same on a cluster that is given."""
    there = launcher.head()
    if there is None and not start:
        raise ClusterError(
            f"no cluster of {name} is up, so nothing was begun: add --start, or `eo-assets cluster up {name}`"
        )
    if start:
        require_machine_budget(loaded, request)
    head = there or started(launcher, console)
    shell = launcher.shell(head)
    console.print(f"cluster    head {head.id} ({head.instance_type}) at {head.address}")
    try:
        check_versions(shell)
        idle = launcher.cluster.end_idle_after_minutes
        begin(shell, name, loaded, request, console, minutes=STOP_MINUTES if stop else idle)
    except BaseException:
        if there is None:  # nobody would end what was started here for this run; what came up elsewhere is another's
            ended = launcher.down(own=True)
            console.print(f"cluster    {ended} machines ended, since the run did not begin")
        raise
    try:
        code = shell.follow([f"{_folder(loaded)}/{RUNNER}", "follow"])
    except KeyboardInterrupt:
        console.print(
            f"\n[yellow]the run goes on on the head[/]; `eo-assets run {name} --ray ec2` follows it again, "
            f"`eo-assets cluster down {name}` ends it"
        )
        raise
    if code == SSH_FAILED:
        raise ClusterError(
            f"the connection to the head broke, the run goes on there: `eo-assets run {name} --ray ec2` follows it"
        )
    if stop:
        console.print(f"cluster    {launcher.down()} machines ended")
    return code == 0


def begin(
    shell: HeadShell, name: str, loaded: LoadedProject, request: Request, console: Console, *, minutes: int | None
) -> None:
    """Send the project and begin its run, unless one is under way: then that one is left as it is."""
    folder = _folder(loaded)
    runner = files("resources.ec2").joinpath(RUNNER).read_bytes()
    shell.put({**parcel(loaded, os.environ), RUNNER: runner}, f"{folder}/next")
    shell.put({SECRETS_FILE: as_shell(service_secrets(loaded))}, RAY_FOLDER)  # for machines that are yet to start
    said = ["never" if minutes is None else str(minutes), "--ray", "auto", *_arguments(request)]
    width = f"COLUMNS={shutil.get_terminal_size().columns}"
    given = [f"{name}={value}" for name, value in RAY_ENVIRONMENT.items()]
    command = shlex.join(["env", width, *given, f"{folder}/next/{RUNNER}", "start", *said])
    began = shell.answer(["bash", "-c", f"{command}; echo $?"]).split()[-1]
    if began == str(UNDER_WAY):
        console.print(f"[yellow]a run of {escape(loaded.project.name)} is under way on the head: it is followed[/]")
    elif began != "0":
        raise ClusterError(
            f"the run could not be begun on the head: `eo-assets cluster attach {name}`, {folder}/work.log"
        )


def check_versions(shell: HeadShell) -> None:
    """Refuse a cluster of other versions: it would read the project, and its records, in its own way."""
    there: Mapping[str, str] = json.loads(shell.answer(["python", "-c", VERSIONS]))
    here = {"Python": platform.python_version(), "ray": version("ray"), "eo-assets": version("eo-assets")}
    other = [
        f"{what} {there.get(what)} there, {mine} here" for what, mine in here.items() if _differ(what, mine, there)
    ]
    if other:
        raise ClusterError(
            f"the cluster is of another version: {'; '.join(other)}. Build and push the image of this version "
            "(docs/aws.md), or install here what cluster.image holds; then `eo-assets cluster down` and begin again"
        )


def _differ(what: str, mine: str, there: Mapping[str, str]) -> bool:
    """Of Python, a patch release changes nothing that travels."""
    found = there.get(what, "")
    return found.rpartition(".")[0] != mine.rpartition(".")[0] if what == "Python" else found != mine


def _folder(loaded: LoadedProject) -> str:
    """Where the project lies on the head, under its user's home."""
    return f"eo-assets-projects/{loaded.project.name}"


def _arguments(request: Request) -> Sequence[str]:
    options = {"--only": request.only, "--tile": request.tiles, "--rebuy": request.rebuy}
    said = [part for option, values in options.items() for value in values for part in (option, value)]
    return [*said, "--yes"] if request.rebuy else said
