"""Committed outputs over the object store: immutable attempts, and one record that names the live one.

An output belongs to a stage and a key (a tile, a zone, or the stage's own name where there is only one). It is written
into a new attempt folder and made real by one compare-and-swap of its record. Readers go through the record only.
Plain and picklable: workers use it without Dagster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eo_assets.core.recipe import source_digest
from eo_assets.errors import StorageRefused, StoreError
from resources.object_store import ObjectStore, checksum, size_of
from resources.record_listing import listed
from resources.storage_faults import storage_told

RECORD_FORMAT = 1
GRACE_SECONDS = 3600.0
"""How long a superseded attempt, or one that nobody finished, is kept for readers and writers that still use it."""

ATTEMPT = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
"""Names of attempt folders; a delivery lies in a folder named for its tile."""

OWN_ASSETS = "assets"
"""Where outputs of assets lie that users define themselves."""

SETTING = dict.fromkeys(("aoi", "tile_grid", "cost_estimate"), "cache")
"""The key of storage.structure that sets a stage's folder, where it is not the stage's own name."""


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """The commit record of one output: what is live, from what recipe, with which numbers."""

    stage: str
    key: str
    attempt: str
    recipe: str
    digest: str
    created: str
    empty: bool = False
    reason: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    format: int = RECORD_FORMAT


@dataclass(frozen=True, slots=True)
class Attempt:
    """A folder that one writer fills, and the record that it means to replace."""

    folder: Path
    key: str
    replaces: bytes | None
    identity: tuple[int, int] | None = None
    """Device and inode of the folder that was made for it: a writer whose folder was swept may have made another."""


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

    def path(self, record: OutputRecord) -> Path:
        """The live attempt's folder."""
        path = self.store.path(record.attempt)
        if not path.exists():
            raise StoreError(
                f"{record.stage} of {record.key}: {path} is gone although it was committed; "
                f"delete {self.record_path(record.stage, record.key)} to make it anew"
            )
        return path

    def intact(self, record: OutputRecord) -> Path:
        """The live attempt's folder, which still holds as many bytes as were committed.

        Zarr reads a lost chunk as its fill value, so a damaged folder would go on as data.
        """
        path, committed = self.path(record), record.numbers.get("bytes")
        found = size_of(path)
        if committed is not None and found != committed:
            raise StoreError(
                f"{record.stage} of {record.key}: {path} is damaged: it holds {found} of the {committed} bytes that "
                f"were committed; delete {self.record_path(record.stage, record.key)} to make it anew"
            )
        return path

    def record_path(self, stage: str, key: str) -> Path:
        """Where an output's commit record lies: deleting it forgets the output."""
        return self.store.path(self._record_key(stage, key))

    def live(self, stage: str, key: str) -> Path:
        """The live attempt's folder of an output that must exist."""
        record = self.record(stage, key)
        if record is None:
            raise StoreError(f"{stage} of {key} has not been made yet; run it first: --only {stage}")
        return self.path(record)

    @contextlib.contextmanager
    def attempt(self, stage: str, key: str) -> Iterator[Attempt]:
        """A new attempt folder; whatever ends the block without a commit removes it."""
        self.claim(stage)
        name = f"{self.folder(stage)}/{key}/{_attempt_name()}"
        folder, replaces = self.store.path(name), self._replaceable(stage, key)
        try:
            with storage_told(self.store.path(self.folder(stage))):
                folder.mkdir(parents=True)
                yield Attempt(folder, name, replaces, _identity(folder))
        finally:
            if not self._is_live(stage, key, name):
                shutil.rmtree(folder, ignore_errors=True)

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
        if not self.store.swap(self._record_key(stage, key), _serialize(record), attempt.replaces):
            raise StoreError(f"{stage} of {key}: another run committed it meanwhile; its output is kept")
        self.store.delete(self._failure_key(stage, key))
        self._retire(stage, key, attempt)
        return record

    def note_failure(self, stage: str, key: str, reason: str) -> None:
        """Remember why an output could not be made; what was committed before stays as it is."""
        self.claim(stage)
        self.store.put(self._failure_key(stage, key), json.dumps({"reason": reason}).encode())

    def failures(self, stage: str) -> dict[str, str]:
        """Why outputs could not be made when they were last tried, by key; a later commit forgets."""
        keys = (Path(key).stem for key in self.store.keys(f"{self.folder(stage)}/_failures"))
        found = {key: self.store.get(self._failure_key(stage, key)) for key in keys}
        return {key: json.loads(data)["reason"] for key, data in found.items() if data is not None}

    def delivered(self, stage: str, key: str, folder: str) -> Attempt:
        """An attempt that was written by somebody else, the service: committed where it lies."""
        self.claim(stage)
        return Attempt(self.store.path(folder), folder, self._replaceable(stage, key))

    def claim(self, stage: str) -> None:
        """Take the stage's folder for this project; a folder that another project owns is a StoreError."""
        key = f"{self.folder(stage)}/_owner.json"
        claim = json.dumps({"project": self.owners.get(stage, self.project), "stage": stage}).encode()
        owner = self.store.get(key)
        if owner is None:
            self.store.create(key, claim)
            owner = self.store.get(key)
        if owner != claim:
            told = (owner or b"nothing").decode(errors="replace")
            raise StoreError(
                f"{self.store.path(self.folder(stage))} belongs to {told}, not to {stage} of "
                f"{self.owners.get(stage, self.project)}; give storage.structure.{SETTING.get(stage, stage)} another "
                "folder, for instance one with {year}"
            )

    def owner(self, stage: str) -> str | None:
        """Who the stage's folder belongs to, as it says itself; None where it was never claimed, or says nothing."""
        said = self.store.get(f"{self.folder(stage)}/_owner.json")
        try:
            return None if said is None else str(json.loads(said)["project"])
        except (ValueError, TypeError, KeyError):
            return None

    def _retire(self, stage: str, key: str, live: Attempt) -> None:
        """Start the grace time of the attempt that was replaced, and sweep those whose grace time is over."""
        replaced = None if live.replaces is None else self.parse(live.replaces, stage, key).attempt
        if replaced is not None and replaced != live.key and self.store.path(replaced).exists():
            os.utime(self.store.path(replaced))
        for name in self.store.keys(f"{self.folder(stage)}/{key}"):
            path = self.store.path(name)
            # An EOPatch of somebody else may lie there too: what is not an attempt of ours is never removed.
            ours = ATTEMPT.fullmatch(path.name) and path.is_dir()
            if ours and name != live.key and time.time() - path.stat().st_mtime > GRACE_SECONDS:
                discard(path)

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
        place = self.store.path(self._record_key(stage, key))
        try:
            values = json.loads(data)
            if values["format"] > RECORD_FORMAT:
                raise StoreError(f"{place}: written by a newer version (format {values['format']}); upgrade eo-assets")
            return OutputRecord(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{place}: not a commit record ({error}); delete it to make {stage} of {key} anew"
            ) from None


def discard(attempt: Path) -> None:
    """Remove an attempt's folder: first from under the hands of a writer who may still be at it, then from the disk."""
    aside = attempt.with_name(_attempt_name())
    with contextlib.suppress(FileNotFoundError):
        attempt.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def _attempt_name() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _serialize(record: OutputRecord) -> bytes:
    return json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True).encode()
