"""The files by which processes find and keep apart the service of a folder.

`service.json` (pid, address and identity of the running process), `alive.lock` (held by it as long as it lives: the
kernel lets go, however it ends), `start.lock` (held while one is started or ended), `service.log`, `state.sqlite`,
`client.json` (who may sign in, see credentials.py), `requests.jsonl` (every call, see request_log.py), `state.id`
(tells this folder's collections from those of another one: a project that was moved is published anew), `drafts` (files
on their way into a real bucket, or read from one).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from eo_assets.errors import ServiceError

ALIVE, START, INFO, LOG = "alive.lock", "start.lock", "service.json", "service.log"
STATE_ID, DRAFTS = "state.id", "drafts"
POLL_S = 0.1


def read_info(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / INFO).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    draft = folder / f"service.json.{os.getpid()}"
    draft.write_text(json.dumps(info), encoding="utf-8")
    draft.replace(folder / INFO)


def forget_info(folder: Path, info: Mapping[str, Any]) -> None:
    if (read_info(folder) or {}).get("instance") == info["instance"]:
        (folder / INFO).unlink(missing_ok=True)


def state_id(folder: Path) -> str | None:
    """Tells the state of this folder's service from any other; None where none was ever started."""
    try:
        return (folder / STATE_ID).read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def keep_state_id(folder: Path) -> None:
    """Give the state its id if it has none. The caller holds start.lock."""
    if state_id(folder) is None:
        draft = folder / f"{STATE_ID}.{os.getpid()}"
        draft.write_text(uuid.uuid4().hex, encoding="ascii")
        draft.replace(folder / STATE_ID)


def alive(folder: Path) -> bool:
    lock = hold(folder / ALIVE)
    if lock is not None:
        lock.close()
    return lock is None


def hold(path: Path) -> IO[bytes] | None:
    """An exclusive lock, released when the file is closed; None if somebody else has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise
    return file


@contextmanager
def locked(path: Path, deadline: float) -> Iterator[None]:
    while (lock := hold(path)) is None:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"another process has been starting the local Sentinel Hub for too long; see {path.parent}"
            )
        time.sleep(POLL_S)
    with lock:
        yield
