"""Where the files of an attempt are while they are written and read: in the project folder, or copied from a bucket.

Stages read and write plain local files. In a local project folder these are the files themselves. Of a bucket a process
has working copies: attempts never change once they are committed, so a copy is as good as its original.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from eo_assets.errors import FilesGone
from resources.local_folder import LocalFolder
from resources.object_folder import ObjectFolder
from resources.object_store import Listed, ObjectStore, size_of
from resources.storage_faults import storage_told
from resources.working_copies import FilesOfBucket

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16,32}\.part")
"""Names of files that are written beside their place, see `LocalFolder`."""


class AttemptFiles(Protocol):
    """Attempts by their keys, `<stage folder>/<output>/<attempt>`. Reading one that is not there is FilesGone."""

    def path(self, key: str) -> Path:
        """Its files as a folder of this machine."""
        ...

    def blocks(self, key: str) -> Path | ObjectFolder:
        """Its files for whoever reads some blocks of them only."""
        ...

    def size(self, key: str) -> int:
        """Bytes of its files as they are kept."""
        ...

    def there(self, key: str) -> bool:
        """Does it exist?"""
        ...

    def begin(self, key: str) -> Path:
        """A new empty folder to write into."""
        ...

    def finish(self, key: str) -> None:
        """What was written there is whole: keep it."""
        ...

    def discard(self, key: str) -> None:
        """Remove it: first from under the hands of a writer who may still be at it, then its bytes."""
        ...

    def abandon(self, key: str) -> None:
        """Remove what this process itself began."""
        ...

    def supersede(self, key: str) -> None:
        """Its grace time begins: another one took its place."""
        ...

    def changed(self, key: str) -> float:
        """When anything of it was last written to, in seconds since 1970; now, for what is gone meanwhile."""
        ...

    def presence(self, folder: str) -> Callable[[str], bool]:
        """Tells whether attempts under a stage's folder exist, of thousands: by one listing where each look costs."""
        ...

    def replaced(self, live_since: float) -> float:
        """When attempts that are not live were replaced, at the latest, where `changed` does not tell; else 0."""
        ...

    def leftovers(self, folder: str) -> list[Listed]:
        """Files directly under a folder that were never put in their place."""
        ...

    def forget(self, outputs: Iterable[str]) -> None:
        """These outputs are not needed on this machine any more."""
        ...

    def told(self, folder: str) -> AbstractContextManager[None]:
        """Raises StorageRefused for what goes wrong because attempts under a folder can't be written."""
        ...


@dataclass(frozen=True, slots=True)
class FilesInPlace:
    """Attempts in a local project folder."""

    store: LocalFolder

    def path(self, key: str) -> Path:
        """The attempt's own folder."""
        path = self.store.path(key)
        if not path.exists():
            raise FilesGone(f"{path} is gone")
        return path

    def blocks(self, key: str) -> Path:
        """The same folder."""
        return self.path(key)

    def size(self, key: str) -> int:
        """Bytes on disk."""
        return size_of(self.path(key))

    def there(self, key: str) -> bool:
        """A look at its folder."""
        return self.store.exists(key)

    def begin(self, key: str) -> Path:
        """A new folder in its place."""
        folder = self.store.path(key)
        folder.mkdir(parents=True)
        return folder

    def finish(self, key: str) -> None:
        """It lies where it is to lie."""

    def discard(self, key: str) -> None:
        """Rename, then remove: a writer can't go on in what has another name."""
        attempt = self.store.path(key)
        aside = attempt.with_name(attempt_name())
        with contextlib.suppress(FileNotFoundError):
            attempt.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def abandon(self, key: str) -> None:
        """Remove the folder."""
        shutil.rmtree(self.store.path(key), ignore_errors=True)

    def supersede(self, key: str) -> None:
        """The folder's own time says when it was replaced."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.store.path(key))

    def changed(self, key: str) -> float:
        """The newest time of the folder and its files."""
        path = self.store.path(key)
        try:
            return max(found.stat().st_mtime for found in (path, *path.rglob("*")))
        except FileNotFoundError:
            return time.time()

    def presence(self, folder: str) -> Callable[[str], bool]:
        """A look at each."""
        return self.store.exists

    def replaced(self, live_since: float) -> float:
        """`supersede` has written it on each attempt's folder."""
        return 0.0

    def leftovers(self, folder: str) -> list[Listed]:
        """What is written beside its place, see `LocalFolder`."""
        return [found for found in self.store.hidden(folder) if TEMPORARY.fullmatch(PurePosixPath(found.key).name)]

    def forget(self, outputs: Iterable[str]) -> None:
        """Nothing is kept twice."""

    def told(self, folder: str) -> AbstractContextManager[None]:
        """Faults of the disk that the project folder is on."""
        return storage_told(self.store.path(folder))


def attempt_files(store: ObjectStore) -> AttemptFiles:
    """How the attempts of a store are read and written."""
    return FilesInPlace(store) if isinstance(store, LocalFolder) else FilesOfBucket(store)


def attempt_name() -> str:
    """The name of a new attempt: its time, and what no other has."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
