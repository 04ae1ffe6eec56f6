"""Many processes at one bucket, some of them killed: one wins, nobody sees half an object, a dead holder lets go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eo_assets.errors import StorageRefused
from resources.bucket import Bucket
from resources.bucket_requests import Patience
from resources.lease import Times
from resources.s3_access import S3Access
from tests import bucket_workers
from tests.fault_proxy import Fault, fault_proxy
from tests.seaweed import Key, Seaweed

SPAWN = multiprocessing.get_context("spawn")
WRITERS = 16
QUICK = Times(lease_s=2.0, renew_s=0.4, poll_s=0.1)
MB = 1 << 20
AWAY_S = 30


def with_quick_leases(address: str, endpoint: str | None = None, patience: float = 2) -> Bucket:
    found = Bucket.at(address, S3Access(endpoint=endpoint), Patience(total_s=patience, first_s=0.05, longest_s=0.3))
    return Bucket(found.connection, found.prefix, QUICK)


def started(target: Callable[..., None], *arguments: Any) -> Any:
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


def test_of_sixteen_processes_exactly_one_wins_each_swap(bucket: Bucket) -> None:
    together, wins = SPAWN.Barrier(WRITERS + 1), SPAWN.Queue()
    writers = [started(bucket_workers.swap_rounds, bucket, n, together, wins) for n in range(WRITERS)]
    for turn in range(bucket_workers.ROUNDS):
        bucket.put(f"expected/{turn}", bucket.get("record") or b"")
        together.wait(60)
        winner = wins.get(timeout=60)
        assert winner[0] == turn
        assert bucket.get("record") == f"{turn}:{winner[1]}".encode()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert wins.empty()


def test_a_lease_excludes_and_comes_free(address: str) -> None:
    store = with_quick_leases(address)
    waited: list[str] = []
    with store.exclusive("area/lock", lambda: waited.append("first")):
        assert store.held("area/lock")
        inside = threading.Event()

        def second() -> None:
            with store.exclusive("area/lock", lambda: waited.append("second")):
                inside.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(3 * QUICK.lease_s)
    assert inside.wait(5)
    thread.join(5)
    assert waited == ["second"]
    assert not store.held("area/lock")
    store.unlock("area/lock")
    assert store.under("") == []


def test_a_killed_holder_lets_go_after_the_time_of_a_lease(address: str) -> None:
    store, ready = with_quick_leases(address), SPAWN.Event()
    holder = started(bucket_workers.hold, store, "lock", ready)
    assert ready.wait(30)
    assert store.held("lock")
    holder.kill()
    holder.join(10)
    begun = time.monotonic()
    with store.exclusive("lock", lambda: None):
        assert QUICK.lease_s / 2 < time.monotonic() - begun < 3 * QUICK.lease_s


def test_a_lock_of_a_local_folder_that_was_copied_here_is_held_by_nobody(address: str) -> None:
    store = Bucket.at(address)  # with the times of every day: to wait for a holder would take half a minute
    store.put("area/.lock.lock", b"")
    started_at, waited = time.monotonic(), []
    assert not store.held("area/lock")
    with store.exclusive("area/lock", lambda: waited.append("first")):
        assert store.held("area/lock")
    assert not waited
    assert time.monotonic() - started_at < 20


def test_a_holder_that_died_is_seen_as_dead(address: str) -> None:
    store, ready = with_quick_leases(address), SPAWN.Event()
    holder = started(bucket_workers.hold, store, "lock", ready)
    assert ready.wait(30)
    holder.kill()
    holder.join(10)
    assert not store.held("lock")


def test_a_holder_whose_lease_was_taken_over_writes_no_more(address: str) -> None:
    store, ready = with_quick_leases(address), SPAWN.Event()
    with pytest.raises(StorageRefused, match="took its lease over"), store.exclusive("lock", lambda: None):
        other = Bucket(store.connection, store.prefix, QUICK)
        other.swap_unguarded(".lock.lock", b"another's", store.get(".lock.lock"))
        time.sleep(QUICK.lease_s)
        with pytest.raises(StorageRefused, match="took its lease over"):
            store.put("result", b"late")
        ready.set()
    assert ready.is_set()
    assert store.get("result") is None
    assert store.get(".lock.lock") == b"another's"


def test_a_stopped_holder_that_wakes_up_late_fails_at_its_next_write(address: str) -> None:
    store, ready, said = with_quick_leases(address), SPAWN.Event(), SPAWN.Queue()
    holder = started(bucket_workers.hold_and_write, store, ready, said)
    assert ready.wait(30)
    os.kill(holder.pid, signal.SIGSTOP)
    with store.exclusive("lock", lambda: None):
        store.put("result", b"mine")
        os.kill(holder.pid, signal.SIGCONT)
        assert "took its lease over" in said.get(timeout=30)
        holder.join(30)
    assert store.get("result") == b"mine"


def test_a_holder_survives_a_server_that_is_away_for_longer_than_a_lease(address: str, server: Seaweed) -> None:
    with fault_proxy(server.endpoint) as proxy:
        store = with_quick_leases(address, proxy.endpoint, patience=0.3)
        with store.exclusive("lock", lambda: None):
            proxy.inject(Fault("reset", times=100_000))
            time.sleep(1.5 * QUICK.lease_s)
            proxy.inject()
            store.put("result", b"mine")
        assert store.get("result") == b"mine"


def test_a_holder_whose_renewals_were_done_and_never_answered_is_still_the_holder(
    address: str, server: Seaweed
) -> None:
    with fault_proxy(server.endpoint) as proxy:
        store = with_quick_leases(address, proxy.endpoint, patience=0.3)
        with store.exclusive("lock", lambda: None):
            proxy.inject(Fault("reset", "PUT", times=100_000, forwarded=True))
            while proxy.counted.of("PUT") < 3:
                time.sleep(0.05)
            time.sleep(QUICK.lease_s)
            proxy.inject()
            store.put("result", b"mine")
        assert store.get("result") == b"mine"


def test_a_killed_upload_leaves_no_object_but_its_parts(address: str, server: Seaweed, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(80 * MB))
    with fault_proxy(server.endpoint) as proxy:
        proxy.inject(Fault("slow", "PUT", times=100, after_requests=1, seconds=30))
        store, begun = Bucket.at(address, S3Access(endpoint=proxy.endpoint)), SPAWN.Event()
        process = started(bucket_workers.upload, store, source, begun)
        assert begun.wait(30)
        while proxy.counted.of("PUT") < 3:
            time.sleep(0.05)
        process.kill()
        process.join(10)
    plain = Bucket.at(address)
    assert plain.get("large") is None
    assert plain.under("") == []
    client = server.client()
    left = [
        u for u in client.list_multipart_uploads(Bucket="projects")["Uploads"] if u["Key"] == f"{plain.prefix}/large"
    ]
    assert len(left) == 1
    client.abort_multipart_upload(Bucket="projects", Key=left[0]["Key"], UploadId=left[0]["UploadId"])
    plain.put_file("large", source)
    assert plain.under("")[0].size == 80 * MB


def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    as_key: Callable[[Key], None], server: Seaweed, tmp_path: Path
) -> None:
    from tests.seaweed import seaweed

    source = tmp_path / "source"
    source.write_bytes(os.urandom(64 * MB))
    with seaweed(tmp_path / "own") as own:
        as_key(own.admin)
        own.make_bucket("demo")
        store = Bucket.at("s3://demo/p", S3Access(endpoint=own.endpoint))
        store.put("before", b"1")
        failed: list[BaseException] = []

        def put() -> None:
            try:
                for n in range(4):
                    store.put_file(f"large{n}", source)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        time.sleep(0.5)
        own.kill()
        time.sleep(5)
        own.start()
        thread.join(120)
        assert failed == []
        assert store.get("before") == b"1"
        for n in range(4):
            store.fetch(f"large{n}", tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_server_that_is_away_for_half_a_minute_is_survived(address: str, server: Seaweed) -> None:
    with fault_proxy(server.endpoint) as proxy:
        store = Bucket.at(address, S3Access(endpoint=proxy.endpoint))
        store.put("record", b"1")
        proxy.inject(Fault("reset", times=100_000))
        back = threading.Timer(AWAY_S, proxy.inject)
        back.start()
        begun, done = time.monotonic(), []
        uses: list[Callable[[], object]] = [
            lambda: store.put("put", b"1"),
            lambda: store.create("created", b"1"),
            lambda: store.swap("record", b"2", b"1"),
            lambda: store.get("record"),
        ]
        threads = [threading.Thread(target=lambda use=use: done.append(use())) for use in uses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * AWAY_S)
        assert time.monotonic() - begun > AWAY_S
        assert len(done) == len(uses)
        assert False not in done
        assert [listed.key for listed in store.under("")] == ["created", "put", "record"]


def test_a_forked_child_is_told_instead_of_waiting_for_ever(bucket: Bucket) -> None:
    bucket.put("a", b"1")
    child = multiprocessing.get_context("fork").Process(target=bucket_workers.get_in_child, args=(bucket,))
    child.start()
    child.join(20)
    assert child.exitcode == 7
