"""The files that the service puts beside a batch job's tiles: which tiles it will make, and what became of each."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyogrio
import pyogrio.errors
import shapely

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import ServiceError

SAME_PLACE = 1e-3
"""Two boxes are the same place if no edge differs by more than this share of a pixel."""
SHOWN = 5
NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class ListedTile:
    """A tile as the service lays it out. `shape` is (height, width) in pixels, None where the manifest does not say."""

    name: str
    epsg: int
    bounds: Bounds
    shape: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class TileEnd:
    """What the execution database says of a tile: PENDING, DONE or FATAL, and the service's words."""

    status: str
    error: str

    @property
    def empty(self) -> bool:
        """Did the service find nothing to deliver?"""
        return self.status == "DONE" and NO_DATA in self.error.lower()


def read_manifest(path: Path, place: str) -> dict[str, ListedTile]:
    """`featureManifest-<id>.gpkg` by tile name: a layer a CRS, a row a tile or a file of one.

    `place` is where it lies for people; `path` may be a copy.
    """
    try:
        return {tile.name: tile for layer, _ in pyogrio.list_layers(path) for tile in _layer(path, str(layer))}
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError, ValueError) as error:
        raise ServiceError(
            f"{place}: the service's list of tiles can't be read ({error}); nothing was started; run it again"
        ) from None


def _layer(path: Path, layer: str) -> list[ListedTile]:
    meta, _, wkb, values = pyogrio.raw.read(path, layer=layer)
    columns = dict(zip(meta["fields"], values))
    epsg = int(str(meta["crs"]).rpartition(":")[2])
    sized = "width" in columns and "height" in columns
    shapes = zip(columns["height"], columns["width"]) if sized else [None] * len(wkb)
    return [
        ListedTile(str(name), epsg, Bounds(*shapely.from_wkb(place).bounds), shape and (int(shape[0]), int(shape[1])))
        for name, place, shape in zip(columns["identifier"], wkb, shapes)
    ]


def reconcile(manifest: str, listed: Mapping[str, ListedTile], tiles: Sequence[Tile]) -> None:
    """Refuse what the service names or places differently than the grid, before anything is spent."""
    ours = {tile.name: tile for tile in tiles}
    unknown, missing = sorted(listed.keys() - ours.keys()), sorted(ours.keys() - listed.keys())
    if unknown or missing:
        raise ServiceError(
            f"{manifest}: the service would make {len(listed)} tiles, the grid has {len(ours)}; only there: "
            f"{unknown[:SHOWN]}, only here: {missing[:SHOWN]}; nothing was started. Give the service's own tiles as a "
            "custom grid (area.grid.kind: custom)"
        )
    moved = [name for name, tile in ours.items() if not _same_place(listed[name], tile)]
    if moved:
        told = "; ".join(_both(listed[name], ours[name]) for name in moved[:SHOWN])
        raise ServiceError(
            f"{manifest}: the service places {len(moved)} tiles differently than the grid: {told}; nothing was "
            "started. Give the service's own tiles as a custom grid (area.grid.kind: custom)"
        )


def _same_place(listed: ListedTile, tile: Tile) -> bool:
    """The manifest may draw a tile with its buffer or without: that is not documented."""
    slack = SAME_PLACE * tile.resolution
    boxes = (tile.bounds, tile.cell)
    placed = any(all(abs(a - b) <= slack for a, b in zip(listed.bounds, box)) for box in boxes)
    return placed and listed.epsg == tile.epsg and listed.shape in (None, tile.shape)


def _both(listed: ListedTile, tile: Tile) -> str:
    there = f"EPSG:{listed.epsg} {_box(listed.bounds)} {listed.shape or 'of unknown size'}"
    return f"{tile.name}: there {there}, here EPSG:{tile.epsg} {_box(tile.bounds)} {tile.shape}"


def _box(bounds: Bounds) -> str:
    return "[" + ", ".join(f"{edge:.10g}" for edge in bounds) + "]"


def read_execution(path: Path) -> dict[str, TileEnd]:
    """`execution-<id>.sqlite` by tile name; nothing where it is missing or can't be read, for it is only about why."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        rows = db.execute("SELECT name, status, error FROM features").fetchall()
        return {str(name): TileEnd(str(status), str(error or "")) for name, status, error in rows}
    return {}
