"""Commits: the old output or the new one, whatever happens in between."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.output_record import RETIRED_FORMAT, OutputRecord
from resources.tile_store import GRACE_SECONDS, TileStore

ROOT = Path(__file__).parents[3]
FOLDERS = {"features": "features/2020", "tiffs": "tiffs/2020"}
TILE = "30NXL_0_0"
RECORD = f"features/2020/_commits/{TILE}.json"


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return TileStore(LocalFolder(tmp_path), "demo", FOLDERS)


def commit(store: TileStore, text: str, recipe: str = "r1") -> OutputRecord:
    with store.attempt("features", TILE) as attempt:
        (attempt.folder / "value").write_text(text)
        return store.commit("features", TILE, attempt, recipe, numbers={"dates": 3}, inputs={"eopatches": "d"})


def value(store: TileStore) -> str:
    return (store.live("features", TILE) / "value").read_text()


def test_nothing_is_there_before_a_commit(store: TileStore) -> None:
    assert store.record("features", TILE) is None
    assert store.records("features") == {}
    with pytest.raises(StoreError, match=f"features of {TILE} has not been made yet.*--only features"):
        store.live("features", TILE)


def test_a_commit_is_read_back_and_replaced(store: TileStore) -> None:
    first = commit(store, "one")
    assert store.record("features", TILE) == first
    assert (first.numbers["dates"], first.numbers["bytes"], first.digest) == (3, 3, "r1")
    assert store.records("features") == {TILE: first}
    second = commit(store, "three", "r2")
    assert value(store) == "three"
    assert store.store.path(first.attempt).exists(), "readers of the old attempt have their grace time"
    assert second.attempt != first.attempt


def test_a_source_hands_on_its_bytes(store: TileStore) -> None:
    digests = set()
    for text in ("one", "one", "two"):
        with store.attempt("tiffs", TILE) as attempt:
            (attempt.folder / "B01.tif").write_text(text)
            digests.add(store.commit("tiffs", TILE, attempt, "r", source=True).digest)
    assert len(digests) == 2


def test_an_attempt_that_fails_leaves_nothing(store: TileStore) -> None:
    commit(store, "old")
    before = sorted(store.store.path("features/2020").rglob("*"))
    with pytest.raises(ZeroDivisionError), store.attempt("features", TILE) as attempt:
        (attempt.folder / "value").write_text("half")
        raise ZeroDivisionError
    with store.attempt("features", TILE) as attempt:
        (attempt.folder / "value").write_text("never committed")
    assert sorted(store.store.path("features/2020").rglob("*")) == before
    assert value(store) == "old"


WRITER = """
import sys, time
from pathlib import Path
from resources.local_folder import LocalFolder
from resources.tile_store import TileStore
store = TileStore(LocalFolder(Path(sys.argv[1])), "demo", {"features": "features/2020"})
with store.attempt("features", "30NXL_0_0") as attempt:
    (attempt.folder / "value").write_text("half of the n")
    print(attempt.key, flush=True)
    time.sleep(600)
