"""`eo-assets`: run, plan, validate, status, path and preflight of a project, and the local Sentinel Hub on its own."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from eo_assets.cli_basics import PROJECT, console, errors, told
from eo_assets.cli_cluster import cluster
from eo_assets.cli_run import run
from eo_assets.errors import EoAssetsError

ASKING = frozenset({"plan", "status", "spend", "orders", "path", "preflight", "doctor"})
"""Commands that only ask: somebody sits before them, so a bucket that does not answer is not waited for long."""

OBJECTS_A_COLLECTION = 50_000
"""New objects after which Python looks for cycles among them, instead of 700; at all objects after 25 times as many.

Imports make a million objects, none of them garbage, and looking them through again and again was an eighth of the CPU
seconds of a run that has nothing to do, and two of the thirteen that the driver takes for eight tiles."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="eo-assets")
@click.pass_context
def main(context: click.Context) -> None:
    """Wall-to-wall maps from satellite time series. PROJECT is a project file, or the name of one that ships."""
    from resources.core_dumps import forbid_core_dumps

    forbid_core_dumps()
    gc.set_threshold(OBJECTS_A_COLLECTION, 5, 5)
    if context.invoked_subcommand in ASKING:
        from resources.s3_access import PATIENCE_VARIABLE

        os.environ.setdefault(PATIENCE_VARIABLE, "10")


main.add_command(run)


@main.command()
@PROJECT
@told
def validate(project: str) -> None:
    """Check PROJECT and its evalscripts; needs no network, bucket or credentials."""
    from eo_assets.assets.reused_model import model_note, model_problem
    from eo_assets.definitions import open_project

    loaded = open_project(project)
    if problem := model_problem(loaded):
        console.print(f"[yellow]nothing would be bought: {escape(problem)}[/]", soft_wrap=True)
    if note := model_note(loaded):
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    console.print(
        f"{loaded.file}: valid ({loaded.project.name} {loaded.project.year}, data in {loaded.project_folder})"
    )


@main.command()
@PROJECT
@click.option("--aoi", type=click.Path(path_type=Path), help="An area of interest instead of the project's own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--names", is_flag=True, help="List the tiles in order, with their index.")
@click.option("--catalog", is_flag=True, help="Ask the service's Catalog how many dates the tiles have.")
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    metavar="HOURS",
    help="When a cluster's machines shall be done.",
)
@told
def plan(project: str, aoi: Path | None, as_json: bool, names: bool, catalog: bool, deadline: float | None) -> None:
    """Tiles, bytes, hours and processing units of PROJECT. Spends nothing and writes nothing."""
    from eo_assets.command_plan import make_plan, print_plan

    made = make_plan(project, aoi, catalog=catalog, deadline_hours=deadline)
    if as_json:
        print(json.dumps(made.as_json(names=names), indent=1))
    else:
        print_plan(made, console, names=names)


@main.command()
@PROJECT
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@told
def status(project: str, as_json: bool) -> None:
    """What of PROJECT is done, missing, stale or failed, and why."""
    from dataclasses import asdict

    from eo_assets.definitions import open_project
    from eo_assets.status import project_status, reasons_once

    loaded = open_project(project)
    assets = project_status(loaded)
    if as_json:
        print(json.dumps({asset.asset: asdict(asset) for asset in assets}, indent=1))
        return
    table = Table("asset", "state", "bytes", box=None, pad_edge=False)
    table.add_column("why", overflow="fold")
    for asset, why in zip(assets, reasons_once(assets)):
        states = ", ".join(f"{count} {state}" for state, count in sorted(asset.states.items()))
        states += f" ({asset.adopted} adopted)" if asset.adopted else ""
        table.add_row(asset.asset, states, f"{asset.bytes / 1e6:,.1f} MB" if asset.bytes else "-", escape(why))
    console.print(table)


@main.command()
@PROJECT
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@told
def spend(project: str, as_json: bool) -> None:
    """What PROJECT has reserved and spent: job, user, estimate, actual."""
    from eo_assets.command_spend import print_spendings

    print_spendings(project, console, as_json=as_json)


