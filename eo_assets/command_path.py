"""`eo-assets path`: where the committed output of an asset lies."""

from __future__ import annotations

from eo_assets.assets.area import tiles_of
from eo_assets.definitions import open_project
from eo_assets.errors import ProjectError
from eo_assets.stages.build import TILE_STAGES, tile_store
from jobs.graph import ASSETS, choose_tiles
from resources.tile_store import TileStore


def output_path(project: str, asset: str, key: str | None) -> str:
    """Where an asset's live output lies: of a tile by name or index, of a zone for maps, of the asset otherwise."""
    store = tile_store(open_project(project))
    if asset not in ASSETS:
        raise ProjectError(f"there is no asset {asset!r}; there are {', '.join(ASSETS)}")
    return store.live_place(asset, _key(store, asset, key))


def _key(store: TileStore, asset: str, key: str | None) -> str:
    if asset not in (*TILE_STAGES, "maps"):
        if key is not None:
            raise ProjectError(f"{asset} is one for the whole project; leave {key!r} out")
        return asset
    tiles = tiles_of(store)
    zones = sorted({str(tile.epsg) for tile in tiles})
    if key is None:
        raise ProjectError(
            f"{asset} needs a zone: {', '.join(zones)}"
            if asset == "maps"
            else f"{asset} needs a tile: {tiles[0].name}, or an index from 0 to {len(tiles) - 1}"
        )
    return key if asset == "maps" else choose_tiles(tiles, [key])[0].name
