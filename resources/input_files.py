"""A project's own files under input-data, as paths that GDAL and pyogrio open: in their place, or copied from a bucket.

Of a bucket each machine keeps a copy of what it has read, brought up to date when it is asked for. Whoever puts
objects under input-data of a bucket can make this machine read them, and no more.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from resources.s3_access import AWS_CHAIN
from resources.workspaces import machine_folder

LOOK_SECONDS = 5
"""For so long a listing of the bucket is believed: a file of labels is asked for by tile after tile."""


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files under a key of a project folder. Picklable: workers make their own copies."""

    store: ObjectStore
    folder: str

    def place(self, name: str = "") -> str:
        """Where a file lies, for people."""
        return self.store.place(str(PurePosixPath(self.folder, name)))

    def path(self, name: str) -> Path:
        """A file by its name, with those beside it that belong to it. It need not exist."""
        key = PurePosixPath(self.folder, name)
        if isinstance(self.store, LocalFolder):
            return self.store.path(str(key))
        from resources.bucket import Bucket  # not loaded for a local project

        access = self.store.connection.access if isinstance(self.store, Bucket) else AWS_CHAIN
        copies = LocalFolder(machine_folder(self.store.place(), access))
        with copies.exclusive(str(key), waiting=lambda: None):
            _bring_up_to_date(self.store, copies, key)
        return copies.path(str(key))

    def leaves(self, name: str) -> bool:
        """Does a link lead out of the folder? Whoever may put files there need not be shown what lies elsewhere."""
        if not isinstance(self.store, LocalFolder):
            return False
        return not self.path(name).resolve().is_relative_to(self.store.path(self.folder).resolve())


def _bring_up_to_date(store: ObjectStore, copies: LocalFolder, key: PurePosixPath) -> None:
    """The file and its companions: a shapefile is nothing without those of the same stem."""
    folder = "" if key.parent == PurePosixPath() else key.parent.as_posix()
    listing = _versions(store, folder, int(time.monotonic() // LOOK_SECONDS))
    wanted = {name: version for name, version in listing.items() if PurePosixPath(name).stem == key.stem}
    there = {path.name for path in copies.path(folder).glob("[!.]*") if path.stem == key.stem}
    for name in there - set(wanted):
        copies.delete(str(key.with_name(name)))
    for name, version in wanted.items():
        own, known = str(key.with_name(name)), str(key.with_name(f".{name}.version"))
        if name not in there or copies.get(known) != version.encode():
            store.fetch(own, copies.path(own))
            copies.put(known, version.encode())


@functools.lru_cache(maxsize=8)
def _versions(store: ObjectStore, folder: str, moment: int) -> dict[str, str]:
    """One listing for all who ask within the same moment."""
    return store.versions(folder)
