"""Objects put into a bucket and fetched from it, large ones in parts, whole for readers either way."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import obstore.exceptions
from obstore.store import S3Store

from eo_assets.errors import StoreError, TransientError
from resources.bucket_requests import Connection
from resources.workspaces import scratch

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

PART = 16 << 20
"""Bytes of a part; S3 wants at least 5 MiB, and at most 10,000 parts."""

PARTS = 9_000
AT_ONCE = 4
"""Parts under way: with `PART` the memory that an upload takes."""

LARGE = threading.BoundedSemaphore(2)
"""Transfers in parts that a process has under way: 8 parts, 128 MiB, however many files there are."""

WHOLE_UPLOADS = 3
COPIED = 5 << 30
"""Bytes that S3 copies by itself; what is larger goes through this machine."""

WHOLE_FETCHES = 3


def put_bytes(connection: Connection, place: str, path: str, data: bytes) -> None:
    """Bytes as an object."""
    many = len(data) > PART
    _uploaded(connection, place, many, lambda client: obstore.put(
        client, path, data, use_multipart=many, chunk_size=PART, max_concurrency=AT_ONCE
    ))  # fmt: skip


def put_file(connection: Connection, place: str, path: str, source: Path) -> None:
    """A file as an object, with bounded memory."""
    size = source.stat().st_size
    if size <= PART:
        put_bytes(connection, place, path, source.read_bytes())
        return
    part = max(PART, -(-size // PARTS))
    _uploaded(connection, place, True, lambda client: obstore.put(
        client, path, source, use_multipart=True, chunk_size=part, max_concurrency=AT_ONCE
    ))  # fmt: skip


def copy(connection: Connection, place: str, source: str, path: str, largest: int = COPIED) -> None:
    """An object under a second key: by the server, or through a file of this machine where the server would not."""
    size = connection.asked(place, lambda client: obstore.head(client, source))["size"]
    if size <= largest:
        connection.asked(place, lambda client: obstore.copy(client, source, path))
        return
    passing = scratch(place) / f"{secrets.token_hex(8)}.copy"
    try:
        fetch(connection, place, source, passing)
        put_file(connection, place, path, passing)
    finally:
        passing.unlink(missing_ok=True)


def _uploaded(connection: Connection, place: str, in_parts: bool, put: Callable[[S3Store], object]) -> None:
    """An upload in parts that the server forgot (it was restarted, or its answer was lost) is begun anew."""
    for _ in range(WHOLE_UPLOADS):
        try:
            with LARGE if in_parts else contextlib.nullcontext():
                connection.asked(place, put, in_parts=in_parts)
        except FileNotFoundError:
            continue
        return
    raise StoreError(f"{place}: the server lost the upload {WHOLE_UPLOADS} times; see its log")


def fetch(connection: Connection, place: str, path: str, target: Path) -> None:
    """An object as a local file, whole or not at all. What is larger than a part comes in parts, a request each.

    So a connection that breaks costs a part and not the whole, and each part has the patience of a request.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            _fetch_into(connection, place, path, file.fileno())
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _fetch_into(connection: Connection, place: str, path: str, file: int) -> None:
    for _ in range(WHOLE_FETCHES):
        rest = connection.asked(place, lambda client: _first_part(client, path, file))
        if rest is None:
            return
        with contextlib.suppress(obstore.exceptions.PreconditionError):  # replaced meanwhile: the new one, then
            _fetch_parts(connection, place, path, file, rest)
            return
    raise TransientError(f"{place}: it was replaced {WHOLE_FETCHES} times while it was read; try it again")


def _first_part(client: S3Store, path: str, file: int) -> ObjectMeta | None:
    """A small object itself; of a large one nothing but its size and version."""
    found = obstore.get(client, path)
    os.ftruncate(file, 0)
    if found.meta["size"] > PART:
        return found.meta
    os.pwrite(file, found.bytes(), 0)
    return None


def _fetch_parts(connection: Connection, place: str, path: str, file: int, meta: ObjectMeta) -> None:
    size, version = meta["size"], meta["e_tag"]

    def part(start: int) -> None:
        options: GetOptions = {"range": (start, min(start + PART, size)), "if_match": version}
        data = connection.asked(place, lambda client: obstore.get(client, path, options=options).bytes())
        os.pwrite(file, data, start)

    with LARGE, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(part, range(0, size, PART)))
