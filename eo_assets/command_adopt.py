"""`eo-assets adopt`: take over tiffs and EOPatches that eo-grow or an earlier project made. Asks no service."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from eo_assets.assets.area import make_aoi, make_tile_grid, project_area, project_grid, tiles_of
from eo_assets.core.tile import Tile
from eo_assets.definitions import open_project
from eo_assets.errors import ProjectError
from eo_assets.project import LoadedProject
from eo_assets.stages.adoption import STAGES, Adopted, Adoption
from eo_assets.stages.adoption_folders import Candidate, TileIndex, candidates
from eo_assets.stages.build import tile_store, tile_walk

THREADS = min(4, os.cpu_count() or 1)
"""Folders that are read at a time: hashing and decoding leave Python's lock alone."""


def adopt(
    name: str,
    folder: Path,
    stages: Sequence[str] = STAGES,
    *,
    link: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> list[Adopted]:
    """Take over what lies under a folder; what became of each, tiffs first. Raises ProjectError for a folder of none.

    `console` is shown a bar while it lasts.
    """
    loaded = open_project(name)
    if not folder.is_dir():
        raise ProjectError(f"{folder} is no folder; name the one that holds the folders of tiles")
    tiles = _tiles(loaded, dry_run=dry_run)
    index, project = TileIndex(tiles), loaded.project
    adoption = Adoption(
        tile_walk(loaded), project.imagery, project.eopatches, project.reference, index, stages, link, dry_run
    )
    found = list(candidates(folder, project.imagery.tiff_outputs, {tile.name for tile in tiles}))
    # An EOPatch is made from tiffs: where both are there, it is to know them.
    found.sort(key=lambda candidate: candidate.kind != "tiffs")
    return _taken(adoption, found, console or Console(quiet=True))


def _tiles(loaded: LoadedProject, *, dry_run: bool) -> list[Tile]:
    """The project's tiles; the area and its grid are committed on the way, which costs nothing."""
    if dry_run:
        return list(project_grid(loaded).tiles(project_area(loaded).geometry))
    store = tile_store(loaded)
    make_aoi(loaded, store)
    make_tile_grid(loaded, store)
    return tiles_of(store)


def _taken(adoption: Adoption, found: Sequence[Candidate], console: Console) -> list[Adopted]:
    taken: list[Adopted] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for kinds in (("tiffs",), ("eopatch", "empty")):
            group = [candidate for candidate in found if candidate.kind in kinds]
            results = track(
                pool.map(adoption, group), "folders", len(group), console=console, transient=True, disable=not group
            )
            taken.extend(adopted for result in results for adopted in result)
    return taken


def succeeded(taken: Iterable[Adopted]) -> bool:
    """Was nothing refused, and anything of use found?"""
    endings = Counter(adopted.ending for adopted in taken)
    return not endings["refused"] and bool(endings["adopted"] + endings["kept"])


def print_adopted(taken: Sequence[Adopted], console: Console, *, dry_run: bool) -> None:
    """For people: what was refused and why, then how much of each stage was taken."""
    for adopted in taken:
        if adopted.ending == "refused":
            where = f"{adopted.stage} of {adopted.tile}: " if adopted.tile else ""
            console.print(f"[red]refused[/] {where}{escape(adopted.reason)}")
    foreign = [adopted for adopted in taken if adopted.ending == "foreign"]
    if foreign:
        console.print(f"[yellow]{len(foreign)} folders are of no tile of the project[/], the first:")
        console.print(escape(foreign[0].reason))
    if not taken:
        console.print("there is nothing that could be adopted: no folder of tiffs, no EOPatch")
        return
    table = Table("stage", "would be adopted" if dry_run else "adopted", "kept", "refused", box=None, pad_edge=False)
    for stage in STAGES:
        endings = Counter(adopted.ending for adopted in taken if adopted.stage == stage)
        if endings:
            table.add_row(stage, *(str(endings[ending]) for ending in ("adopted", "kept", "refused")))
    console.print(table)
    if any(adopted.ending == "adopted" for adopted in taken):
        console.print(
            "what was adopted counts as made with the project's settings; grid, bands, dates and bytes were checked, "
            "the evalscript can't be"
        )
