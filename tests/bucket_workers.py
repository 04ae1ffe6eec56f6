"""What other processes do at a bucket in tests: apart, so that a process that is started imports little."""

from __future__ import annotations

import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from eo_assets.errors import StorageRefused
from resources.bucket import Bucket

ROUNDS = 100


def swap_rounds(store: Bucket, writer: int, together: Any, wins: Any) -> None:
    for turn in range(ROUNDS):
        together.wait(60)
        if store.swap("record", f"{turn}:{writer}".encode(), before(store, turn)):
            wins.put((turn, writer))


def before(store: Bucket, turn: int) -> bytes | None:
    """What everybody expects in a round: the same, from an object that nobody changes meanwhile."""
    return store.get(f"expected/{turn}") or None


def hold(store: Bucket, key: str, ready: Any) -> None:
    with store.exclusive(key, lambda: None):
        ready.set()
        time.sleep(600)


def hold_and_write(store: Bucket, ready: Any, said: Any) -> None:
    try:
        with store.exclusive("lock", lambda: None):
            ready.set()
            while True:
                time.sleep(0.05)
                store.put("working", b"")
    except StorageRefused as error:
        said.put(str(error))


def upload(store: Bucket, source: Path, begun: Any) -> None:
    begun.set()
    store.put_file("large", source)


def get_in_child(store: Bucket) -> None:
    try:
        store.get("a")
    except StorageRefused as error:
        os._exit(7 if "forked" in str(error) and "spawn" in str(error) else 8)


def core_limits(store: Bucket, who: str, limits: Any) -> None:
    before, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if who == "the store":
        store.exists("a")
    elif who == "GDAL":
        from resources.gdal_s3 import gdal_options

        gdal_options(store.connection.access)
    else:
        from resources.dagster_s3 import s3_resource

        s3_resource(store.connection.access).get_client()
    limits.put((before, resource.getrlimit(resource.RLIMIT_CORE)[0]))


def upload_together(store: Bucket, files: list[Path], grown: Any) -> None:
    store.put("small", b"")
    store.delete("small")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(lambda file: store.put_file(file.name, file), files))
    grown.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
