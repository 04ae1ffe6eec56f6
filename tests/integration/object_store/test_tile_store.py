"""Committed outputs in a bucket: what is committed is whole, one writer wins, a killed one leaves what was there."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_assets.errors import StoreError
from resources.bucket import Bucket
from resources.eopatch_files import create_array, open_array
from resources.object_folder import ObjectFolder
from resources.output_record import OutputRecord
from resources.sweeping import sweep
from resources.tile_store import GRACE_SECONDS, TileStore
from resources.workspaces import scratch

TILE, OTHER = "30NXL_0_0", "30NXL_0_1"
FOLDERS = {"features": "features/2020", "tiffs": "tiffs/2020"}
ROOT = Path(__file__).parents[3]
WRITERS, ROUNDS = 16, int(os.environ.get("ROUNDS", "10"))
"""All hundred rounds of the race with ROUNDS=100: two minutes."""


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EO_ASSETS_HOME", str(tmp_path / "machine"))


@pytest.fixture
def store(bucket: Bucket) -> TileStore:
    return TileStore(bucket, "demo", FOLDERS)


def commit(store: TileStore, text: str, recipe: str = "r1", tile: str = TILE) -> OutputRecord:
    with store.attempt("features", tile) as attempt:
        (attempt.folder / "data").mkdir()
        for name in ("value", "data/a", "data/b"):
            (attempt.folder / name).write_text(f"{text} {name}")
        return store.commit("features", tile, attempt, recipe)


def content(store: TileStore, tile: str = TILE) -> set[str]:
    """The first words of all files of the live output, as another machine reads them."""
    store.forget(tile)
    folder = store.intact(store.live_record("features", tile))
    return {path.read_text().split()[0] for path in folder.rglob("*") if path.is_file()}


def test_an_output_is_read_as_it_was_written_and_its_copy_can_be_given_back(store: TileStore) -> None:
    record = commit(store, "old")
    assert store.there(record) and store.place(record).startswith("s3://projects/")
    copy = store.path(record)
    assert (copy / "data/a").read_text() == "old data/a"
    store.forget(TILE)
    assert not copy.exists()
    assert content(store) == {"old"}
    assert store.file(record, "value") == b"old value" and store.file(record, "nothing") is None


def test_an_attempt_that_fails_leaves_nothing_in_the_bucket_and_the_old_output_live(store: TileStore) -> None:
    record = commit(store, "old")
    before = store.store.under("features")
    with pytest.raises(RuntimeError, match="no"), store.attempt("features", TILE) as attempt:
        (attempt.folder / "value").write_text("new")
        raise RuntimeError("no")
    assert store.store.under("features") == before
    assert store.record("features", TILE) == record
    assert not attempt.folder.exists()


def test_files_that_are_gone_or_fewer_are_told_and_never_read_as_data(store: TileStore) -> None:
    record = commit(store, "old")
    store.store.delete(f"{record.attempt}/data/a")
    store.forget(TILE)
    with pytest.raises(StoreError, match=rf"s3://.*{record.attempt} is damaged: it holds 19 of the 29 bytes"):
        store.intact(record)
    with pytest.raises(StoreError, match=r"is damaged.*delete s3://projects/.*_commits/30NXL_0_0.json"):
        store.blocks(record)
    store.store.delete_folder(record.attempt)
    store.forget(TILE)
    with pytest.raises(StoreError, match=r"is gone although it was committed; delete s3://"):
        store.path(record)


def test_blocks_of_an_array_are_fetched_one_by_one(
    store: TileStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(3 * 256 * 64 * 2, dtype=np.float32).reshape(3, 256, 64, 2)
    with store.attempt("features", TILE) as attempt:
        create_array(attempt.folder, "data", "FEATURES", values.shape, "float32")[:] = values
        record = store.commit("features", TILE, attempt, "r1")
    store.forget(TILE)
    folder = store.blocks(record)
    assert isinstance(folder, ObjectFolder)
    sent = pickle.loads(pickle.dumps(folder))  # noqa: S301, our own
    array = open_array(sent, "data", "FEATURES")
    asked: list[str] = []
    get = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, key: asked.append(key.rpartition("/")[2]) or get(self, key))
    np.testing.assert_array_equal(array[:, 64:128], values[:, 64:128])
    assert asked == ["0.1.0.0"], "of four blocks of rows the one that was asked for"
    np.testing.assert_array_equal(array[:], values)
    assert not list(scratch(bucket.place()).rglob("*.zarr")), "nothing was copied"
    with pytest.raises(StoreError, match="has no data/NOTHING"):
        open_array(folder, "data", "NOTHING")


WRITER = """
import sys, time
from resources.bucket import Bucket
from resources.tile_store import TileStore
store = TileStore(Bucket.at(sys.argv[1]), "demo", {"features": "features/2020"})
with store.attempt("features", "30NXL_0_0") as attempt:
    for number in range(40):
        (attempt.folder / f"file{number}").write_bytes(b"new " * 500_000)
    print(attempt.key, flush=True)
    store.commit("features", "30NXL_0_0", attempt, "r2")
