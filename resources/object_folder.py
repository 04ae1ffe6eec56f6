"""A committed folder whose files are read in part: Zarr arrays chunk by chunk, small files of an object store whole."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from eo_assets.errors import StoreError
from resources.object_store import ObjectStore

READERS = 8
"""Chunks that are fetched at a time."""


@dataclass(frozen=True, slots=True)
class ObjectFolder:
    """The objects under a key, like a path as far as readers of arrays need it. Picklable: a handle moves no pixel."""

    store: ObjectStore
    key: str

    def __truediv__(self, name: str | Path) -> ObjectFolder:
        return ObjectFolder(self.store, f"{self.key}/{Path(name).as_posix()}")

    def __str__(self) -> str:
        return self.store.place(self.key)

    def exists(self) -> bool:
        """Is there anything under the key?"""
        return self.store.exists(self.key)

    def read_bytes(self) -> bytes:
        """The object of the key itself. One that is not there is a FileNotFoundError, as with a path."""
        data = self.store.get(self.key)
        if data is None:
            raise FileNotFoundError(str(self))
        return data

    def read_text(self) -> str:
        """The same, as text."""
        return self.read_bytes().decode()

    def names(self) -> set[str]:
        """The names of all files, relative to the key."""
        start = len(self.key) + 1
        return {found.key[start:] for found in self.store.under(self.key)}

    def chunks(self) -> ObjectChunks:
        """The objects under the key as a Zarr store."""
        return ObjectChunks(self)


class ObjectChunks(zarr.storage.Store):  # type: ignore[misc]
    """A Zarr array's metadata and chunks by their keys, for reading: one get each, several at a time."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder
        self._writeable = False
        self._metadata: dict[str, bytes] = {}

    def __getitem__(self, key: str) -> bytes:
        if key in self._metadata:
            return self._metadata[key]
        data = self._folder.store.get(f"{self._folder.key}/{key}")
        if data is None:
            raise KeyError(key)
        if key.startswith("."):  # Zarr looks whether it is there, and then reads it
            self._metadata[key] = data
        return data

    def getitems(self, keys: Sequence[str], *, contexts: Any) -> dict[str, bytes]:
        """The chunks that exist."""
        places = [f"{self._folder.key}/{key}" for key in keys]
        if len(places) == 1:
            found = [self._folder.store.get(places[0])]
        else:
            with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
                found = list(pool.map(self._folder.store.get, places))
        return _all_there(self._folder, keys, {key: data for key, data in zip(keys, found) if data is not None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._folder.names())

    def __len__(self) -> int:
        return len(self._folder.names())

    def __setitem__(self, key: str, value: object) -> None:
        raise zarr.errors.ReadOnlyError

    def __delitem__(self, key: str) -> None:
        raise zarr.errors.ReadOnlyError


class FolderChunks(zarr.DirectoryStore):  # type: ignore[misc]
    """The same of a local folder."""

    def getitems(self, keys: Sequence[str], *, contexts: Any) -> dict[str, bytes]:
        """The chunks that exist."""
        return _all_there(self.path, keys, super().getitems(keys, contexts=contexts))


def _all_there(folder: object, keys: Sequence[str], found: dict[str, bytes]) -> dict[str, bytes]:
    """Zarr would read a chunk that is not there as its fill value. Every chunk is written: that one was deleted."""
    for key in keys:
        if key not in found and not key.rpartition("/")[2].startswith("."):
            raise StoreError(f"{folder}/{key} is gone: its output was replaced or retired; open it anew")
    return found
