"""Objects put into a bucket and fetched from it, large ones in parts, whole for readers either way."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import obstore
from obstore.store import S3Store

from eo_assets.errors import StoreError
from resources.bucket_requests import Connection

PART = 16 << 20
"""Bytes of a part; S3 wants at least 5 MiB, and at most 10,000 parts."""

PARTS = 9_000
AT_ONCE = 4
"""Parts under way: with `PART` the memory that an upload takes."""

WHOLE_UPLOADS = 3
PIECE = 8 << 20
"""Bytes that are held of an object that is fetched."""


def put_bytes(connection: Connection, place: str, path: str, data: bytes) -> None:
    """Bytes as an object."""
    many = len(data) > PART
    _uploaded(connection, place, lambda client: obstore.put(
        client, path, data, use_multipart=many, chunk_size=PART, max_concurrency=AT_ONCE
    ))  # fmt: skip


def put_file(connection: Connection, place: str, path: str, source: Path) -> None:
    """A file as an object, with bounded memory."""
    size = source.stat().st_size
    if size <= PART:
        put_bytes(connection, place, path, source.read_bytes())
        return
    part = max(PART, -(-size // PARTS))
    _uploaded(connection, place, lambda client: obstore.put(
        client, path, source, use_multipart=True, chunk_size=part, max_concurrency=AT_ONCE
    ))  # fmt: skip


def _uploaded(connection: Connection, place: str, put: Callable[[S3Store], object]) -> None:
    """An upload in parts that the server forgot (it was restarted, or its answer was lost) is begun anew."""
    for _ in range(WHOLE_UPLOADS):
        try:
            connection.asked(place, put)
        except FileNotFoundError:
            continue
        return
    raise StoreError(f"{place}: the server lost the upload {WHOLE_UPLOADS} times; see its log")


def fetched(client: S3Store, path: str, target: Path) -> None:
    """An object as a local file, whole or not at all."""
    found = obstore.get(client, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            for piece in found.stream(min_chunk_size=PIECE):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
