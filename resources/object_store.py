"""A project folder as a small object store: whole objects under keys, created, replaced or swapped atomically.

Keys are relative paths with `/`, and never leave the root. `LocalFolder` is a folder of this machine, `Bucket` a prefix
of an S3 bucket. Nothing here knows what the objects mean.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing tells it. Its version is another one whenever its bytes may be others.

    `modified` is the time of its last writing in seconds since 1970, by the clock of whoever keeps it.
    """

    key: str
    size: int
    version: str
    modified: float = 0.0


Matching = Callable[[str], list[Listed]]
"""Lists the objects that a glob means, see `ObjectStore.matching`."""


class ObjectStore(Protocol):
    """Whole objects under keys. Small, immutable and picklable, without secrets; several processes use one at a time.

    What the store itself refuses (a full disk, no permission, no such bucket) is a StorageRefused that names the place
    and the remedy; what may pass (a server that is away, after all retries) is a TransientError.
    """

    def __hash__(self) -> int: ...

    def place(self, key: str = "") -> str:
        """Where an object lies, for people and messages: a path, or `s3://bucket/key`. A StoreError for a key that
        leaves the root."""
        ...

    def get(self, key: str) -> bytes | None:
        """The object's bytes, None when it does not exist."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of an object's bytes, shorter where the object ends. One that does not exist is a StoreError."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Replace or create the object: readers see the old bytes or the new."""
        ...

    def put_file(self, key: str, source: Path) -> None:
        """The same with the bytes of a file, of any size, without holding them in memory."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none; False, and nothing changed, if there is one."""
        ...

    def swap(self, key: str, data: bytes, expected: bytes | None) -> bool:
        """Replace the object only if its bytes still are `expected` (None: only if it does not exist)."""
        ...

    def fetch(self, key: str, target: Path) -> None:
        """The object as a local file, which appears whole or not at all. One that does not exist is a StoreError."""
        ...

    def copy(self, source: str, key: str) -> None:
        """Put an object under a second key, without moving its bytes through this process where that is possible."""
        ...

    def exists(self, key: str) -> bool:
        """Is there an object of this key, or anything under it?"""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects and folders directly under a prefix, sorted; hidden ones are left out."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """The keys of the folders directly under a prefix, sorted; hidden ones are left out."""
        ...

    def versions(self, prefix: str) -> dict[str, str]:
        """The names of the objects directly under a prefix, with what changes whenever one is replaced: one listing."""
        ...

    def under(self, prefix: str) -> list[Listed]:
        """All objects under a prefix at any depth, sorted, hidden ones included: one listing, in pages."""
        ...

    def matching(self, pattern: str) -> list[Listed]:
        """The objects whose keys match a glob (`**` for any depth), sorted; hidden ones, and what is still being
        copied, are left out."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""
        ...

    def delete_folder(self, key: str) -> None:
        """Remove everything under a key; nothing there is no error."""
        ...

    def check_conditions(self, key: str, data: bytes) -> None:
        """Raise StorageRefused if the store puts an object although its condition does not hold: nothing is safe there.

        `key` holds `data`.
        """
        ...

    def exclusive(self, key: str, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold a key against all other processes; `waiting` is called once if somebody else holds it.

        It comes free when the holder dies, however it dies.
        """
        ...

    def held(self, key: str) -> bool:
        """Does a living process hold this key (see `exclusive`)?"""
        ...

    def unlock(self, key: str) -> None:
        """Remove what `exclusive` leaves behind, of a key that nobody will ever hold again."""
        ...


def checksum(path: Path) -> str:
    """sha256 of a file, or of a folder: the names, sizes and bytes of its files in order."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file_path.relative_to(path).as_posix()}\0{checksum(file_path)}\n".encode())
    return digest.hexdigest()


def file_checksum(path: Path) -> str:
    """sha256 of a file that many ask for: read again only when its size or modification time changes."""
    state = path.stat()
    return _checksum_of_version(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _checksum_of_version(path: Path, size: int, modified_ns: int) -> str:
    return checksum(path)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
