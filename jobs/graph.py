"""The graph as the command line walks it: what each asset is made from, and which tiles a person means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from eo_assets.core.graph import NEEDS
from eo_assets.core.tile import Tile
from eo_assets.errors import ProjectError

ASSETS = tuple(NEEDS)


def with_upstream(assets: Iterable[str], stop_at: Collection[str] = ()) -> set[str]:
    """Assets and all that they are made from, not looking behind `stop_at`. An unknown name is a ProjectError."""
    found: set[str] = set()
    waiting = list(assets)
    while waiting:
        asset = waiting.pop()
        if asset not in NEEDS:
            raise ProjectError(f"--only {asset}: there is no such asset; there are {', '.join(ASSETS)}")
        if asset not in found:
            found.add(asset)
            waiting.extend(() if asset in stop_at else NEEDS[asset])
    return found


def rebought(tiles: Sequence[Tile], named: Sequence[str]) -> tuple[str, ...]:
    """The names of the tiles that `--rebuy` means: names, indices, or `all`; none named: none."""
    if "all" in named:
        return tuple(tile.name for tile in tiles)
    return tuple(tile.name for tile in choose_tiles(tiles, named, "--rebuy")) if named else ()


def choose_tiles(tiles: Sequence[Tile], named: Sequence[str], option: str = "-t") -> list[Tile]:
    """Tiles by name or by index in the order (EPSG, name); none named: all. An unknown one is a ProjectError."""
    if not named:
        return list(tiles)
    known = {str(index): tile for index, tile in enumerate(tiles)} | {tile.name: tile for tile in tiles}
    for name in named:
        if name not in known:
            raise ProjectError(f"{option} {name}: no such tile; give a name, or an index from 0 to {len(tiles) - 1}")
    chosen = {known[name].name for name in named}
    return [tile for tile in tiles if tile.name in chosen]