@main.command()
@PROJECT
@click.option("--all", "every", is_flag=True, help="Those that have ended too.")
@click.option("--stop", "stopped", metavar="ID", help="Have the service stop this order's job.")
@click.option(
    "--forget", "forgotten", metavar="ID", help="End this order in the project's books, counted as estimated."
)
@told
def orders(project: str, every: bool, stopped: str | None, forgotten: str | None) -> None:
    """The batch jobs of PROJECT: running, stopped, begun and left behind."""
    from eo_assets.command_orders import forget_order, print_orders, stop_order

    if stopped:
        stop_order(project, stopped, console)
    if forgotten:
        forget_order(project, forgotten, console)
    if not (stopped or forgotten):
        print_orders(project, console, every=every)


@main.command()
@PROJECT
@click.option(
    "--units", type=click.FloatRange(min=0, min_open=True), help="Processing units; default: what is missing."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@told
def approve(project: str, units: float | None, yes: bool) -> None:
    """Approve what PROJECT may spend this month, where budget.require_approval asks for it."""
    from eo_assets.command_spend import approve_units, quote_missing

    figure = quote_missing(project, console) if units is None else units
    if figure > 0 and (yes or click.confirm(f"approve {figure:,.1f} processing units?")):
        approve_units(project, figure, console)
    else:
        console.print("nothing is approved")


@main.command()
@PROJECT
@click.argument("asset")
@click.argument("tile", required=False)
@told
def path(project: str, asset: str, tile: str | None) -> None:
    """Print where the committed output of ASSET (of TILE, or of a zone for maps) lies."""
    from eo_assets.command_path import output_path

    print(output_path(project, asset, tile))


@main.command()
@PROJECT
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--stage", "stages", multiple=True, type=click.Choice(("tiffs", "eopatches", "reference")), help="Only this stage."
)
@click.option("--link", is_flag=True, help="Link tiffs instead of copying them, where the disk is the same.")
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@told
def adopt(project: str, folder: Path, stages: tuple[str, ...], link: bool, dry_run: bool, as_json: bool) -> None:
    """Take over tiffs and EOPatches under FOLDER that eo-grow or an earlier project made. Buys nothing.

    Exits with 1 if anything was refused.
    """
    from dataclasses import asdict

    from eo_assets.command_adopt import STAGES, print_adopted, succeeded
    from eo_assets.command_adopt import adopt as take_over

    shown = errors if as_json else console
    taken = take_over(project, folder, stages or STAGES, link=link, dry_run=dry_run, console=shown)
    if as_json:
        print(json.dumps([asdict(adopted) for adopted in taken], indent=1))
    else:
        print_adopted(taken, console, dry_run=dry_run)
    sys.exit(0 if succeeded(taken) else 1)


@main.command()
@PROJECT
@click.option(
    "--older-than",
    "hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="Leave alone what was written to since; 0 only if nothing runs.",
)
@told
def sweep(project: str, hours: float) -> None:
    """Remove what killed runs of PROJECT left behind, and imagery that was bought again. What is in use stays."""
    from eo_assets.command_sweep import sweep_project

    sweep_project(project, hours, console)


@main.command()
@PROJECT
@click.option("--yes", is_flag=True, help="Delete; without it nothing is touched.")
@told
def retire(project: str, yes: bool) -> None:
    """Delete the pixels of PROJECT that storage.retention does not keep any longer. Records stay."""
    from eo_assets.command_retire import retire_project

    retire_project(project, console, yes=yes)


@main.command("bucket-policy")
@click.argument("address", metavar="S3://BUCKET[/PREFIX]")
@click.option(
    "--role",
    type=click.Choice(("graph", "delivery", "delivery-trust", "reader", "bucket", "lifecycle")),
    default="graph",
    show_default=True,
    help="Whose rights; `bucket` is the policy on the bucket itself, for BYOC.",
)
@click.option("--service", default="sentinel-hub.com", show_default=True, help="Or dataspace.copernicus.eu.")
@click.option("--principal", metavar="ARN", help="Who the service comes as, if it is another than is known.")
@click.option("--external-id", metavar="ID", help="Your account at the service, for delivery-trust.")
@click.option("--folder", help="The tiffs' folder (delivery) or the maps' (bucket), where the project has another.")
@told
def bucket_policy(address: str, role: str, service: str, **options: str | None) -> None:
    """Print the JSON policy that a role needs in a bucket. Changes nothing; see deploy/README.md."""
    from eo_assets.command_bucket_policy import bucket_policy as policy

    print(policy(address, role, service, **options))


