"""What killed processes leave behind: attempts that no record names, and objects that were never put in their place.

Nothing here is read by anybody: a leftover costs room and no more. What was committed is never touched, and neither is
what the service delivered: imagery that nobody has committed yet was paid for, and a later run takes it up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from eo_assets.errors import StoreError
from resources.object_store import Listed
from resources.tile_store import GRACE_SECONDS, TileStore


def sweep(
    store: TileStore, stage: str, keys: Iterable[str] | None = None, grace_seconds: float = GRACE_SECONDS
) -> list[str]:
    """Remove a stage's leftovers of some keys (None: of all) that nobody has written to for the grace time.

    Returns what was removed, relative to the project folder. A grace time of 0 is for a project on which nothing runs.
    """
    before = time.time() - grace_seconds
    removed = [found.key for found in _temporaries(store, stage) if found.modified < before]
    for key in removed:
        store.store.delete(key)
    committed = store.store.versions(store.commits_folder(stage))
    for key in _keys(store, stage) if keys is None else keys:
        found = store.attempts(stage, key)
        if len(found) == 1 and f"{key}.json" in committed:
            continue  # the live one: thousands of tiles have no other, and none of their files has to be looked at
        for attempt in _out_of_use(store, stage, key, found, before) if found else ():
            store.files.discard(attempt)
            removed.append(attempt)
    return removed


def _out_of_use(store: TileStore, stage: str, key: str, found: list[str], before: float) -> list[str]:
    """The attempts that are not live, and that nobody has used since `before`."""
    changed = {name: store.files.changed(name) for name in found}
    try:
        # The record is read after that look: what was committed between the two is live.
        record = store.record(stage, key)
    except StoreError:
        return []  # a record that can't be read does not tell which attempt is live
    return [name for name in found if not store.in_use(name, record, changed[name], before)]


def _keys(store: TileStore, stage: str) -> list[str]:
    folders = (folder.rpartition("/")[2] for folder in store.store.folders(store.folder(stage)))
    return [name for name in folders if not name.startswith(("_", "."))]


def _temporaries(store: TileStore, stage: str) -> list[Listed]:
    """Objects that were never put in their place, beside the stage's outputs, its records and its notes."""
    root = store.folder(stage)
    own = [root, *(key for key in store.store.folders(root) if key.rpartition("/")[2].startswith("_"))]
    return [found for folder in own for found in store.files.leftovers(folder)]
