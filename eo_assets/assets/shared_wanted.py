"""The outputs that are not a tile's, each beside what it should be now: what `status` and a launch ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eo_assets.assets.area import tiles_of, wanted_aoi, wanted_tile_grid
from eo_assets.assets.byoc import wanted_byoc_collection
from eo_assets.assets.cost_estimate import wanted_cost_estimate
from eo_assets.assets.maps import wanted_map
from eo_assets.assets.model import wanted_model
from eo_assets.assets.shared_outputs import Wanted
from eo_assets.assets.training_data import wanted_training_data
from eo_assets.project import LoadedProject
from resources.tile_store import TileStore

WantedByKey = Mapping[str, Callable[[], Wanted]]


def shared_wanted(loaded: LoadedProject, store: TileStore) -> Mapping[str, WantedByKey]:
    """By asset and key, a function that tells what the output should be; it raises where that can't be told yet."""
    alone: Mapping[str, Callable[[], Wanted]] = {
        "aoi": lambda: wanted_aoi(loaded),
        "tile_grid": lambda: wanted_tile_grid(loaded, store),
        "cost_estimate": lambda: wanted_cost_estimate(loaded, store),
        "training_data": lambda: wanted_training_data(loaded, store),
        "model": lambda: wanted_model(loaded, store),
        "byoc_collection": lambda: wanted_byoc_collection(loaded, store),
    }
    maps = {zone: lambda zone=zone: wanted_map(loaded, store, int(zone)) for zone in _zones(store)}
    return {**{asset: {asset: wanted} for asset, wanted in alone.items()}, "maps": maps}


def _zones(store: TileStore) -> list[str]:
    if store.record("tile_grid", "tile_grid") is None:
        return []
    return sorted({str(tile.epsg) for tile in tiles_of(store)})
