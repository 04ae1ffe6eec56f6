"""Attempts in a bucket, with working copies in this process's scratch folder: fetched on demand, put when whole."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eo_assets.errors import FilesGone
from resources.object_folder import ObjectFolder
from resources.object_keys import checked_key
from resources.object_store import Listed, ObjectStore
from resources.storage_faults import storage_told
from resources.workspaces import scratch

TRANSFERS = 8
"""Files that are copied to or from a bucket at a time."""


@dataclass(frozen=True, slots=True)
class FilesOfBucket:
    """Attempts in a bucket, with working copies in this process's scratch folder."""

    store: ObjectStore

    def path(self, key: str) -> Path:
        """A copy, made when it is first asked for, whole or not at all."""
        copy = self._copy(key)
        if not copy.exists():
            self._fetch(key, copy)
        return copy

    def blocks(self, key: str) -> Path | ObjectFolder:
        """The copy if there is one, else the objects: only what is read is moved."""
        copy = self._copy(key)
        return copy if copy.exists() else ObjectFolder(self.store, key)

    def size(self, key: str) -> int:
        """Bytes in the bucket, from one listing."""
        return sum(found.size for found in self._listed(key))

    def there(self, key: str) -> bool:
        """One listing of its objects: none has its very key, and a server may show folders that are empty."""
        return bool(self.store.under(key))

    def begin(self, key: str) -> Path:
        """A new folder in the scratch folder."""
        folder = self._copy(key)
        folder.mkdir(parents=True)
        return folder

    def finish(self, key: str) -> None:
        """Put every file; until the record names them nobody reads them. The copy stays: later stages read it."""
        folder = self._copy(key)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        keys = [f"{key}/{path.relative_to(folder).as_posix()}" for path in files]
        with concurrent.futures.ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(self.store.put_file, keys, files))

    def discard(self, key: str) -> None:
        """Delete its objects."""
        self.store.delete_folder(key)

    def abandon(self, key: str) -> None:
        """Remove the copy, and what of it was put already."""
        shutil.rmtree(self._copy(key), ignore_errors=True)
        self.store.delete_folder(key)

    def supersede(self, key: str) -> None:
        """Objects can't be touched: an attempt is as young as the record that took its place, see `sweeping`."""

    def changed(self, key: str) -> float:
        """The newest time of its objects."""
        return max((found.modified for found in self.store.under(key)), default=time.time())

    def presence(self, folder: str) -> Callable[[str], bool]:
        """By the folders of outputs and deliveries. That one has lost its attempt alone is told when it is read."""
        names, start = set(self.store.folders(folder)), len(folder) + 1
        return lambda key: f"{folder}/{key[start:].partition('/')[0]}" in names

    def replaced(self, live_since: float) -> float:
        """No later than the live one was committed."""
        return live_since

    def leftovers(self, folder: str) -> list[Listed]:
        """None: an object appears whole in its place, or not at all."""
        return []

    def forget(self, outputs: Iterable[str]) -> None:
        """Remove the copies of all attempts of these outputs, whatever their stage."""
        root = scratch(self.store.place())
        wanted = set(outputs)
        for folder, names, _ in os.walk(root):
            for name in wanted.intersection(names):
                shutil.rmtree(Path(folder, name), ignore_errors=True)
            names[:] = [name for name in names if name not in wanted]

    def told(self, folder: str) -> AbstractContextManager[None]:
        """Faults of the disk that has the working copies; the bucket tells its own."""
        return storage_told(scratch(self.store.place()))

    def _copy(self, key: str) -> Path:
        return scratch(self.store.place()) / PurePosixPath(key)

    def _fetch(self, key: str, copy: Path) -> None:
        found = self._listed(key)
        part = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}.part")
        try:
            part.mkdir(parents=True)
            # Whoever may write to the bucket names its objects: a name must not lead out of the copy.
            targets = [part / checked_key(listed.key, part).relative_to(key) for listed in found]
            for folder in {target.parent for target in targets}:
                folder.mkdir(parents=True, exist_ok=True)
            with concurrent.futures.ThreadPoolExecutor(TRANSFERS) as pool:
                list(pool.map(self.store.fetch, [listed.key for listed in found], targets))
            with contextlib.suppress(FileExistsError):  # another thread was faster
                part.rename(copy)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _listed(self, key: str) -> list[Listed]:
        found = self.store.under(key)
        if not found:
            raise FilesGone(f"{self.store.place(key)} is gone")
        return found
