"""The commit records of whole stages, from one listing each: what a driver asks that looks at thousands of tiles.

A listing tells every record's version. Records that a kept index has in that version are not read again, so that the
state of all tiles costs a listing, one object, and what has changed since. The index is a cache: losing it costs time.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eo_assets.errors import StorageRefused
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from resources.output_record import OutputRecord

if TYPE_CHECKING:
    from resources.tile_store import TileStore

INDEX = ".index.json"
READERS = 16
"""Records that are read at a time: a bucket answers in tens of milliseconds."""

WORTH_KEEPING = 100
"""An index is written when it would save the next reader at least so many records."""


Records = dict[str, tuple[str, bytes]]
"""Versions and bytes of objects by their names."""


@dataclass(slots=True)
class ListedRecords:
    """The records of a store as they were when each stage was first asked for. Not for what must see later commits."""

    store: TileStore
    _stages: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    _presence: dict[str, Callable[[str], bool]] = field(default_factory=dict)

    def record(self, stage: str, key: str) -> OutputRecord | None:
        """The live record of an output; None when nothing was ever committed, a StoreError when it can't be read."""
        if stage not in self._stages:
            self._stages[stage] = listed(self.store.store, self.store.commits_folder(stage))
        data = self._stages[stage].get(f"{key}.json")
        return None if data is None else self.store.parse(data, stage, key)

    def there(self, record: OutputRecord) -> bool:
        """Does the live attempt exist?"""
        if record.stage not in self._presence:
            self._presence[record.stage] = self.store.files.presence(self.store.folder(record.stage))
        return self._presence[record.stage](record.attempt)


def listed(store: ObjectStore, folder: str) -> dict[str, bytes]:
    """All objects of a folder of records by name, those of a known version from the index."""
    versions, place = store.versions(folder), store.place(folder)
    own = _current(_REMEMBERED.get(place, {}), versions)
    found = own if len(own) == len(versions) else {**_current(_read_index(store, folder), versions), **own}
    changed = [f"{folder}/{name}" for name in versions if name not in found]
    own |= {key.rpartition("/")[2]: data for key, data in read_together(store, changed).items()}
    found |= own
    if len(own) >= WORTH_KEEPING:
        kept = {name: (versions[name], data.decode(errors="replace")) for name, data in found.items()}
        with contextlib.suppress(StorageRefused):  # whoever may only read has no index, and no less of an answer
            store.put(f"{folder}/{INDEX}", json.dumps(kept).encode())
            _REMEMBERED.pop(place, None)
    elif not isinstance(store, LocalFolder):
        _REMEMBERED[place] = {name: (versions[name], data) for name, data in own.items()}
    return found


def read_together(store: ObjectStore, keys: Iterable[str]) -> dict[str, bytes]:
    """Small objects by their keys, many at a time, without those that are gone."""
    wanted = list(keys)
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        return {key: data for key, data in zip(wanted, pool.map(store.get, wanted)) if data is not None}


_REMEMBERED: dict[str, Records] = {}
"""What this process has read of each folder of records in a bucket and no index has: a run lists them many times."""


def _current(known: Records, versions: Mapping[str, str]) -> dict[str, bytes]:
    return {name: data for name, (version, data) in known.items() if versions.get(name) == version}


def _read_index(store: ObjectStore, folder: str) -> Records:
    data = store.get(f"{folder}/{INDEX}")
    try:
        return {name: (version, text.encode()) for name, (version, text) in json.loads(data or b"{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
