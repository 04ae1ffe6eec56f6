"""Whom a stage's folder belongs to: a project folder may hold several projects, and each output only one's."""

from __future__ import annotations

import functools
import json
import time

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore

OWNER_FILE = "_owner.json"

BELIEVED_S = 60
"""For so long an owner that was read is believed."""

_TRIED: set[ObjectStore] = set()
"""Stores whose conditional puts this process has tried."""

SETTING = dict.fromkeys(("aoi", "tile_grid", "cost_estimate"), "cache")
"""The key of storage.structure that sets a stage's folder, where it is not the stage's own name."""


def claim_folder(store: ObjectStore, folder: str, stage: str, project: str) -> None:
    """Take a stage's folder for a project; one that another project owns is a StoreError."""
    key = f"{folder}/{OWNER_FILE}"
    claim = json.dumps({"project": project, "stage": stage}).encode()
    owner = store.get(key)
    if owner is None:
        store.create(key, claim)
        owner = store.get(key)
    if owner != claim:
        told = (owner or b"nothing").decode(errors="replace")
        raise StoreError(
            f"{store.place(folder)} belongs to {told}, not to {stage} of {project}; give "
            f"storage.structure.{SETTING.get(stage, stage)} another folder, for instance one with {{year}}"
        )
    if store not in _TRIED:
        # Also where the claim was there: a project that was copied brings its own, and the server may be another.
        store.check_conditions(key, claim)
        _TRIED.add(store)


def claimed_lately(store: ObjectStore, folder: str, stage: str, project: str) -> None:
    """The same, asked of a bucket once a minute: owners are written once, and each attempt would pay for a look."""
    if isinstance(store, LocalFolder):
        claim_folder(store, folder, stage, project)
    else:
        _claimed_in(store, folder, stage, project, int(time.monotonic() // BELIEVED_S))


@functools.lru_cache(maxsize=64)
def _claimed_in(store: ObjectStore, folder: str, stage: str, project: str, moment: int) -> None:
    claim_folder(store, folder, stage, project)


def owner_of(store: ObjectStore, folder: str) -> str | None:
    """Who a stage's folder belongs to, as it says itself; None where it was never claimed, or says nothing."""
    said = store.get(f"{folder}/{OWNER_FILE}")
    try:
        return None if said is None else str(json.loads(said)["project"])
    except (ValueError, TypeError, KeyError):
        return None
