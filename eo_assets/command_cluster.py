"""`eo-assets cluster`: a project's Ray cluster on EC2, from an empty account to its last machine gone."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eo_assets.cluster import aws_account, cluster_launcher, cluster_settings
from eo_assets.core.bucket_policies import place_of
from eo_assets.core.cluster_cost import Hours, cost_of
from eo_assets.definitions import open_project
from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from resources.ec2.account import make_stack, network
from resources.ec2.cluster_file import EXAMPLE, as_yaml, cluster_file
from resources.ec2.cluster_schema import check_cluster_file
from resources.ec2.held_stack import free_route_tables, held_stack
from resources.ec2.launcher import ClusterLauncher
from resources.ec2.machines import Machine, forgotten, note_use
from resources.ec2.stack import Account

ALARM_USD = 100.0
UI_PORT = 3000
"""Of the Dagster UI on the head."""

NOTE_SECONDS = 60.0
"""How often the head says that a run is there: well within the least that `end_idle_after_minutes` may be."""

EXAMPLE_TOKENS = "~/.cache/eo-assets/clusters/example/ray"


def setup(project: str, console: Console, *, email: str | None, usd: float | None, move: bool) -> None:
    """Make the account's stack, or bring it up to date; its alarm stays where no other is asked for.

    Raises:
        ClusterError: the stack is another place's, and `move` is not said.
    """
    loaded = open_project(project)
    cluster = cluster_settings(loaded)
    place = place_of(loaded.project_folder)
    aws = aws_account(cluster)
    vpc, tables = network(aws, cluster)
    held = held_stack(aws, cluster.stack)
    if held is not None and not held.is_for(place) and not move:
        raise ClusterError(
            f"{loaded.file}: cluster.stack: {cluster.stack} in {cluster.region} is for {held.place}, and its "
            f"machines may reach nothing else: name another stack for {loaded.project_folder}, or take this one from "
            f"there with --move"
        )
    alarm = email or (held and held.alarm_email)
    if usd is not None and not alarm:
        raise ClusterError("--usd is about whom to tell when the bill is higher: add --email YOU@EXAMPLE.COM")
    usd = usd or (held and held.alarm_usd) or ALARM_USD
    free = free_route_tables(aws, cluster.stack, vpc, tables)
    changed = make_stack(aws, cluster, place, Account(vpc, free, alarm, usd))
    console.print(f"stack {cluster.stack} in {cluster.region}: {'made' if changed else 'nothing to do'}")


def render(project: str, *, example: bool) -> str:
    """The file for Ray's cluster launcher; as an example it asks nothing of AWS and names what is not there."""
    loaded = open_project(project)
    if example:
        return as_yaml(cluster_file(loaded.project.name, cluster_settings(loaded), EXAMPLE, EXAMPLE_TOKENS))
    return cluster_launcher(loaded).render()


def up(project: str, console: Console) -> None:
    """Start the cluster, or find it; and tell what ends it, since no run does."""
    loaded = open_project(project)
    head = started(cluster_launcher(loaded), console)
    console.print(f"cluster of {project}: head {head.id} ({head.instance_type}) at {head.address}")
    _print_endings(project, cluster_settings(loaded), [head], console)


def started(launcher: ClusterLauncher, console: Console) -> Machine:
    """The head, up; who stops waiting for it is told that nothing is left."""
    try:
        return launcher.up()
    except KeyboardInterrupt:
        console.print(f"\n[yellow]stopped[/]: {len(launcher.machines())} machines are left of what was begun")
        raise


def down(project: str, console: Console) -> None:
    """End every machine of the cluster."""
    ended = cluster_launcher(open_project(project)).down()
    console.print(f"{ended} machines ended; none is left" if ended else "no machine was there")


