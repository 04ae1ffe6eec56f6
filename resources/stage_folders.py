"""Whom a stage's folder belongs to: a project folder may hold several projects, and each output only one's."""

from __future__ import annotations

import functools
import json

from eo_assets.errors import StoreError
from resources.object_store import ObjectStore

OWNER_FILE = "_owner.json"

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
    _check_conditions(store, key, claim)


@functools.lru_cache(maxsize=16)
def _check_conditions(store: ObjectStore, key: str, claim: bytes) -> None:
    """Once a process: a project that was copied brings its claims along, and the server may be another."""
    store.check_conditions(key, claim)


def owner_of(store: ObjectStore, folder: str) -> str | None:
    """Who a stage's folder belongs to, as it says itself; None where it was never claimed, or says nothing."""
    said = store.get(f"{folder}/{OWNER_FILE}")
    try:
        return None if said is None else str(json.loads(said)["project"])
    except (ValueError, TypeError, KeyError):
        return None
