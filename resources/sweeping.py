"""What killed processes leave behind: attempts that no record names, and objects that were never put in their place.

Nothing here is read by anybody: a leftover costs room and no more. What was committed is never touched, and neither is
what the service delivered: imagery that nobody has committed yet was paid for, and a later run takes it up. Only what
was delivered before a later delivery was committed in its place goes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime as dt
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eo_assets.errors import StoreError
from resources.object_store import Listed
from resources.output_record import OutputRecord
from resources.record_listing import READERS, listed
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
    live = _live(store, stage)
    outputs = _keys(store, stage)
    there = outputs if keys is None else sorted(set(outputs).intersection(keys))
    for key, found in _attempts(store, stage, there):
        if key in live and found == [live[key].attempt]:
            continue  # thousands of tiles have no other, and none of their files has to be looked at
        for attempt in _out_of_use(store, stage, key, found, before) if found else ():
            store.files.discard(attempt)
            removed.append(attempt)
    return removed if keys is not None else removed + _replaced_deliveries(store, stage, live, before)


def _replaced_deliveries(store: TileStore, stage: str, records: Mapping[str, OutputRecord], before: float) -> list[str]:
    """Remove what was delivered of an output before another delivery of it was committed: it was bought again.

    A delivery lies in `<request>/<output>`. One that is younger than what is committed may be about to take its place.
    """
    root = store.folder(stage)
    newest: dict[str, float] = {}
    for found in store.store.under(root):
        request, _, rest = found.key[len(root) + 1 :].partition("/")
        key, slash, _ = rest.partition("/")
        if slash and key in records and request not in records and not request.startswith(("_", ".")):
            folder = f"{root}/{request}/{key}"
            newest[folder] = max(newest.get(folder, 0.0), found.modified)
    replaced = [folder for folder, changed in newest.items() if _is_replaced(folder, changed, records, before)]
    for folder in replaced:
        store.store.delete_folder(folder)
    return replaced


def _is_replaced(folder: str, changed: float, records: Mapping[str, OutputRecord], before: float) -> bool:
    live = records[folder.rpartition("/")[2]]
    since = dt.datetime.fromisoformat(live.created).timestamp()
    return folder != live.attempt and changed < min(since, before) and since < before


def _live(store: TileStore, stage: str) -> dict[str, OutputRecord]:
    """The commit records by their outputs, as far as they can be read."""
    found = {}
    for name, data in listed(store.store, store.commits_folder(stage)).items():
        key = name.removesuffix(".json")
        with contextlib.suppress(StoreError):
            found[key] = store.parse(data, stage, key)
    return found


def _attempts(store: TileStore, stage: str, keys: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The attempts of each output, from a listing each: of a bucket many at a time."""
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        yield from zip(keys, pool.map(lambda key: store.attempts(stage, key), keys))


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
