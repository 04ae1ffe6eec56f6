"""`eo-assets sweep`: remove what killed runs left behind in a project folder."""

from __future__ import annotations

from rich.console import Console

from eo_assets.definitions import open_project
from eo_assets.stages.build import tile_store
from jobs.graph import ASSETS
from resources.sweeping import sweep


def sweep_project(name: str, hours: float, console: Console) -> list[str]:
    """Remove the leftovers of every asset that nobody has written to for so long; returns what was removed."""
    store = tile_store(open_project(name))
    removed = [path for asset in ASSETS for path in sweep(store, asset, grace_seconds=hours * 3600)]
    console.print(f"{len(removed)} leftovers removed" if removed else "nothing is left behind")
    return removed
