"""Large objects: what they take of memory however many there are, and copies that S3 does not make by itself."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resources import bucket_transfers
from resources.bucket import Bucket
from resources.s3_access import S3Access
from tests import bucket_workers
from tests.fault_proxy import Fault, fault_proxy
from tests.seaweed import Seaweed

from .conftest import SHORT

SPAWN = multiprocessing.get_context("spawn")
MB = 1 << 20


def test_many_large_files_at_once_take_the_memory_of_a_few_parts(bucket: Bucket, tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.bin" for n in range(8)]
    for file in files:
        file.write_bytes(os.urandom(64 * MB))
    grown = SPAWN.Queue()
    process = SPAWN.Process(target=bucket_workers.upload_together, args=(bucket, files, grown))
    process.start()
    assert grown.get(timeout=120) < 400 * MB, "all at once they took 520 MB"
    process.join(30)
    assert [found.size for found in bucket.under("")] == [64 * MB] * 8


def test_what_the_server_would_not_copy_goes_through_this_machine(bucket: Bucket) -> None:
    data = os.urandom(20 * MB)
    bucket.put("original", data)
    paths = [f"{bucket.prefix}/{name}" for name in ("original", "published")]
    bucket_transfers.copy(bucket.connection, bucket.place("published"), *paths, largest=MB)
    assert bucket.get("published") == data


def test_a_fetch_may_take_longer_than_the_patience_and_loses_a_part_at_a_time(
    bucket: Bucket, server: Seaweed, tmp_path: Path
) -> None:
    data = os.urandom(100 * MB)
    bucket.put("large", data)
    with fault_proxy(server.endpoint) as proxy:
        through = Bucket.at(bucket.place(""), S3Access(endpoint=proxy.endpoint), replace(SHORT, total_s=1))
        proxy.inject(
            Fault("slow", "GET", times=1000, seconds=0.7), Fault("reset", "GET", times=1000, every=4, forwarded=True)
        )
        begun = time.monotonic()
        through.fetch("large", tmp_path / "large")
        assert time.monotonic() - begun > 1
    assert (tmp_path / "large").read_bytes() == data


def test_an_object_that_is_replaced_while_it_is_read_is_read_as_the_new_one(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = bytes(40 * MB), os.urandom(40 * MB)
    bucket.put("large", old)
    first = bucket_transfers._first_part

    def replaced(client: Any, path: str, file: int) -> Any:
        found = first(client, path, file)
        if bucket.get("large") == old:
            bucket.put("large", new)
        return found

    monkeypatch.setattr(bucket_transfers, "_first_part", replaced)
    bucket.fetch("large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == new