def status(project: str, console: Console) -> None:
    """Its machines, how long they have been there and what they have cost so far."""
    loaded = open_project(project)
    cluster = cluster_settings(loaded)
    found = cluster_launcher(loaded).machines()
    if not found:
        console.print(f"no machine in {cluster.region}: nothing costs anything")
        return
    table = Table("machine", "kind", "type", "state", "hours", "of", "USD", box=None, pad_edge=False)
    for one in found:
        cost = cost_of([_hours(one)], cluster.prices)
        bought = f"{one.instance_type}{' spot' if one.spot else ''}"
        longest = f"{one.longest_hours:g}" if one.longest_hours else "[red]no end[/]"
        usd = "?" if cost is None else f"{cost:,.2f}"
        table.add_row(one.id, one.kind, bought, one.state, f"{one.hours:.2f}", longest, usd)
    console.print(table)
    console.print(f"{_usd(cost_of(map(_hours, found), cluster.prices))} so far, disks and transfers not counted")
    for one in found:
        if one.too_old:
            console.print(
                f"[red]{one.id} should have ended {one.hours - (one.longest_hours or 0):.1f} h ago[/]: end it"
            )
    _print_endings(project, cluster, found, console)


def _print_endings(project: str, cluster: Cluster, found: Sequence[Machine], console: Console) -> None:
    console.print("what ends them")
    for when, what in endings(project, cluster, found):
        console.print(f"  {when:14s}{what}", soft_wrap=True)


def endings(project: str, cluster: Cluster, found: Sequence[Machine]) -> Iterator[tuple[str, str]]:
    """What ends a cluster's machines, and when; on whose account nothing but `longest_hours` does."""
    last = max((end for one in found if (end := one.ends)), default=None)
    if last is not None:
        yield "at the latest", f"{last:%Y-%m-%d %H:%M} UTC: each machine ends itself after its longest_hours"
    yield "a worker", f"{cluster.idle_minutes} minutes after its last tile (cluster.idle_minutes)"
    run, minutes = f"`eo-assets run {project} --ray ec2`", cluster.end_idle_after_minutes
    if minutes is None:
        yield "after a run", "nothing: cluster.end_idle_after_minutes is null"
    else:
        yield "after a run", f"{minutes} minutes after the end of {run} (cluster.end_idle_after_minutes), 1 with --stop"
    daemon = "" if minutes is None else f", but {minutes} minutes where Dagster's daemon has this project"
    yield "without a run", f"nothing sooner{daemon}; at once: `eo-assets cluster down {project}`"


def guard(project: str, console: Console) -> str:
    """End a cluster that is nobody's any more. Why it was, "" if it is left alone."""
    launcher = cluster_launcher(open_project(project))
    why = forgotten(launcher.machines())
    if why:
        console.print(f"{why}: {launcher.down()} machines ended")
    return why


def in_use(project: str, process: int, console: Console) -> None:
    """Note every minute that a run uses the cluster, until its process is gone. EC2 that refuses is asked again."""
    loaded = open_project(project)
    aws = aws_account(cluster_settings(loaded))
    while _lives(process):
        try:
            note_use(aws, loaded.project.name, dt.datetime.now(dt.UTC))
        except ClusterError as error:
            console.print(f"guards elsewhere do not hear of this run: {error}")
        until = time.monotonic() + NOTE_SECONDS
        while _lives(process) and time.monotonic() < until:
            time.sleep(1.0)


def check(file: str) -> str:
    """Refuse a file for the launcher that has a slip anywhere; what to say of one that has none."""
    check_cluster_file(Path(file).read_text(), file)
    return f"{file}: valid\n"


def attach(project: str, port: int | None, console: Console) -> None:
    """Become ssh: a shell in the head's container, or its Dagster UI forwarded to a port of this machine."""
    found = cluster_launcher(open_project(project))
    if (head := found.head()) is None:
        raise ClusterError(f"no head of {project} is up: start it with `eo-assets cluster up {project}`")
    shell = found.shell(head)
    if port is None:
        shell.become(["bash"], terminal=True)
    console.print(
        f"http://127.0.0.1:{port} is the head's Dagster UI while one runs there (docs/cluster.md#access); "
        "Ctrl-C ends the forward"
    )
    shell.become([], forward={port: UI_PORT})


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _hours(machine: Machine) -> Hours:
    return Hours(machine.instance_type, machine.spot, machine.hours)


def _usd(cost: float | None) -> str:
    return "USD unknown: a price is not in cluster.prices;" if cost is None else f"{cost:,.2f} USD"