"""


def test_kill_9_in_mid_attempt_leaves_the_old_output(store: TileStore) -> None:
    commit(store, "old")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.store.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert writer.stdout is not None
    orphan = store.store.path(writer.stdout.readline().strip())
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(60) == -signal.SIGKILL
    writer.stdout.close()
    assert orphan.exists()
    assert value(store) == "old"
    commit(store, "new", "r2")
    assert value(store) == "new"
    assert orphan.exists(), "it may be a writer's that is still at work"
    _age(orphan)
    commit(store, "newer", "r3")
    assert not orphan.exists()


def _age(attempt: Path) -> None:
    for path in (*attempt.rglob("*"), attempt):
        os.utime(path, (0, time.time() - GRACE_SECONDS - 1))


def _race(root: Path, name: str, ready: object, results: object) -> None:
    store = TileStore(LocalFolder(root), "demo", FOLDERS)
    with store.attempt("features", TILE) as attempt:
        (attempt.folder / "value").write_text(name)
        ready.wait(60)  # type: ignore[attr-defined]
        try:
            store.commit("features", TILE, attempt, name)
            results.put((name, "won"))  # type: ignore[attr-defined]
        except StoreError as error:
            results.put((name, str(error)))  # type: ignore[attr-defined]


def test_of_two_processes_that_commit_at_once_one_wins(store: TileStore) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, results = spawn.Barrier(2), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(store.store.root, name, ready, results)) for name in "ab"]
    for racer in racers:
        racer.start()
    told = dict(results.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join(60)
    [winner] = [name for name, said in told.items() if said == "won"]
    [loser] = [said for said in told.values() if said != "won"]
    assert "another run committed it meanwhile" in loser
    assert value(store) == winner
    assert len(list(store.store.keys(f"features/2020/{TILE}"))) == 1, "the loser's attempt is gone"


def test_the_replaced_attempt_is_swept_after_its_grace_time(store: TileStore) -> None:
    first = store.store.path(commit(store, "one").attempt)
    second = store.store.path(commit(store, "two", "r2").attempt)
    _age(first)
    _age(second)
    commit(store, "three", "r3")
    assert not first.exists()
    assert second.exists(), "its grace time starts when it is replaced, not when it was written"
    assert value(store) == "three"


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b"null", b"{}", b'{"format": 1}', b"\xff\xfe", b'{"format": "1"}'])
def test_a_torn_record_is_told_by_its_file(store: TileStore, torn: bytes) -> None:
    commit(store, "old")
    store.store.put(RECORD, torn)
    for use in (store.record, store.live, lambda *key: store.attempt(*key).__enter__(), commit_delivery(store)):
        with pytest.raises(
            StoreError, match=f"{TILE}.json: not a commit record .*delete it to make features of {TILE}"
        ):
            use("features", TILE)
    assert store.store.get(RECORD) == torn


def commit_delivery(store: TileStore):  # type: ignore[no-untyped-def]
    return lambda stage, key: store.delivered(stage, key, f"features/2020/{key}")


def test_a_record_of_a_newer_version_is_refused(store: TileStore) -> None:
    commit(store, "old")
    record = json.loads(store.store.get(RECORD) or b"")
    store.store.put(RECORD, json.dumps(record | {"format": RETIRED_FORMAT + 1, "unheard_of": 1}).encode())
    with pytest.raises(StoreError, match=f"newer version .format {RETIRED_FORMAT + 1}.; upgrade eo-assets"):
        store.record("features", TILE)


def test_a_committed_folder_that_is_gone_is_told_with_the_remedy(store: TileStore) -> None:
    record = commit(store, "old")
    store.store.delete_folder(record.attempt)
    with pytest.raises(StoreError, match=f"is gone although it was committed; delete .*{TILE}.json"):
        store.live("features", TILE)


def test_an_attempt_that_was_removed_is_not_committed(store: TileStore) -> None:
    with pytest.raises(StoreError, match="is gone before it was committed"), store.attempt("features", TILE) as attempt:
        store.store.delete_folder(attempt.key)
        store.commit("features", TILE, attempt, "r")
    assert store.record("features", TILE) is None


def test_a_delivery_is_committed_where_it_lies(store: TileStore) -> None:
    store.store.put(f"tiffs/2020/request-1/{TILE}/B01.tif", b"pixels")
    delivered = store.delivered("tiffs", TILE, f"tiffs/2020/request-1/{TILE}")
    record = store.commit("tiffs", TILE, delivered, "r", source=True)
    assert store.path(record) == store.store.path(f"tiffs/2020/request-1/{TILE}")


def test_a_folder_of_another_project_is_refused(store: TileStore) -> None:
    commit(store, "old")
    other = TileStore(store.store, "west_africa", FOLDERS)
    with pytest.raises(StoreError, match=r"belongs to .*demo.*not to features of west_africa.*storage\.structure"):
        commit(other, "theirs")
    mixed = TileStore(store.store, "demo", {"samples": FOLDERS["features"]})
    with pytest.raises(StoreError, match=r"belongs to .*not to samples of demo.*storage\.structure"):
        mixed.claim("samples")
    assert value(store) == "old"


@pytest.mark.parametrize("owner", [b"", b"{", b"\xff"])
def test_a_torn_owner_is_told(store: TileStore, owner: bytes) -> None:
    store.store.put("features/2020/_owner.json", owner)
    with pytest.raises(StoreError, match="belongs to"):
        store.claim("features")


@pytest.mark.parametrize("key", ["../../elsewhere", "a/../../b"])
def test_a_key_that_leaves_the_folder_is_refused(store: TileStore, key: str) -> None:
    for use in (store.record, store.live, lambda *place: store.attempt(*place).__enter__()):
        with pytest.raises(StoreError, match="leaves the project folder"):
            use("features", key)


def test_an_empty_output_says_why(store: TileStore) -> None:
    with store.attempt("features", TILE) as attempt:
        record = store.commit("features", TILE, attempt, "r", empty="no acquisitions")
    assert (record.empty, record.reason) == (True, "no acquisitions")
    assert store.record("features", TILE) == record


def test_a_failure_is_remembered_until_a_commit(store: TileStore) -> None:
    store.note_failure("features", TILE, "no pixels")
    assert store.failures("features") == {TILE: "no pixels"}
    assert store.record("features", TILE) is None
    commit(store, "one")
    assert store.failures("features") == {}


def test_names_with_dots_are_kept(store: TileStore) -> None:
    with store.attempt("features", "cell.1") as attempt:
        store.commit("features", "cell.1", attempt, "r")
    store.note_failure("features", "cell.2", "why")
    assert list(store.records("features")) == ["cell.1"]
    assert store.failures("features") == {"cell.2": "why"}


def test_a_store_is_a_value(store: TileStore) -> None:
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301


def test_another_year_of_the_same_project_is_refused(store: TileStore) -> None:
    years = [TileStore(store.store, "demo", FOLDERS, {"features": f"demo {year}"}) for year in (2017, 2018)]
    years[0].claim("features")
    with pytest.raises(StoreError, match=r"belongs to .*demo 2017.*not to features of demo 2018.*\{year\}"):
        years[1].claim("features")


def test_a_folder_that_has_lost_bytes_is_damaged_and_says_how_to_make_it_anew(store: TileStore) -> None:
    record = commit(store, "four")
    assert store.intact(record) == store.path(record)
    (store.path(record) / "value").write_text("ten")
    with pytest.raises(
        StoreError, match=rf"is damaged: it holds 3 of the 4 bytes.*delete .*{TILE}\.json to make it anew"
    ):
        store.intact(record)


def test_a_failure_is_remembered_until_the_output_is_committed(store: TileStore) -> None:
    store.note_failure("features", TILE, "no bands")
    assert store.failures("features") == {TILE: "no bands"}
    commit(store, "one")
    assert store.failures("features") == {}
