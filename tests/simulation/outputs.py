"""The committed outputs of a project as values that two projects can be compared by, and what should not be there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eo_assets.project import LoadedProject
from eo_assets.stages.build import SERVICE_FOLDER, tile_store
from jobs.graph import ASSETS
from resources.object_store import checksum
from resources.output_record import OutputRecord
from resources.tile_store import TileStore

Place = tuple[str, str]
"""A stage and a key."""

OF_THE_SERVICE = frozenset({"collection", "id", "tile_id", "created", "ingested", "url", "action"})
"""What the service makes up anew for every collection that is published."""

KEPT = re.compile(r".*\.lock|\.index\.json|\.dagster")
"""Names with a dot that stay: locks, which the system gives back, and listings, which are a cache."""


def fingerprints(loaded: LoadedProject) -> dict[Place, Mapping[str, str]]:
    """Every committed output: its recipe, its digest and the sha256 of each of its files.

    Left out is what differs between two clean runs: times, names of attempts, and identities that the service gives.
    """
    store = tile_store(loaded)
    return {
        (asset, key): {"recipe": record.recipe, "digest": record.digest, **_files(store, record)}
        for asset in ASSETS
        for key, record in store.records(asset).items()
    }


def differences(one: Mapping[Place, Mapping[str, str]], other: Mapping[Place, Mapping[str, str]]) -> list[str]:
    """The outputs that only one side has, and the files in which the two differ."""
    found = [f"{asset} of {key} is on one side only" for asset, key in sorted(one.keys() ^ other.keys())]
    for place in sorted(one.keys() & other.keys()):
        mine, theirs = one[place], other[place]
        names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if names:
            found.append(f"{place[0]} of {place[1]}: {', '.join(names[:5])}")
    return found


def leftovers(loaded: LoadedProject) -> list[str]:
    """Attempts that no record names and temporary files, anywhere in the project folder but the service's own."""
    store = tile_store(loaded)
    found = [path for asset in ASSETS for path in _unreferenced(store, asset)]
    found += _temporary(Path(loaded.project_folder))
    return sorted(str(path.relative_to(loaded.project_folder)) for path in found)


def _files(store: TileStore, record: OutputRecord) -> dict[str, str]:
    folder = store.path(record)
    if record.stage == "byoc_collection":
        return {path.name: _without_identities(path) for path in sorted(folder.iterdir())}
    return {str(path.relative_to(folder)): checksum(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _without_identities(path: Path) -> str:
    return json.dumps(_stripped(json.loads(path.read_text())), sort_keys=True)


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(inner) for key, inner in value.items() if key not in OF_THE_SERVICE}
    return [_stripped(inner) for inner in value] if isinstance(value, list) else value


def _unreferenced(store: TileStore, asset: str) -> Iterator[Path]:
    live = {record.attempt for record in store.records(asset).values()}
    folder = store.store.path(store.folder(asset))
    keys = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    yield from (store.store.path(name) for key in keys for name in store.attempts(asset, key) if name not in live)


def _temporary(folder: Path) -> Iterator[Path]:
    """Files and folders whose name begins with a dot or ends with `.part`, outside of arrays, which have some too."""
    for path in sorted(folder.iterdir()):
        if KEPT.fullmatch(path.name) or path.name == SERVICE_FOLDER or path.suffix == ".zarr":
            continue
        if path.name.startswith(".") or path.suffix == ".part":
            yield path
        elif path.is_dir():
            yield from _temporary(path)
