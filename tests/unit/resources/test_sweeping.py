"""What killed processes leave behind is removed after its grace time; what is live or was paid for never is."""

import os
import time
from pathlib import Path

import pytest

from resources.local_folder import LocalFolder
from resources.retiring import retire
from resources.sweeping import sweep
from resources.tile_store import GRACE_SECONDS, TileStore

TILE, OTHER = "30NXL_0_0", "30NXL_0_1"
LONG_AGO = time.time() - 2 * GRACE_SECONDS


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return TileStore(LocalFolder(tmp_path), "demo", {"features": "features/2020", "tiffs": "tiffs/2020"})


def commit(store: TileStore, tile: str) -> Path:
    with store.attempt("features", tile) as attempt:
        (attempt.folder / "value").write_text("1")
        return store.path(store.commit("features", tile, attempt, "r1"))


def leave(store: TileStore, tile: str, age: float = LONG_AGO) -> Path:
    """An attempt of a process that was killed."""
    folder = store.store.path(f"features/2020/{tile}/20200101T000000-0123abcd")
    (folder / "data").mkdir(parents=True)
    (folder / "data/half").write_text("1")
    for path in (folder / "data/half", folder / "data", folder):
        os.utime(path, (age, age))
    return folder


def test_an_attempt_that_nobody_finished_is_swept_and_the_live_one_kept(store: TileStore) -> None:
    live, never_made = commit(store, TILE), leave(store, OTHER)
    left = leave(store, TILE)
    for path in live.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    os.utime(live, (LONG_AGO, LONG_AGO))
    assert sorted(sweep(store, "features")) == sorted(
        path.relative_to(store.store.root).as_posix() for path in (left, never_made)
    )
    assert [store.store.path(key) for key in store.attempts("features", TILE)] == [live]
    assert sweep(store, "features") == []


def test_what_somebody_still_writes_to_is_left_alone(store: TileStore) -> None:
    """A folder's own time does not change when a file in it grows."""
    left = leave(store, TILE)
    (left / "data/half").write_text("more")
    assert sweep(store, "features") == []
    assert sweep(store, "features", grace_seconds=-1) == [f"features/2020/{TILE}/{left.name}"]


def test_only_the_named_keys_are_swept(store: TileStore) -> None:
    mine, others = leave(store, TILE), leave(store, OTHER)
    sweep(store, "features", [TILE])
    assert not mine.exists() and others.exists()


def test_records_and_notes_that_were_never_put_in_their_place_are_swept(store: TileStore) -> None:
    commit(store, TILE)
    store.note_failure("features", OTHER, "why")
    temporary = [
        store.store.path(f"features/2020/{folder}.{OTHER}.json.0123456789abcdef.part")
        for folder in ("", "_commits/", "_failures/")
    ]
    for path in temporary:
        path.write_text("{")
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert len(sweep(store, "features")) == 3 and not any(path.exists() for path in temporary)
    assert set(store.records("features")) == {TILE} and set(store.failures("features")) == {OTHER}


def test_a_torn_record_keeps_all_attempts_and_stops_nothing(store: TileStore) -> None:
    """It does not tell which of them is live, and the run that sweeps goes on with the other tiles."""
    left, other = leave(store, TILE), leave(store, OTHER)
    store.store.put(f"features/2020/_commits/{TILE}.json", b"{")
    sweep(store, "features")
    assert left.exists() and not other.exists()


def test_imagery_that_was_delivered_and_not_taken_up_is_never_swept(store: TileStore) -> None:
    delivered = store.store.path(f"tiffs/2020/3f0c0e5e-6f5c-4b43-9d5c-1f5b6b1b7f11/{TILE}")
    delivered.mkdir(parents=True)
    (delivered / "B01.tif").write_text("paid for")
    os.utime(delivered, (LONG_AGO, LONG_AGO))
    assert sweep(store, "tiffs", grace_seconds=-1) == []
    assert (delivered / "B01.tif").exists()


def test_imagery_that_was_bought_again_is_swept_once_the_new_one_is_committed(store: TileStore) -> None:
    def deliver(request: str, tile: str, changed: float) -> None:
        store.store.put(f"tiffs/2020/{request}/{tile}/B04.tif", b"paid")
        os.utime(store.store.path(f"tiffs/2020/{request}/{tile}/B04.tif"), (changed, changed))

    def take_up(request: str, tile: str) -> None:
        attempt = store.delivered("tiffs", tile, f"tiffs/2020/{request}/{tile}")
        store.commit("tiffs", tile, attempt, request, source=True)

    for tile in (TILE, OTHER):
        deliver("first", tile, LONG_AGO)
        take_up("first", tile)
    deliver("second", TILE, LONG_AGO + 60)
    deliver("third", OTHER, time.time() + 60)
    assert sweep(store, "tiffs", grace_seconds=0) == ["tiffs/2020/second/30NXL_0_0"], "older than what is committed"
    deliver("second", TILE, LONG_AGO + 60)
    take_up("second", TILE)
    assert sweep(store, "tiffs", [TILE], grace_seconds=0) == []
    assert sweep(store, "tiffs") == [], "somebody may read it still"
    time.sleep(1.1)  # records tell whole seconds
    assert sweep(store, "tiffs", grace_seconds=0) == ["tiffs/2020/first/30NXL_0_0"]
    assert store.store.get("tiffs/2020/first/30NXL_0_1/B04.tif") == b"paid"
    assert store.store.get("tiffs/2020/third/30NXL_0_1/B04.tif") == b"paid", "it may be about to be taken up"


def test_what_is_left_of_making_a_retired_output_again_is_swept(store: TileStore) -> None:
    commit(store, TILE)
    retire(store, store.live_record("features", TILE))
    left = leave(store, TILE)
    assert sweep(store, "features") == [left.relative_to(store.store.root).as_posix()]


def test_a_stage_that_never_ran_has_nothing_to_sweep(store: TileStore) -> None:
    assert sweep(store, "features") == []
