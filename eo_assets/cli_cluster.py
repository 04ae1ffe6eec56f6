"""`eo-assets cluster ...`: the commands of a Ray cluster on EC2."""

from __future__ import annotations

import click

from eo_assets.cli_basics import PROJECT, console, told


@click.group()
def cluster() -> None:
    """A Ray cluster on EC2 for PROJECT, from its `cluster:` section. docs/cluster.md goes through it once."""


@cluster.command()
@PROJECT
@click.option("--email", help="Whom to tell when the month's bill for EC2 goes past --usd. Kept when run again.")
@click.option("--usd", type=click.FloatRange(min=1), help="US dollars a month, 100 if never said. Kept when run again.")
@click.option("--move", is_flag=True, help="Take the stack from another place: its machines reach this project alone.")
@told
def setup(project: str, email: str | None, usd: float | None, move: bool) -> None:
    """Make what the account needs, once: roles, network group, image repository, alarm. Costs nothing by itself."""
    from eo_assets.command_cluster import setup as make

    make(project, console, email=email, usd=usd, move=move)


@cluster.command()
@PROJECT
@click.option("--example", is_flag=True, help="With an account that is not there: asks nothing of AWS.")
@click.option("--check", "file", type=click.Path(exists=True, dir_okay=False), help="Check this file instead.")
@told
def render(project: str, example: bool, file: str | None) -> None:
    """Print the file for Ray's cluster launcher, checked by Ray's schema and by ours."""
    from eo_assets.command_cluster import check
    from eo_assets.command_cluster import render as rendered

    print(check(file) if file else rendered(project, example=example), end="")


@cluster.command()
@PROJECT
@told
def up(project: str) -> None:
    """Start the cluster, or find it: its head now, workers when there is work for them."""
    from eo_assets.command_cluster import up as start

    start(project, console)


@cluster.command()
@PROJECT
@told
def status(project: str) -> None:
    """Its machines, since when, and what they have cost so far."""
    from eo_assets.command_cluster import status as tell

    tell(project, console)


@cluster.command()
@PROJECT
@click.option("--ui", "port", type=int, is_flag=False, flag_value=3000, help="Forward the Dagster UI to this port.")
@told
def attach(project: str, port: int | None) -> None:
    """A shell on the head, by ssh; with --ui the head's Dagster UI on this machine."""
    from eo_assets.command_cluster import attach as connect

    connect(project, port, console)


@cluster.command()
@PROJECT
@told
def down(project: str) -> None:
    """End every machine of the cluster. What is committed stays in the bucket."""
    from eo_assets.command_cluster import down as end

    end(project, console)


@cluster.command()
@PROJECT
@told
def guard(project: str) -> None:
    """End a cluster that is older than it may be, or that nobody finished starting. For a cron job beside Dagster."""
    from eo_assets.command_cluster import guard as watch

    watch(project, console)


@cluster.command("in-use", hidden=True)
@PROJECT
@click.option("--while", "process", type=int, required=True, help="A process of this machine.")
@told
def in_use(project: str, process: int) -> None:
    """On the head: say that a run uses the cluster, as long as its process is there. `run_on_head.sh` starts it."""
    from eo_assets.command_cluster import in_use as say

    say(project, process, console)
