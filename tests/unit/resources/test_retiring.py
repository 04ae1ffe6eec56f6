"""Retired outputs: their pixels go, their record stays, and whoever reads them is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.output_record import RETIRED_FORMAT, OutputRecord
from resources.raster_file import raster_files
from resources.retiring import retire
from resources.sweeping import sweep
from resources.tile_store import TileStore

TILE = "30NXL_0_0"
RECORD = f"features/2020/_commits/{TILE}.json"


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return TileStore(LocalFolder(tmp_path), "demo", {"features": "features/2020", "tiffs": "tiffs/2020"})


def commit(store: TileStore, recipe: str = "recipe") -> OutputRecord:
    with store.attempt("features", TILE) as attempt:
        (attempt.folder / "data").mkdir()
        (attempt.folder / "data" / "0.0").write_bytes(b"pixels")
        return store.commit("features", TILE, attempt, recipe)


def test_the_pixels_go_and_the_record_stays(store: TileStore) -> None:
    record = commit(store)
    retired = retire(store, record)
    assert retired is not None
    live = store.record("features", TILE)
    assert live == retired
    assert live.retired
    assert (live.digest, live.recipe, live.numbers, live.created) == (
        record.digest,
        record.recipe,
        record.numbers,
        record.created,
    )
    assert not store.there(record)


def test_rasters_of_a_retired_output_are_told_and_are_not_none(store: TileStore) -> None:
    record = commit(store)
    retire(store, record)
    with pytest.raises(StoreError, match="were retired on"):
        raster_files(store, store.live_record("features", record.key))


def test_only_retired_records_are_of_the_new_format(store: TileStore) -> None:
    """A version that knows of none would take a retired output for lost; all the others it reads as before."""
    record = commit(store)
    assert "retired" not in json.loads(store.store.get(RECORD) or b"")
    assert json.loads(store.store.get(RECORD) or b"")["format"] == 1
    retire(store, record)
    assert json.loads(store.store.get(RECORD) or b"")["format"] == RETIRED_FORMAT
    assert commit(store, "other").format == 1
    assert json.loads(store.store.get(RECORD) or b"")["format"] == 1


def test_what_was_committed_anew_meanwhile_is_kept(store: TileStore) -> None:
    old = commit(store)
    new = commit(store, "other")
    assert retire(store, old) is None
    assert store.there(new)
    assert store.record("features", TILE) == new


def test_a_commit_in_the_middle_wins(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = commit(store)
    swap = LocalFolder.swap

    def late(self: LocalFolder, key: str, data: bytes, expected: bytes | None) -> bool:
        monkeypatch.setattr(LocalFolder, "swap", swap)
        commit(store, "other")
        return self.swap(key, data, expected)

    monkeypatch.setattr(LocalFolder, "swap", late)
    assert retire(store, old) is None
    live = store.record("features", TILE)
    assert live is not None
    assert not live.retired
    assert (store.intact(live) / "data/0.0").read_bytes() == b"pixels"


def test_what_a_killed_process_left_is_deleted_by_the_next(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = commit(store)
    with monkeypatch.context() as killed:
        killed.setattr(LocalFolder, "delete_folder", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            retire(store, record)
    assert store.there(record), "marked, and its files still there"
    again = store.record("features", TILE)
    assert again is not None
    assert retire(store, again) == again
    assert not store.there(record)


@pytest.mark.parametrize("read", ["intact", "path", "blocks"])
def test_who_reads_it_is_told_when_and_why_and_what_to_do(store: TileStore, read: str) -> None:
    record = commit(store)
    retired = retire(store, record)
    assert retired is not None
    for held in (record, retired):  # also whoever read the record before it was retired
        with pytest.raises(StoreError) as caught:
            getattr(store, read)(held)
        assert str(caught.value) == (
            f"features of {TILE}: its pixels were retired on {retired.retired} (storage.retention.features); a run "
            f"makes them again where something needs them, and what was bought --rebuy {TILE} quotes and buys again"
        )


def test_who_reads_while_it_is_deleted_is_told_the_same(store: TileStore) -> None:
    record = commit(store)
    retire(store, record)
    store.store.put(f"{record.attempt}/data/0.1", b"left")
    with pytest.raises(StoreError, match="its pixels were retired on"):
        store.intact(record)


def test_an_output_that_is_lost_is_still_told_as_lost(store: TileStore) -> None:
    record = commit(store)
    store.store.delete_folder(record.attempt)
    with pytest.raises(StoreError, match="is gone although it was committed"):
        store.intact(record)


def test_a_sweep_leaves_retired_records_alone(store: TileStore) -> None:
    retired = retire(store, commit(store))
    sweep(store, "features", grace_seconds=0)
    assert store.record("features", TILE) == retired
