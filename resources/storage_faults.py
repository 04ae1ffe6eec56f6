"""A disk that is full or can't be written, told as what it is: which place, what is the matter, what to do.

Such a fault is of the place and not of the tile: whoever meets it stops, instead of failing one tile after another.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eo_assets.errors import EoAssetsError, StorageRefused

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
TOO_LARGE = frozenset({errno.EFBIG})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EEXIST})

SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}
"""What SQLite, which keeps Dagster's events, says of the same faults."""

LATER = "then run it again: what is committed stays, and the run goes on from there"


@contextlib.contextmanager
def storage_told(place: Path) -> Iterator[None]:
    """Raise StorageRefused for what goes wrong in the block because `place` can't be written; leave all else alone."""
    try:
        yield
    except EoAssetsError:
        raise
    except Exception as error:
        fault = storage_fault(error, place)
        if fault is None:
            raise
        raise fault from error


def storage_fault(error: BaseException, place: Path) -> StorageRefused | None:
    """What an error, or one that led to it, says of the place that was to be written; None for any other error.

    A missing permission counts only under `place`: a file to be read may lie anywhere.
    """
    for cause in _chain(error):
        code, named = _code(cause)
        path = named or place
        if code in FULL:
            return StorageRefused(f"{path}: the disk is full ({_free(path)}); free some space, {LATER}")
        if code in TOO_LARGE:
            return StorageRefused(
                f"{path}: no file of this size is allowed here; raise the limit (ulimit -f, or the quota), {LATER}"
            )
        if code in FORBIDDEN and path.is_relative_to(place):
            what = "is read-only" if code == errno.EROFS else "may not be written"
            return StorageRefused(f"{path} {what}; give the user of this run permission to write there, {LATER}")
        if code in IN_THE_WAY and path.is_relative_to(place):
            return StorageRefused(f"{path}: something else lies where a folder has to be; move it away, {LATER}")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _code(error: BaseException) -> tuple[int | None, Path | None]:
    if isinstance(error, sqlite3.Error):
        # The lowest byte is the kind, the others say more of it.
        return SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF), None
    if not isinstance(error, OSError):
        return None, None
    named = error.filename2 or error.filename
    return error.errno, Path(named) if isinstance(named, str) else None


def _free(path: Path) -> str:
    existing = next((parent for parent in (path, *path.parents) if parent.exists()), None)
    if existing is None:
        return "nothing is left"
    usage = shutil.disk_usage(existing)
    return f"{usage.free / 1e6:,.1f} MB of {usage.total / 1e6:,.1f} MB are left"
