"""Folders of this machine for a project in a bucket: what stays here between runs, and what a process works in.

Both lie under EO_ASSETS_HOME, or the user's cache folder: on a large machine name a disk that is fast and has room.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
from pathlib import Path

HOME_VARIABLE = "EO_ASSETS_HOME"
_LOCK = ".lock"


def home() -> Path:
    """The folder of all projects in buckets on this machine."""
    named = os.environ.get(HOME_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "eo-assets"


def local_home(place: str) -> Path:
    """What a project keeps on this machine, by its place `s3://bucket/prefix`: its Dagster instance, its inputs."""
    digest = hashlib.sha256(place.encode()).hexdigest()[:16]
    return home() / f"{place.rpartition('/')[2] or 'project'}-{digest}"


def machine_folder(project_folder: str) -> Path:
    """Where a project keeps what does not lie in a bucket: in its folder, or, of a bucket, on this machine."""
    return local_home(project_folder) if "://" in project_folder else Path(project_folder)


def scratch(place: str) -> Path:
    """Where this process keeps working copies of a project's files. It goes when the process ends.

    What a killed process left is removed by the next one that begins.
    """
    return _scratch_of(home() / "scratch", os.getpid()) / local_home(place).name


@functools.lru_cache(maxsize=4)
def _scratch_of(folder: Path, process: int) -> Path:
    """`process` tells a forked child from its parent: each has its own."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    own = folder / f"{process}-{secrets.token_hex(4)}"
    own.mkdir()
    _hold(own)
    atexit.register(_remove, own, process)
    return own


def _hold(own: Path) -> None:
    """The system lets go of the lock when the process ends, however it ends: the handle is never closed."""
    handle = os.open(own / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)


def _sweep(folder: Path) -> None:
    for left in folder.iterdir():
        try:
            handle = os.open(left / _LOCK, os.O_RDWR)
        except OSError:
            continue  # one that is just being made, or gone
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _remove(own: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(own, ignore_errors=True)
