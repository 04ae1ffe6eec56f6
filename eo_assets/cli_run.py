"""`eo-assets run`: on this machine, on a Ray that is there, or on the project's cluster on EC2."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from eo_assets.cli_basics import PROJECT, console, errors, told
from eo_assets.errors import ClusterError

if TYPE_CHECKING:
    from jobs.launches import Request

EC2 = "ec2"


@click.command()
@PROJECT
@click.option("--only", multiple=True, metavar="ASSET", help="Make this asset and what it needs (repeatable).")
@click.option("-t", "--tile", "tiles", multiple=True, metavar="TILE|INDEX", help="Only this tile (repeatable).")
@click.option(
    "--rebuy",
    multiple=True,
    metavar="TILE|INDEX|all",
    help="Buy imagery of this tile again if its settings have changed; quotes first (repeatable).",
)
@click.option("--yes", is_flag=True, help="Do not ask before buying again.")
@click.option(
    "--ray",
    metavar="local|auto|ADDRESS|ec2",
    help="Where tiles run: here (default), on the Ray of this machine or of an address, on the project's cluster. "
    "Default: EO_ASSETS_RAY, else local.",
)
@click.option("--start", is_flag=True, help="With --ray ec2: start the cluster if it is not up.")
@click.option("--stop", is_flag=True, help="With --ray ec2: end the cluster after the run.")
@told
def run(
    project: str,
    only: tuple[str, ...],
    tiles: tuple[str, ...],
    rebuy: tuple[str, ...],
    yes: bool,
    ray: str | None,
    start: bool,
    stop: bool,
) -> None:
    """Materialize PROJECT; goes on past failed tiles and exits with 1 if any remain."""
    from eo_assets.command_spend import quote_rebuy
    from jobs.launches import Request

    if (start or stop) and ray != EC2:
        raise ClusterError(f"--{'start' if start else 'stop'} is about the project's cluster: add --ray {EC2}")
    if rebuy and not (quote_rebuy(project, rebuy, console) and (yes or click.confirm("buy them again?"))):
        console.print("nothing is bought again; the run goes on without it")
        rebuy = ()
    request = Request(only, tiles, rebuy)
    try:
        if ray == EC2:
            from eo_assets.command_cluster_run import run_on_cluster

            sys.exit(0 if run_on_cluster(project, request, console, start=start, stop=stop) else 1)
        _run_here(project, request, ray)
    except KeyboardInterrupt:
        sys.exit(130)


def _run_here(project: str, request: Request, ray: str | None) -> None:
    from eo_assets.command_run import run_project
    from eo_assets.command_spend import running_jobs
    from resources.ray_cluster import RAY_VARIABLE

    if ray:
        os.environ[RAY_VARIABLE] = ray
    try:
        sys.exit(0 if run_project(project, request, console) else 1)
    except KeyboardInterrupt:
        errors.print("interrupted; what is committed stays, run it again to go on")
        for job in running_jobs(project):
            errors.print(
                f"[yellow]batch request {job} goes on at the service and costs[/]: a later run takes its tiles,"
            )
            errors.print(f"`eo-assets orders {project} --stop {job}` ends it")
        raise
