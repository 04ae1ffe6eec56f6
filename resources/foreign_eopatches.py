"""EOPatches that somebody else wrote, in any of eo-learn's formats, read without eo-learn and without trusting them.

Arrays are `.npy`, `.npy.gz` or `.zarr`; headers are JSON, packed or not. Nothing is unpickled: older EOPatches are
refused by name. A file that is torn is a TileError that names it, never data.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eo_assets.core.tile import Bounds
from eo_assets.errors import StoreError, TileError
from resources.eopatch_files import DATA, DATA_TIMELESS, MASK, MASK_TIMELESS, open_array

BOX = "bbox"
TIMESTAMPS = ("timestamps", "timestamp")
"""The name that eo-learn writes, and the one that it wrote before version 1.4."""

KINDS = frozenset((DATA, DATA_TIMELESS, MASK, MASK_TIMELESS))
SUFFIXES = (".zarr", ".npy", ".npy.gz")
_EPSG = re.compile(r"EPSG:+(?:[\d.]*:)?(\d+)$")


@dataclass(frozen=True, slots=True)
class ForeignEOPatch:
    """A folder that holds a `bbox.geojson` and arrays; read only."""

    folder: Path

    def box(self) -> tuple[int, Bounds]:
        """EPSG code and bounds. Raises TileError for anything but a box with a CRS."""
        path, said = self._json(BOX, "geojson")
        try:
            found = _EPSG.search(said["crs"]["properties"]["name"])
            corners = np.asarray(said["coordinates"][0], dtype=np.float64)
            (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
            return int(found[1]) if found else _no_code(said), Bounds(left, bottom, right, top)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise TileError(f"{path}: not the box of an EOPatch with its CRS ({error})") from None

    def timestamps(self) -> list[dt.datetime]:
        """The sensing times as they are stored, in UTC without time zone."""
        for name in TIMESTAMPS:
            if self._path(name, "json") is not None:
                path, said = self._json(name, "json")
                try:
                    return [_utc(dt.datetime.fromisoformat(text)) for text in said]
                except (TypeError, ValueError) as error:
                    raise TileError(f"{path}: not a list of ISO dates ({error})") from None
        raise TileError(f"{self.folder} has no timestamps.json; save the EOPatch again with a current eo-learn")

    def names(self, kind: str) -> list[str]:
        """The arrays of a kind (`data`, `mask`, `data_timeless`), sorted."""
        folder = self.folder / kind
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted({path.name.split(".")[0] for path in found if path.name.endswith(SUFFIXES)})

    def arrays(self, kinds: Iterable[str]) -> bool:
        """Is there any array of these kinds, whatever the folder's name may be?"""
        return any(self.names(kind) for kind in KINDS.intersection(kinds))

    def array(self, kind: str, name: str, scratch: Path) -> Any:
        """An array to be read by slices; a packed one is unpacked into the folder `scratch` first, byte by byte."""
        path = next((p for suffix in SUFFIXES if (p := self.folder / kind / f"{name}{suffix}").exists()), None)
        if path is None:
            there = ", ".join(self.names(kind)) or "none"
            raise TileError(f"{self.folder} has no {kind}/{name}; its {kind}: {there}")
        if path.suffix == ".zarr":
            return _whole_zarr(self.folder, kind, name, path)
        return _mapped(_unpacked(path, scratch / f"{kind}-{name}.npy") if path.suffix == ".gz" else path, path)

    def _path(self, name: str, ending: str) -> Path | None:
        return next((p for e in (ending, f"{ending}.gz") if (p := self.folder / f"{name}.{e}").is_file()), None)

    def _json(self, name: str, ending: str) -> tuple[Path, Any]:
        path = self._path(name, ending)
        if path is None:
            old = next((p for p in self.folder.glob(f"{name}.pkl*")), None)
            if old is not None:
                raise TileError(
                    f"{old} is a pickle, which is never read; save the EOPatch again with a current eo-learn"
                )
            raise TileError(f"{self.folder} has no {name}.{ending}")
        try:
            data = path.read_bytes()
            return path, json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise TileError(f"{path} can't be read: {error}") from None


def _no_code(said: Any) -> int:
    raise ValueError(f"{said['crs']['properties']['name']} is no EPSG code")


def _utc(time: dt.datetime) -> dt.datetime:
    return time if time.tzinfo is None else time.astimezone(dt.UTC).replace(tzinfo=None)


def _whole_zarr(folder: Path, kind: str, name: str, path: Path) -> Any:
    """A Zarr array that has all its chunks: a lost one would be read as its fill value."""
    try:
        array = open_array(folder, kind, name)
    except (StoreError, ValueError, KeyError, OSError) as error:
        raise TileError(f"{path} can't be opened: {error}") from None
    if array.nchunks_initialized != array.nchunks:
        raise TileError(f"{path} has {array.nchunks_initialized} of its {array.nchunks} chunks; the others are lost")
    return array


def _unpacked(path: Path, target: Path) -> Path:
    """The whole of a packed file; its own checksum is checked on the way."""
    try:
        with gzip.open(path) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TileError(f"{path} is torn: {error}") from None
    return target


def _mapped(path: Path, told: Path) -> Any:
    """A `.npy` on disk as an array in memory, page by page; objects, which would be unpickled, are refused."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise TileError(f"{told} is not a whole array of numbers: {error}") from None
