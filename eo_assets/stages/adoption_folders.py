"""Folders that may hold what somebody else made of a tile: found, sorted by what is in them, matched to the grid."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import StoreError, TileError
from eo_assets.stages.tiffs import USERDATA
from resources.batch_orders import NOTHING
from resources.delivered_files import TIFF_ENDINGS
from resources.foreign_eopatches import BOX, ForeignEOPatch
from resources.tile_store import ATTEMPT

Kind = Literal["tiffs", "eopatch", "empty"]
SLACK_PX = 1e-3
"""How far a box may lie off a tile's, in pixels: coordinates that went through text."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder, and what its files look like."""

    folder: Path
    kind: Kind


class NotOfTheGrid(TileError):
    """What a folder holds lies nowhere near a tile of the project: nothing is wrong with it."""


def candidates(root: Path, outputs: Collection[str], tiles: Collection[str]) -> Iterator[Candidate]:
    """The folders under `root`, itself among them, that hold tiffs or an EOPatch, or nothing although named for a tile.

    `outputs` are the names of the tiffs that are looked for. Not looked into: names with `.` or `_` in front, links,
    and in the folder of a project what its records don't name as live.
    """
    records = _Records()
    for place, folders, files in os.walk(root, onerror=_unlisted):
        folder = Path(place)
        records.add(folder)
        kind = _kind(folder, folders, files, outputs, tiles)
        taken = kind is not None and not records.superseded(folder)
        if kind is not None and taken:
            yield Candidate(folder, kind)
        folders[:] = [] if taken else sorted(name for name in folders if not name.startswith(("_", ".")))


def _unlisted(error: OSError) -> None:
    """A folder that can't be looked into is no folder without tiles."""
    raise StoreError(f"{error.filename} can't be listed: {error.strerror}; give the user of this command leave to read")


def _kind(
    folder: Path, folders: Sequence[str], files: Sequence[str], outputs: Collection[str], tiles: Collection[str]
) -> Kind | None:
    if any(name.startswith(f"{BOX}.") for name in files) or ForeignEOPatch(folder).arrays(folders):
        return "eopatch"
    stems = {name.split(".")[0] for name in files}
    tiffs = {name.split(".")[0] for name in files if name.lower().endswith(TIFF_ENDINGS)}
    if stems & {NOTHING, USERDATA} or tiffs.intersection(outputs) or (tiffs and folder.name in tiles):
        return "tiffs"
    return "empty" if not folders and not files and folder.name in tiles else None


class _Records:
    """What the commit records on the way say: which outputs are live, and of which tiles."""

    def __init__(self) -> None:
        self._live: set[Path] = set()
        self._tiles: set[str] = set()

    def add(self, folder: Path) -> None:
        """Read the records of a stage's folder, if it is one. Those that can't be read say nothing."""
        records = folder / "_commits"
        for path in records.glob("*.json") if records.is_dir() else ():
            with contextlib.suppress(ValueError, KeyError, TypeError, StopIteration):
                # A record names its attempt from its project folder, wherever that was: its end is looked for here.
                parts = Path(json.loads(path.read_text())["attempt"]).parts
                ends = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
                self._live.add(next(end for end in ends if end.is_dir()))
                self._tiles.add(path.stem)

    def superseded(self, folder: Path) -> bool:
        """Is this an output of a project that no record of it names?"""
        known = ATTEMPT.fullmatch(folder.name) is not None or folder.name in self._tiles
        return known and bool(self._live) and folder not in self._live


@dataclass(frozen=True)
class TileIndex:
    """The tiles of a grid, found by name or by their box with its buffer."""

    tiles: Sequence[Tile]
    _boxes: NDArray[np.float64] = field(init=False)
    _codes: NDArray[np.int64] = field(init=False)
    _by_name: dict[str, Tile] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_boxes", np.array([tile.bounds for tile in self.tiles], dtype=np.float64))
        object.__setattr__(self, "_codes", np.array([tile.epsg for tile in self.tiles]))
        object.__setattr__(self, "_by_name", {tile.name: tile for tile in self.tiles})

    def named(self, name: str) -> Tile | None:
        """The tile of a name."""
        return self._by_name.get(name)

    def of_tiffs(self, folder: Path) -> Tile:
        """The tile that a folder of tiffs is of: by its name, else by where its first tiff lies."""
        tile = self.named(folder.name)
        if tile is not None:
            return tile
        path = next((p for p in sorted(folder.iterdir()) if p.name.lower().endswith(TIFF_ENDINGS)), None)
        if path is None:
            raise NotOfTheGrid(f"{folder} is named for no tile of the grid, and holds no tiff that would tell which")
        try:
            with rasterio.open(path) as tiff:
                return self.at((tiff.crs.to_epsg() if tiff.crs else 0) or 0, Bounds(*tiff.bounds), str(path))
        except rasterio.errors.RasterioIOError as error:
            raise TileError(f"{path} can't be opened, and {folder.name} is no tile of the grid: {error}") from None

    def of_eopatch(self, eopatch: ForeignEOPatch) -> Tile:
        """The tile whose box an EOPatch has."""
        return self.at(*eopatch.box(), str(eopatch.folder))

    def at(self, epsg: int, bounds: Bounds, told: str) -> Tile:
        """The tile of a box. Raises TileError for a box beside the grid, NotOfTheGrid for one that touches no tile."""
        here = np.flatnonzero(self._codes == epsg)
        off = np.abs(self._boxes[here] - bounds).max(axis=1) if here.size else np.empty(0)
        nearest: Tile | None = None if not here.size else self.tiles[here[int(off.argmin())]]
        if nearest is not None and off.min() <= SLACK_PX * nearest.resolution:
            return nearest
        meant = self.named(Path(told).name) or (nearest if nearest and _touch(nearest.bounds, bounds) else None)
        said = f"{told}: its box is {tuple(bounds)} in EPSG:{epsg}"
        if meant is None:
            raise NotOfTheGrid(f"{said}, which touches no tile of the grid")
        raise TileError(
            f"{said}; {meant.name} has {tuple(meant.bounds)} in EPSG:{meant.epsg}; do area.grid, resolution and "
            "buffer fit?"
        )


def _touch(a: Bounds, b: Bounds) -> bool:
    return a.left < b.right and b.left < a.right and a.bottom < b.top and b.bottom < a.top
