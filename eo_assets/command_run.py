"""`eo-assets run`: one project on this machine, from what a person typed to the paths and scores at the end."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import dagster as dg
from rich.console import Console
from rich.markup import escape

from eo_assets.assets.area import tiles_of
from eo_assets.assets.area_files import find_area
from eo_assets.assets.maps import published_map
from eo_assets.assets.model import read_metrics
from eo_assets.assets.model_card import headline
from eo_assets.assets.run_log import LOG_FILE, log_folder, log_place
from eo_assets.command_plan import tell_unreadable
from eo_assets.definitions import build_definitions, open_project
from eo_assets.instance import dagster_home, open_instance
from eo_assets.project import LoadedProject
from eo_assets.run_report import write_run_report
from eo_assets.stages.build import check_reachable, tile_store, tile_walk
from eo_assets.stages.quicklooks import QUICKLOOK
from eo_assets.terminal import TerminalProgress
from jobs.launches import Launch, Launcher, LaunchResult, Request
from jobs.project_jobs import AREA
from resources.storage_faults import storage_told


def run_project(name: str, request: Request, console: Console) -> bool:
    """Materialize what is asked for; True if nothing failed. Everything is told on the console as it happens."""
    loaded = open_project(name)
    check_reachable(loaded)
    started = dt.datetime.now(dt.UTC)
    request = dataclasses.replace(request, name=f"{started:%Y-%m-%dT%H-%M-%SZ}")
    progress = TerminalProgress(console if loaded.project.logging.show else Console(quiet=True))
    definitions = build_definitions([loaded], progress=dg.ResourceDefinition.hardcoded_resource(progress))
    results: list[LaunchResult] = []
    with storage_told(dagster_home(loaded)), open_instance(loaded) as instance:
        launcher = Launcher(loaded, definitions, instance, lambda launch: _announce(launch, console))
        for result in launcher.run(request):
            results.append(result)
            if not result.success:
                console.print(f"  [red]failed:[/] {escape(result.failure)}")
            elif result.launch.assets == AREA:
                tell_unreadable(find_area(loaded).unreadable, console)
            if result.refused:
                # No report either: it would be gathered from, and written to, what refuses.
                console.print("nothing more is begun until the project folder can be written again")
                return False
    with storage_told(log_folder(loaded, request.name)):
        report = write_run_report(loaded, request.name, started, results, progress.failures)
    _summary(loaded, name, request.name, results, console)
    console.print(f"report     {report}")
    return all(result.success for result in results)


def _kept(loaded: LoadedProject) -> int:
    """How many tiles have something bought that is stale and still used."""
    store, walk = tile_store(loaded), tile_walk(loaded)
    if store.record("tile_grid", "tile_grid") is None:
        return 0
    found = walk.survey(["tiffs", "reference"], tiles_of(store))
    return sum(any(state.status == "kept" for state in states.values()) for _, states in found)


def _announce(launch: Launch, console: Console) -> None:
    keys = launch.keys or ()
    where = f" of {keys[0]}" if len(keys) == 1 else f" of {len(keys)} tiles, {keys[0]} to {keys[-1]}" if keys else ""
    console.print(f"[bold]{', '.join(launch.assets)}[/]{where}")


def _summary(loaded: LoadedProject, name: str, run: str, results: Sequence[LaunchResult], console: Console) -> None:
    """Where everything lies, and how good the model is."""
    store = tile_store(loaded)
    failed = sum(not result.success for result in results)
    tile_runs = [result for result in results if result.launch.keys and "maps" not in result.launch.assets]
    console.print()
    if failed:
        console.print(f"[red]{failed} of {len(results)} launches failed[/]; `eo-assets status {name}` tells why")
    elif not tile_runs:
        kept = _kept(loaded)
        console.print("every tile is up to date" if not kept else "no tile has anything to do")
        if kept:
            console.print(
                f"[yellow]{kept} tiles are used although their settings changed since they were bought[/]; "
                "--rebuy TILE quotes and buys them again"
            )
    model = store.record("model", "model")
    if model is not None:
        for line in headline(read_metrics(store, model)["scores"]):
            console.print(f"score      {line}")
    for zone, record in sorted(store.records("maps").items()):
        console.print(f"map        {store.store.place(published_map(loaded, int(zone)))}")
        console.print(f"quicklook  {store.place(record)}/{QUICKLOOK}")
    if loaded.project.logging.save:
        console.print(f"log        {log_place(loaded, run, LOG_FILE)}")
