"""The state of all tiles from one listing: what is read again, and what an index that can't be trusted costs."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.record_listing import INDEX, WORTH_KEEPING, ListedRecords, listed
from resources.tile_store import TileStore

FOLDER = "features/_commits"


@dataclass(frozen=True, slots=True)
class Counting(LocalFolder):
    """A folder that remembers which objects were read."""

    read: list[str] = field(default_factory=list)

    def get(self, key: str) -> bytes | None:
        self.read.append(key.removeprefix(f"{FOLDER}/"))
        return LocalFolder.get(self, key)


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    store = TileStore(LocalFolder(tmp_path), "demo", {"features": "features"})
    for number in range(WORTH_KEEPING + 20):
        commit(store, f"tile_{number:03d}", "r1")
    return store


def commit(store: TileStore, tile: str, recipe: str) -> None:
    with store.attempt("features", tile) as attempt:
        store.commit("features", tile, attempt, recipe)


def looked_up(store: TileStore) -> tuple[dict[str, bytes], list[str]]:
    counting = Counting(store.store.root)
    return listed(counting, FOLDER), [name for name in counting.read if name != INDEX]


def test_a_second_look_reads_what_has_changed_and_nothing_else(store: TileStore) -> None:
    first, read = looked_up(store)
    assert len(first) == len(read) == WORTH_KEEPING + 20
    again, read = looked_up(store)
    assert again == first and read == []

    commit(store, "tile_007", "r2")
    commit(store, "one_more", "r1")
    Path(store.record_place("features", "tile_008")).unlink()
    found, read = looked_up(store)
    assert sorted(read) == ["one_more.json", "tile_007.json"]
    assert json.loads(found["tile_007.json"])["recipe"] == "r2"
    assert set(found) == (set(first) | {"one_more.json"}) - {"tile_008.json"}


def test_a_record_of_the_same_size_that_was_swapped_in_is_seen(store: TileStore) -> None:
    looked_up(store)
    path = Path(store.record_place("features", "tile_001"))
    data = path.read_bytes()
    store.store.put(f"{FOLDER}/tile_001.json", data.replace(b'"r1"', b'"r2"'))
    found, _ = looked_up(store)
    assert json.loads(found["tile_001.json"])["recipe"] == "r2"


@pytest.mark.parametrize("torn", [b"", b"{", b"[1, 2]", b'{"tile_001.json": 3}', b"\xff\xfe"])
def test_a_torn_index_costs_time_and_nothing_else(store: TileStore, torn: bytes) -> None:
    first, _ = looked_up(store)
    store.store.put(f"{FOLDER}/{INDEX}", torn)
    found, read = looked_up(store)
    assert found == first and len(read) == len(first)


def test_a_few_records_are_not_worth_an_index(tmp_path: Path) -> None:
    store = TileStore(LocalFolder(tmp_path), "demo", {"features": "features"})
    commit(store, "a", "r1")
    looked_up(store)
    assert not (tmp_path / FOLDER / INDEX).exists()
    assert list(store.records("features")) == ["a"]


def test_a_stage_that_was_never_made_has_no_records(store: TileStore) -> None:
    assert ListedRecords(store).record("samples", "tile_001") is None
    assert store.records("samples") == {}


def test_one_record_that_can_not_be_read_stands_in_nobodys_way(store: TileStore) -> None:
    Path(store.record_place("features", "tile_003")).write_bytes(b"{torn")
    records = ListedRecords(store)
    assert records.record("features", "tile_004") is not None
    with pytest.raises(StoreError, match=r"tile_003\.json: not a commit record"):
        records.record("features", "tile_003")