@main.command()
@PROJECT
@told
def preflight(project: str) -> None:
    """Ask the services of PROJECT whether it could run: sign-in, Batch, units, delivery. Spends nothing."""
    from eo_assets.command_preflight import preflight as ask
    from eo_assets.command_preflight import print_preflight

    sys.exit(0 if print_preflight(ask(project), console) else 1)


@main.command()
@PROJECT
@told
def doctor(project: str) -> None:
    """Would a run of PROJECT work? Asks AWS and the services: each fault with its remedy. Spends and writes nothing."""
    from eo_assets.command_doctor import doctor as examine
    from eo_assets.command_doctor import print_rows

    sys.exit(0 if print_rows(examine(project), console) else 1)


@main.command()
@click.argument("projects", nargs=-1, required=True)
@click.option("--port", default=3000, show_default=True)
@told
def ui(projects: tuple[str, ...], port: int) -> None:
    """Open the Dagster UI (webserver and daemon) on PROJECTS, until it is interrupted."""
    from eo_assets.definitions import PROJECTS_VARIABLE, open_project
    from eo_assets.instance import open_instance

    open_instance(*(open_project(project) for project in projects)).dispose()
    environment = {**os.environ, PROJECTS_VARIABLE: ",".join(projects)}
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "-m", "eo_assets.definitions"]
    # Dagster takes this process's place, so that a signal to it reaches the servers that it started. It ends on SIGTERM
    # as it does on SIGINT, which a shell ignores for what it starts in the background.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvpe(command[0], [*command, "-h", "127.0.0.1", "-p", str(port)], environment)


main.add_command(cluster)


@main.group("sentinel-hub")
def sentinel_hub() -> None:
    """A Sentinel Hub on this machine."""


@sentinel_hub.command()
@click.option(
    "--collections", type=click.Path(exists=True, path_type=Path), help="YAML file that declares collections."
)
@click.option(
    "--bucket", "buckets", multiple=True, metavar="NAME=FOLDER", help="A folder that plays a bucket (repeatable)."
)
@click.option("--s3", metavar="JSON", help='Serve an S3 server\'s buckets: {"endpoint": "https://..."}, {} for AWS.')
@click.option("--folder", type=click.Path(path_type=Path), default=Path("sentinel-hub"), show_default=True)
@click.option("--port", default=8350, show_default=True, help="0: any free port.")
@click.option("--allow-faults", is_flag=True, help="Let tests make it misbehave, see docs/local-sentinel-hub.md.")
@told
def serve(
    collections: Path | None, buckets: tuple[str, ...], s3: str | None, folder: Path, port: int, allow_faults: bool
) -> None:
    """Serve OAuth, Process, Batch V2, Catalog and BYOC on 127.0.0.1 until interrupted."""
    from resources.local_sentinel_hub.server import ServiceSettings
    from resources.local_sentinel_hub.server import serve as serve_until_interrupted
    from resources.local_sentinel_hub.settings import parsed_access

    pairs = [bucket.partition("=") for bucket in buckets]
    wrong = [bucket for bucket, (_, sign, folder_name) in zip(buckets, pairs) if not (sign and folder_name)]
    if wrong:
        raise EoAssetsError(f"--bucket {wrong[0]}: write NAME=FOLDER, for instance --bucket maps=/data/maps")
    mapping = {name: Path(path).resolve() for name, _, path in pairs}
    serve_until_interrupted(
        ServiceSettings(
            folder=folder,
            collections=collections,
            buckets=mapping,
            port=port,
            faults=allow_faults,
            s3=None if s3 is None else parsed_access(s3),
        )
    )


@sentinel_hub.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("sentinel-hub"), show_default=True)
@told
def stop(folder: Path) -> None:
    """End the service whose state lies in FOLDER."""
    from resources.local_sentinel_hub.server import stop as stop_service

    console.print("stopped" if stop_service(folder) else f"no service runs in {folder}")


if __name__ == "__main__":
    main()
