"""What killed processes leave behind: attempts that no record names, and objects that were never put in their place.

Nothing here is read by anybody: a leftover costs room and no more. What was committed is never touched, and neither is
what the service delivered: imagery that nobody has committed yet was paid for, and a later run takes it up.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from eo_assets.errors import StoreError
from resources.tile_store import ATTEMPT, GRACE_SECONDS, TileStore, discard

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16,32}\.part")
"""Names of objects that are written beside their place, see `LocalFolder`."""


def sweep(
    store: TileStore, stage: str, keys: Iterable[str] | None = None, grace_seconds: float = GRACE_SECONDS
) -> list[str]:
    """Remove a stage's leftovers of some keys (None: of all) that nobody has written to for the grace time.

    Returns what was removed, relative to the project folder. A grace time of 0 is for a project on which nothing runs.
    """
    before = time.time() - grace_seconds
    removed = [path for path in _temporaries(store, stage) if _changed(path) < before]
    for path in removed:
        path.unlink(missing_ok=True)
    for key in _keys(store, stage) if keys is None else keys:
        found = attempts(store, stage, key)
        if len(found) == 1 and store.record_path(stage, key).exists():
            continue  # the live one: thousands of tiles have no other, and none of their files has to be looked at
        found = [path for path in found if _changed(path) < before]
        # The record is read after the listing: what was committed between the two is live.
        for path in _without_live(store, stage, key, found) if found else ():
            discard(path)
            removed.append(path)
    return [path.relative_to(store.store.root).as_posix() for path in removed]


def _without_live(store: TileStore, stage: str, key: str, found: list[Path]) -> list[Path]:
    try:
        record = store.record(stage, key)
    except StoreError:
        return []  # a record that can't be read does not tell which attempt is live
    return [path for path in found if record is None or path != store.store.path(record.attempt)]


def attempts(store: TileStore, stage: str, key: str) -> list[Path]:
    """The attempt folders of a key, the live one among them."""
    return [path for path in _folders(store.store.path(f"{store.folder(stage)}/{key}")) if ATTEMPT.fullmatch(path.name)]


def _keys(store: TileStore, stage: str) -> list[str]:
    folders = _folders(store.store.path(store.folder(stage)))
    return [path.name for path in folders if not path.name.startswith(("_", "."))]


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    with os.scandir(parent) as entries:
        return sorted(parent / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _temporaries(store: TileStore, stage: str) -> list[Path]:
    """Objects that were never put in their place, beside the stage's outputs, its records and its notes."""
    root = store.store.path(store.folder(stage))
    own = [root, *(path for path in _folders(root) if path.name.startswith("_"))]
    return [path for folder in own if folder.is_dir() for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)]


def _changed(path: Path) -> float:
    """When anything in a folder was last written to; now, for what is gone meanwhile."""
    try:
        return max(found.stat().st_mtime for found in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()
