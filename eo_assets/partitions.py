"""The partition sets of a project: its tiles and its zones, named for it, in the order (EPSG, name)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import dagster as dg

from eo_assets.core.tile import Tile
from resources.local_folder import LocalFolder

GAP_TILES = 25
"""A run's start costs about as much as the events of so many tiles."""
MOST_RANGES = 20
RUN_TILES = 1000
"""Tiles that one run holds. Before a run starts, Dagster stores an event for each of its tiles and stages: for 50,000
that takes longer than a run is given to start."""


def tile_partitions(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition a tile; the key is the tile's name."""
    return dg.DynamicPartitionsDefinition(name=f"{project}/tiles")


def zone_partitions(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition a zone; the key is its EPSG code."""
    return dg.DynamicPartitionsDefinition(name=f"{project}/zones")


def register(instance: dg.DagsterInstance, project: str, tiles: Sequence[Tile]) -> None:
    """Make the partition sets exactly those of the tiles, in order.

    Runs are made per contiguous range in this order, so a set that differs is laid anew from its first difference on.
    What was materialized for a key is not lost: it is remembered by key.
    """
    ordered = sorted(tiles, key=lambda tile: tile.order)
    _set_keys(instance, f"{project}/tiles", [tile.name for tile in ordered])
    _set_keys(instance, f"{project}/zones", list(dict.fromkeys(str(tile.epsg) for tile in ordered)))


def select(tiles: Sequence[Tile], wanted: Iterable[str]) -> list[Tile]:
    """Tiles by key, in their order."""
    names = set(wanted)
    return [tile for tile in tiles if tile.name in names]


def contiguous(tiles: Sequence[Tile], wanted: Iterable[str]) -> list[list[Tile]]:
    """The wanted tiles as runs of neighbours in the order of all tiles: what one run can hold each."""
    names, groups = set(wanted), []
    previous_wanted = False
    for tile in tiles:
        if tile.name in names:
            if previous_wanted:
                groups[-1].append(tile)
            else:
                groups.append([tile])
        previous_wanted = tile.name in names
    return groups


def ranges_with_work(tiles: Sequence[Tile], waiting: Collection[str]) -> list[Sequence[Tile]]:
    """Ranges of these neighbours that hold all waiting ones and few others: begun and ended by a waiting one.

    Tiles in between that are up to date cost an event or two each, a run of its own costs a start: a range is split
    where a gap is longer than `GAP_TILES`, at the longest gaps first, into at most `MOST_RANGES`, and then so that none
    is longer than `RUN_TILES`.
    """
    places = [index for index, tile in enumerate(tiles) if tile.name in waiting]
    if not places:
        return []
    gaps = sorted(((after - before, after) for before, after in itertools.pairwise(places)), reverse=True)
    begins = sorted([places[0], *(after for gap, after in gaps[: MOST_RANGES - 1] if gap > GAP_TILES)])
    ends = [max(place for place in places if place < begin) for begin in begins[1:]] + [places[-1]]
    return [
        tiles[first : min(end + 1, first + RUN_TILES)]
        for begin, end in zip(begins, ends)
        for first in range(begin, end + 1, RUN_TILES)
    ]


def _set_keys(instance: dg.DagsterInstance, name: str, keys: list[str]) -> None:
    """One process at a time: of two that add the same key at once the second would fail."""
    with LocalFolder(Path(instance.root_directory)).exclusive("partitions", waiting=lambda: None):
        present = list(instance.get_dynamic_partitions(name))
        same = next((i for i, (old, new) in enumerate(zip(present, keys)) if old != new), min(len(present), len(keys)))
        for key in present[same:]:
            instance.delete_dynamic_partition(name, key)
        if keys[same:]:
            instance.add_dynamic_partitions(name, keys[same:])
