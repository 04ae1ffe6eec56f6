"""`eo-assets run`: one project on this machine, from what a person typed to the paths and scores at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
from collections.abc import Iterator, Sequence

import dagster as dg
from rich.console import Console
from rich.markup import escape

from eo_assets.assets import retention
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
from eo_assets.run_report import made_since, write_run_report
from eo_assets.stages.build import check_reachable, tile_store, tile_walk
from eo_assets.stages.quicklooks import QUICKLOOK
from eo_assets.stages.walk import StageOutcome
from eo_assets.terminal import TerminalProgress
from jobs.launches import Launch, Launcher, LaunchResult, Request
from jobs.project_jobs import AREA
from resources.output_record import OutputRecord
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
    with storage_told(dagster_home(loaded)), open_instance(loaded) as instance, retired_told(console):
        launcher = Launcher(loaded, definitions, instance, lambda launch: _announce(launch, console))
        for result in launcher.run(request):
            results.append(result)
            if not result.success:
                shown = progress.failures if loaded.project.logging.show else []
                console.print(f"  [red]failed:[/] {escape(unsaid(result.failure, shown))}")
            elif result.launch.assets == AREA:
                tell_unreadable(find_area(loaded).unreadable, console)
            if result.refused:
                # No report either: it would be gathered from, and written to, what refuses.
                console.print("nothing more is begun until the project folder can be written again")
                return False
    with storage_told(log_folder(loaded, request.name)):
        report = write_run_report(loaded, request.name, started, results, progress.failures)
    summary(loaded, name, started, results, console)
    if loaded.project.logging.save:
        console.print(f"log        {log_place(loaded, request.name, LOG_FILE)}")
    console.print(f"report     {log_place(loaded, request.name, report.name)}")
    return all(result.success for result in results)


@contextlib.contextmanager
def retired_told(console: Console) -> Iterator[None]:
    """What goes by storage.retention is told where somebody sees it, and not in the log alone."""

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(f"  {escape(record.getMessage())}")

    log, told = logging.getLogger(retention.__name__), Told(logging.INFO)
    log.addHandler(told)
    try:
        yield
    finally:
        log.removeHandler(told)


def unsaid(failure: str, shown: Sequence[StageOutcome]) -> str:
    """Why a launch failed, without the reasons of tiles that were shown when they failed."""
    for outcome in shown:
        failure = failure.replace(f"\n  {outcome.stage}/{outcome.tile}: {outcome.reason}", "")
        failure = failure.replace(outcome.reason, "as told above") if outcome.reason else failure
    return failure


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


def summary(
    loaded: LoadedProject, name: str, started: dt.datetime, results: Sequence[LaunchResult], console: Console
) -> None:
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
        said = _earlier(model, started) if failed else ""
        for line in headline(read_metrics(store, model)["scores"]):
            console.print(f"score      {line}{said}")
    for zone, record in sorted(store.records("maps").items()):
        said = _earlier(record, started) if failed else ""
        console.print(f"map        {store.store.place(published_map(loaded, int(zone)))}{said}")
        console.print(f"quicklook  {store.place(record)}/{QUICKLOOK}{said}")


def _earlier(record: OutputRecord, started: dt.datetime) -> str:
    """What was made before this run does not hold what failed in it."""
    return "" if made_since(record, started) else "  [yellow](of an earlier run, without what failed in this one)[/]"
