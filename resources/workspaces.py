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
from urllib.parse import urlsplit

from resources.s3_access import AWS_CHAIN, S3Access
from resources.s3_settings import settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOME_VARIABLE = "EO_ASSETS_HOME"
_LOCK = ".lock"


def home() -> Path:
    """The folder of all projects in buckets on this machine."""
    named = os.environ.get(HOME_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "eo-assets"


def local_home(place: str, endpoint: str | None = None) -> Path:
    """What a project keeps on this machine, by its place `s3://bucket/prefix`: its Dagster instance, its inputs.

    `endpoint` is the URL of a server that is not AWS: two servers may have buckets of one name.
    """
    digest = hashlib.sha256((_server(endpoint) + place).encode()).hexdigest()[:16]
    return home() / f"{place.rpartition('/')[2] or 'project'}-{digest}"


def _server(endpoint: str | None) -> str:
    """Without the port on this machine itself: there it is often another one each time that a server starts."""
    url = urlsplit(endpoint or "")
    return f"{url.hostname} " if url.hostname in LOOPBACK else f"{url.netloc} " if endpoint else ""


def machine_folder(project_folder: str, access: S3Access = AWS_CHAIN) -> Path:
    """Where a project keeps what does not lie in a bucket: in its folder, or, of a bucket, on this machine.

    An endpoint or a profile that can't be used is a StorageRefused.
    """
    if "://" not in project_folder:
        return Path(project_folder)
    return local_home(project_folder, settings(access).endpoint)


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
