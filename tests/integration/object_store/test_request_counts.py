"""How often a bucket is asked: every request has its price, and a round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from resources import record_listing
from resources.bucket import Bucket
from resources.raster_file import raster_files
from resources.sweeping import sweep
from resources.tile_store import TileStore
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.seaweed import Seaweed

STAGE = "features"


@pytest.fixture
def proxy(server: Seaweed, bucket: Bucket, clean_environment: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(server.endpoint) as running:
        clean_environment.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.fixture
def store(bucket: Bucket) -> TileStore:
    return TileStore(bucket, "demo", {STAGE: STAGE})


def commit(store: TileStore, tile: str, recipe: str = "r1") -> None:
    with store.attempt(STAGE, tile) as attempt:
        (attempt.folder / "file").write_bytes(b"x")
        store.commit(STAGE, tile, attempt, recipe)


def asked(proxy: FaultProxy, act: Callable[[], object]) -> list[str]:
    """The methods of the requests of an act, listings by their own name, sorted."""
    proxy.inject()
    act()
    return sorted("LIST" if "list-type=" in line else line.split(" ")[0] for line in proxy.counted.requests)


def test_a_range_is_one_get_wherever_it_lies(bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.put("o", b"0123456789")
    for start, length in ((2, 3), (8, 100), (50, 5), (3, 0)):
        assert asked(proxy, lambda start=start, length=length: bucket.get_range("o", start, length)) == ["GET"]


def test_an_output_costs_its_files_its_record_and_little_else(store: TileStore, proxy: FaultProxy) -> None:
    commit(store, "one")
    # The record that may be there, the owner at most; the file and the record; a note of a failure, forgotten.
    assert asked(proxy, lambda: commit(store, "two")) in (
        ["GET", "POST", "PUT", "PUT"],
        ["GET", "GET", "POST", "PUT", "PUT"],
    )
    record = store.live_record(STAGE, "two")
    assert asked(proxy, lambda: store.there(record)) == ["LIST"] and store.there(record)


def test_records_that_were_read_are_read_again_only_when_they_change(store: TileStore, proxy: FaultProxy) -> None:
    for tile in ("a", "b", "c"):
        commit(store, tile)
    first = store.records(STAGE)
    assert asked(proxy, lambda: store.records(STAGE)) == ["LIST"]
    commit(store, "b", "r2")
    store.store.delete(f"{STAGE}/_commits/c.json")
    assert asked(proxy, lambda: store.records(STAGE)) == ["GET", "GET", "LIST"], "an index is looked for, and b"
    now = store.records(STAGE)
    assert now == {"a": first["a"], "b": store.live_record(STAGE, "b")} and now["b"].recipe == "r2"


def test_a_sweep_looks_at_those_tiles_that_have_a_folder(store: TileStore, proxy: FaultProxy) -> None:
    commit(store, "a")
    tiles = [f"tile {number}" for number in range(50)]
    assert asked(proxy, lambda: sweep(store, STAGE, tiles)).count("LIST") <= 3
    assert asked(proxy, lambda: sweep(store, STAGE, ["a", *tiles])).count("LIST") <= 4


def test_an_index_is_written_once_for_many_new_records_and_not_for_the_next_one(
    store: TileStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_listing, "WORTH_KEEPING", 5)
    for number in range(4):
        commit(store, f"tile {number}")
        store.records(STAGE)
    commit(store, "tile 4")
    assert asked(proxy, lambda: store.records(STAGE)).count("PUT") == 1
    for number in range(5, 8):
        commit(store, f"tile {number}")
        assert asked(proxy, lambda: store.records(STAGE)).count("PUT") == 0
    assert len(store.records(STAGE)) == 8


def test_the_bounds_of_a_map_cost_its_header_and_not_its_pixels(
    store: TileStore, proxy: FaultProxy, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (4096, 4096), dtype=np.uint8)
    with store.attempt(STAGE, "map") as attempt:
        with rasterio.open(
            attempt.folder / "map.tiff", "w", driver="COG", width=4096, height=4096, count=1, dtype="uint8",
            crs="EPSG:32633", transform=Affine(10, 0, 500_000, 0, -10, 5_000_000), overviews="NONE",
        ) as raster:  # fmt: skip
            raster.write(pixels, 1)
        record = store.commit(STAGE, "map", attempt, "r1")
    proxy.inject()
    with raster_files(store, record)[0].open() as tiff:
        assert tiff.bounds.left == 500_000
    assert proxy.counted.received < 100_000