"""


def test_kill_9_in_mid_upload_leaves_the_old_output_and_what_it_put_is_swept(store: TileStore, address: str) -> None:
    commit(store, "old")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, address], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert writer.stdout is not None
    orphan = writer.stdout.readline().strip()
    until = time.monotonic() + 60
    while not store.store.under(orphan) and time.monotonic() < until:
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(60) == -signal.SIGKILL
    writer.stdout.close()
    left = store.store.under(orphan)
    assert 0 < len(left) < 40, "it was killed between its files"
    assert {found.size for found in left} == {2_000_000}, "each object is whole or not there"
    assert content(store) == {"old"}
    assert sweep(store, "features") == [], "it may be a writer's that is still at work"
    assert sweep(store, "features", grace_seconds=-60) == [orphan]
    assert store.store.under(orphan) == [] and content(store) == {"old"}


def test_a_replaced_attempt_is_kept_for_its_readers_and_swept_after_the_grace_time(store: TileStore) -> None:
    first, second = commit(store, "one"), commit(store, "two", "r2")
    assert sweep(store, "features") == [] and store.there(first)
    assert sweep(store, "features", [OTHER], grace_seconds=-60) == [] and store.there(first)
    assert sweep(store, "features", grace_seconds=-60) == [first.attempt]
    assert not store.there(first) and store.there(second) and content(store) == {"two"}


def test_old_attempts_are_removed_by_a_commit_once_nobody_can_be_using_them(store: TileStore) -> None:
    first = commit(store, "one")
    second = commit(store, "two", "r2")
    key = f"features/2020/_commits/{TILE}.json"
    said = json.loads(store.store.get(key) or b"")
    said["created"] = "2020-01-01T00:00:00+00:00"
    store.store.put(key, json.dumps(said).encode())
    third = commit(store, "three", "r3")
    assert store.there(first), "its objects are a moment old: somebody may be writing there"
    assert store.there(second) and store.there(third)
    assert GRACE_SECONDS > 0


def test_tiles_of_a_survey_are_looked_up_in_one_listing(store: TileStore) -> None:
    records = [commit(store, "x", tile=f"30NXL_0_{n}") for n in range(3)]
    present = store.files.presence("features/2020")
    assert all(present(record.attempt) for record in records)
    assert not present("features/2020/30NXL_9_9/20200101T000000-00000000")


def _write_again_and_again(address: str, name: str, ready: Any, results: Any, rounds: int) -> None:
    store = TileStore(Bucket.at(address), "demo", FOLDERS)
    for _ in range(rounds):
        with store.attempt("features", TILE) as attempt:
            for number in range(3):
                (attempt.folder / f"file{number}").write_text(f"{name} ")
            ready.wait(120)
            try:
                store.commit("features", TILE, attempt, name)
                results.put((name, ""))
            except StoreError as error:
                results.put((name, str(error)))
        ready.wait(120)  # all have put their files and told how it went
        ready.wait(120)  # and the referee has looked


def test_of_sixteen_writers_one_wins_in_every_round(store: TileStore, address: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, results = spawn.Barrier(WRITERS + 1), spawn.Queue()
    writers = [
        spawn.Process(target=_write_again_and_again, args=(address, f"writer{n}", ready, results, ROUNDS))
        for n in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for _ in range(ROUNDS):
        ready.wait(120)
        told = [results.get(timeout=120) for _ in range(WRITERS)]
        ready.wait(120)
        [winner] = [name for name, error in told if not error]
        assert all("another run committed it meanwhile" in error for _, error in told if error)
        record = store.live_record("features", TILE)
        assert record.recipe == winner and content(store) == {winner}
        live = {found.key for found in store.store.under(record.attempt)}
        assert live == {f"{record.attempt}/file{n}" for n in range(3)}
        ready.wait(120)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    attempts = [name for name in store.attempts("features", TILE) if store.store.under(name)]
    assert len(attempts) == ROUNDS, "losers take their files away; winners of earlier rounds have their grace time"


def test_scratch_of_a_killed_process_is_removed_by_the_next(store: TileStore, tmp_path: Path) -> None:
    folder = tmp_path / "machine" / "scratch"
    code = "import os; from resources.workspaces import scratch; print(scratch('s3://b/p').parent); os._exit(0)"
    made = Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip())
    assert made.parent == folder and made.exists()
    again = Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip())
    assert again.exists() and not made.exists()
    shutil.rmtree(folder)
