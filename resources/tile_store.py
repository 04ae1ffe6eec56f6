"""Committed outputs over the object store: immutable attempts, and one record that names the live one.

An output belongs to a stage and a key (a tile, a zone, or the stage's own name where there is only one). It is written
into a new attempt folder and made real by one compare-and-swap of its record. Readers go through the record only.
Plain and picklable: workers use it without Dagster.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eo_assets.core.recipe import source_digest
from eo_assets.errors import FilesGone, StorageRefused, StoreError
from resources.attempt_files import AttemptFiles, attempt_files, attempt_name
from resources.object_folder import ObjectFolder
from resources.object_store import ObjectStore, checksum, size_of
from resources.output_record import OutputRecord, parsed, serialized
from resources.record_listing import listed, read_together
from resources.retiring import lost
from resources.stage_folders import claim_folder, claimed_lately, owner_of

GRACE_SECONDS = 3600.0
"""How long a superseded attempt, or one that nobody finished, is kept for readers and writers that still use it."""

ATTEMPT = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
"""Names of attempt folders; a delivery lies in a folder named for its tile."""

OWN_ASSETS = "assets"
"""Where outputs of assets lie that users define themselves."""


@dataclass(slots=True)
class Attempt:
    """A folder that one writer fills, and the record that it means to replace; `live` once it has done so."""

    folder: Path
    key: str
    replaces: bytes | None
    identity: tuple[int, int] | None = None
    """Device and inode of the folder that was made for it: a writer whose folder was swept may have made another."""
    live: bool = False


@dataclass(frozen=True, slots=True)
class TileStore:
    """The committed outputs of one project. `folders` names each stage's folder under the store's root.

    An asset of a user's own, which has none there, lies in `assets/<its name>`. `owners` says who a stage's folder
    belongs to where that is more than the project: its project and year.
    """

    store: ObjectStore
    project: str
    folders: Mapping[str, str]
    owners: Mapping[str, str] = field(default_factory=dict)

    def folder(self, stage: str) -> str:
        """The key under which a stage's outputs lie."""
        return self.folders.get(stage) or f"{OWN_ASSETS}/{stage}"

    def record(self, stage: str, key: str) -> OutputRecord | None:
        """The live record of an output; None when nothing was ever committed."""
        data = self.store.get(self._record_key(stage, key))
        return None if data is None else self.parse(data, stage, key)

    def records(self, stage: str) -> dict[str, OutputRecord]:
        """All live records of a stage by key, from one listing."""
        found = sorted(listed(self.store, self.commits_folder(stage)).items())
        return {name.removesuffix(".json"): self.parse(data, stage, name.removesuffix(".json")) for name, data in found}

    @property
    def files(self) -> AttemptFiles:
        """How the files of attempts are read and written."""
        return attempt_files(self.store)

    def place(self, record: OutputRecord) -> str:
        """Where the live attempt lies, for people: a path, or an address in a bucket."""
        return self.store.place(record.attempt)

    def path(self, record: OutputRecord) -> Path:
        """The live attempt's files as a folder of this machine: of a bucket, a copy."""
        with self._told_gone(record):
            return self.files.path(record.attempt)

    def blocks(self, record: OutputRecord) -> Path | ObjectFolder:
        """The live attempt's files, intact, for whoever reads some blocks of them only."""
        with self._told_gone(record):
            self._check_size(record, self.files.size(record.attempt))
            return self.files.blocks(record.attempt)

    def file(self, record: OutputRecord, name: str) -> bytes | None:
        """One small file of the live attempt, without the others; None where it has none of that name."""
        return self.store.get(f"{record.attempt}/{name}")

    def text(self, record: OutputRecord, name: str) -> str:
        """The same, of a file that an output of this kind always has."""
        data = self.file(record, name)
        if data is None:
            raise lost(self, record, f"{self.place(record)}/{name} is gone; make it anew: --only {record.stage}")
        return data.decode()

    def there(self, record: OutputRecord) -> bool:
        """Does the live attempt exist?"""
        return self.files.there(record.attempt)

    def forget(self, *outputs: str) -> None:
        """Give back the room of copies on this machine: nobody here needs these outputs any more."""
        self.files.forget(outputs)

    def intact(self, record: OutputRecord) -> Path:
        """The live attempt's folder, which still holds as many bytes as were committed.

        Zarr reads a lost chunk as its fill value, so a damaged folder would go on as data.
        """
        path = self.path(record)
        self._check_size(record, size_of(path))
        return path

    def _check_size(self, record: OutputRecord, found: int) -> None:
        committed = record.numbers.get("bytes")
        if committed is not None and found != committed:
            raise lost(
                self,
                record,
                f"{record.stage} of {record.key}: {self.place(record)} is damaged: it holds {found} of the {committed} "
                f"bytes that were committed; delete {self.record_place(record.stage, record.key)} to make it anew",
            )

    @contextlib.contextmanager
    def _told_gone(self, record: OutputRecord) -> Iterator[None]:
        try:
            yield
        except FilesGone:
            raise lost(
                self,
                record,
                f"{record.stage} of {record.key}: {self.place(record)} is gone although it was committed; "
                f"delete {self.record_place(record.stage, record.key)} to make it anew",
            ) from None

    def record_place(self, stage: str, key: str) -> str:
        """Where an output's commit record lies: deleting it forgets the output."""
        return self.store.place(self._record_key(stage, key))

    def live(self, stage: str, key: str) -> Path:
        """The live attempt's files of an output that must exist, as a folder of this machine."""
        return self.path(self.live_record(stage, key))

    def live_place(self, stage: str, key: str) -> str:
        """Where the live attempt of an output lies, which must exist."""
        record = self.live_record(stage, key)
        with self._told_gone(record):
            self.files.size(record.attempt)
        return self.place(record)

    def live_record(self, stage: str, key: str) -> OutputRecord:
        """The record of an output that must exist."""
        record = self.record(stage, key)
        if record is None:
            what = stage if stage == key else f"{stage} of {key}"
            raise StoreError(f"{what} has not been made yet; run it first: --only {stage}")
        return record

    @contextlib.contextmanager
    def attempt(self, stage: str, key: str) -> Iterator[Attempt]:
        """A new attempt folder; whatever ends the block without a commit removes it."""
        self._claimed(stage)
        name = f"{self.folder(stage)}/{key}/{attempt_name()}"
        attempt = Attempt(Path(), name, self._replaceable(stage, key))
        try:
            with self.files.told(self.folder(stage)):
                attempt.folder = self.files.begin(name)
                attempt.identity = _identity(attempt.folder)
                yield attempt
        finally:
            if not attempt.live and not self._is_live(stage, key, name):
                self.files.abandon(name)

    def commit(
        self,
        stage: str,
        key: str,
        attempt: Attempt,
        recipe: str,
        *,
        numbers: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        empty: str | None = None,
        source: bool = False,
    ) -> OutputRecord:
        """Make an attempt live. A source's digest covers its bytes. A writer that lost the race gets a StoreError.

        `empty` is the reason why the output holds nothing; None for an ordinary output.
        """
        if not attempt.folder.is_dir() or attempt.identity not in (None, _identity(attempt.folder)):
            raise StoreError(f"{stage} of {key}: {attempt.folder} is gone before it was committed; run it again")
        numbers = {**(numbers or {}), "bytes": size_of(attempt.folder)}
        if attempt.identity is not None:
            self.files.finish(attempt.key)
        record = OutputRecord(
            stage=stage,
            key=key,
            attempt=attempt.key,
            recipe=recipe,
            digest=source_digest(recipe, checksum(attempt.folder)) if source else recipe,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            empty=empty is not None,
            reason=empty or "",
            numbers=numbers,
            inputs=dict(inputs or {}),
        )
        if not self.store.swap(self._record_key(stage, key), serialized(record), attempt.replaces):
            raise StoreError(f"{stage} of {key}: another run committed it meanwhile; its output is kept")
        attempt.live = True
        self.store.delete(self._failure_key(stage, key))
        self._retire(stage, key, attempt)
        return record

    def replace(self, live: OutputRecord, record: OutputRecord) -> bool:
        """Put a record of the same attempt in the place of the live one; False if that is live no more."""
        key = self._record_key(live.stage, live.key)
        data = self.store.get(key)
        found = None if data is None else self.parse(data, live.stage, live.key)
        if found is None or (found.attempt, found.retired) != (live.attempt, live.retired):
            return False
        return self.store.swap(key, serialized(record), data)

    def note_failure(self, stage: str, key: str, reason: str) -> None:
        """Remember why an output could not be made; what was committed before stays as it is."""
        self.claim(stage)
        self.store.put(self._failure_key(stage, key), json.dumps({"reason": reason}).encode())

    def failures(self, stage: str) -> dict[str, str]:
        """Why outputs could not be made when they were last tried, by key; a later commit forgets."""
        found = read_together(self.store, self.store.keys(f"{self.folder(stage)}/_failures"))
        return {Path(key).stem: json.loads(data)["reason"] for key, data in found.items()}

    def delivered(self, stage: str, key: str, folder: str) -> Attempt:
        """An attempt that was written by somebody else, the service: committed where it lies."""
        self._claimed(stage)
        self.files.forget([key])  # until it is committed it may be delivered anew
        return Attempt(self.files.path(folder), folder, self._replaceable(stage, key))

    def claim(self, stage: str) -> None:
        """Take the stage's folder for this project; a folder that another project owns is a StoreError."""
        claim_folder(self.store, self.folder(stage), stage, self.owners.get(stage, self.project))

    def _claimed(self, stage: str) -> None:
        """The same for one of many tiles: what was found a moment ago is not asked for again."""
        claimed_lately(self.store, self.folder(stage), stage, self.owners.get(stage, self.project))

    def owner(self, stage: str) -> str | None:
        """Who the stage's folder belongs to, as it says itself; None where it was never claimed, or says nothing."""
        return owner_of(self.store, self.folder(stage))

    def _retire(self, stage: str, key: str, live: Attempt) -> None:
        """Start the grace time of the attempt that was replaced, and remove those whose grace time is over."""
        if live.replaces is None:
            return  # what a killed writer left is for a sweep
        replaced = self.parse(live.replaces, stage, key)
        if replaced.attempt != live.key:
            self.files.supersede(replaced.attempt)
        before = time.time() - GRACE_SECONDS
        for name in self.attempts(stage, key):
            used = name in (live.key, replaced.attempt)
            if not used and not self.in_use(name, replaced, self.files.changed(name), before):
                self.files.discard(name)

    def attempts(self, stage: str, key: str) -> list[str]:
        """The keys of an output's attempts, the live one among them.

        An EOPatch of somebody else may lie there too: what is not an attempt of ours is left out.
        """
        return [
            name for name in self.store.folders(f"{self.folder(stage)}/{key}") if ATTEMPT.fullmatch(Path(name).name)
        ]

    def in_use(self, attempt: str, live: OutputRecord | None, changed: float, before: float) -> bool:
        """Is an attempt live, or may somebody still read or write it who has done so since `before`?"""
        if live is None:
            return changed >= before
        since = dt.datetime.fromisoformat(live.created).timestamp()
        return attempt == live.attempt or max(changed, self.files.replaced(since)) >= before

    def _is_live(self, stage: str, key: str, attempt: str) -> bool:
        try:
            record = self.record(stage, key)
        except StorageRefused:
            return False  # where no record can be read, none was put either
        return record is not None and record.attempt == attempt

    def _replaceable(self, stage: str, key: str) -> bytes | None:
        """The record that a new attempt means to replace; one that can't be read is told before any work is done."""
        data = self.store.get(self._record_key(stage, key))
        if data is not None:
            self.parse(data, stage, key)
        return data

    def commits_folder(self, stage: str) -> str:
        """The key under which a stage's commit records lie."""
        return f"{self.folder(stage)}/_commits"

    def _failure_key(self, stage: str, key: str) -> str:
        return f"{self.folder(stage)}/_failures/{key}.json"

    def _record_key(self, stage: str, key: str) -> str:
        return f"{self.commits_folder(stage)}/{key}.json"

    def parse(self, data: bytes, stage: str, key: str) -> OutputRecord:
        """A commit record from its bytes; anything else is a StoreError."""
        return parsed(data, self.record_place(stage, key), stage, key)


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino
