"""`eo-assets retire`: let go of the pixels that storage.retention does not keep any longer."""

from __future__ import annotations

from pathlib import PurePosixPath

from rich.console import Console

from eo_assets.assets.area import tiles_of
from eo_assets.assets.retention import let_go, retirable, summed
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store
from resources.output_record import OutputRecord
from resources.retiring import retire
from resources.tile_store import TileStore


def retire_project(name: str, console: Console, *, yes: bool) -> None:
    """Tell what may go, and with `yes` let it go. Commit records stay: nothing turns stale."""
    loaded = open_project(name)
    store = tile_store(loaded)
    rules = loaded.project.storage.retention.rules
    if not rules:
        console.print(f"{loaded.file}: storage.retention keeps everything; give a stage until or days first")
        return
    for stage, rule in rules.items():
        console.print(f"  {stage:12s} {rule}")
    leftovers = _left_behind(store)
    if not yes:
        _tell(loaded, store, leftovers, console)
        return
    for record in leftovers:
        retire(store, record)
    gone = let_go(loaded, store, tiles_of(store))
    console.print(f"retired: {gone}")
    if leftovers:
        console.print(f"deleted what a killed run had left of {len(leftovers)} retired outputs")


def _tell(loaded: LoadedProject, store: TileStore, leftovers: list[OutputRecord], console: Console) -> None:
    console.print(f"would be retired: {summed(list(retirable(loaded, store, tiles_of(store))))}")
    if leftovers:
        console.print(f"would be deleted: what a killed run left of {len(leftovers)} retired outputs")
    console.print("nothing was deleted; --yes does it, and pixels that were bought cost again if they are needed again")


def _left_behind(store: TileStore) -> list[OutputRecord]:
    """Retired outputs whose files are there although: whoever retired them was killed before the files were gone."""
    return [record for stage in TILE_STAGES for record in _left_of(store, stage)]


def _left_of(store: TileStore, stage: str) -> list[OutputRecord]:
    """The same of a stage, by one listing of it."""
    retired = [record for record in store.records(stage).values() if record.retired]
    files = store.store.under(store.folder(stage)) if retired else []
    folders = {str(folder) for found in files for folder in PurePosixPath(found.key).parents}
    return [record for record in retired if record.attempt in folders]
