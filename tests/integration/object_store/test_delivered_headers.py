"""An earlier delivery in a bucket is looked at by its headers, and only what those speak against by its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import DamagedDelivery
from eo_assets.project import Imagery
from eo_assets.stages.tiffs import Tiffs
from resources.batch_api import BatchApi
from resources.batch_api import Imagery as Asked
from resources.batch_desk import Desk, Wanted, arrived
from resources.batch_orders import Order, OrderBook
from resources.bucket import Bucket
from resources.delivered_headers import headers
from resources.s3_access import S3Access
from resources.sentinel_hub import SentinelHub
from resources.spending import Ledger
from tests.fault_proxy import fault_proxy
from tests.seaweed import Seaweed

DATES = [f"2020-{month:02}-15T10:00:00" for month in range(1, 13)]
OUTPUTS = ("B04", "B08")
TILE = Tile("33UUU_3_7", 32633, Bounds(330_000, 5_800_000, 335_000, 5_805_000), 10.0, (0, 0))
KEY = f"tiffs/job-1/{TILE.name}"
STAGE = Tiffs(
    Imagery.model_validate(
        {
            "collections": [{"collection": "sentinel-2-l1c", "service": "local"}],
            "time_interval": ["2020-01-01", "2020-12-31"],
            "evalscript": "e.js",
            "tiff_outputs": OUTPUTS,
            "expected_dates": 12,
        }
    ),
    "//VERSION=3",
)


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tile of twelve dates of noise, 6 MB a band."""
    folder = tmp_path_factory.mktemp("delivery")
    height, width = TILE.shape
    profile = {"height": height, "width": width, "count": 12, "dtype": "uint16", "crs": f"EPSG:{TILE.epsg}"}
    for seed, name in enumerate(OUTPUTS):
        pixels = np.random.default_rng(seed).integers(0, 10_000, (12, height, width), dtype=np.uint16)
        path = folder / f"{name}.tif"
        with rasterio.open(path, "w", driver="GTiff", transform=TILE.transform, compress="deflate", **profile) as tiff:
            tiff.write(pixels)
    (folder / "userdata.json").write_text(json.dumps({"dates": DATES}))
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EO_ASSETS_HOME", str(tmp_path / "machine"))


def put(store: Bucket, delivery: Path, cut: str = "") -> None:
    for file in delivery.iterdir():
        if file.name == cut:
            store.put(f"{KEY}/{file.name}", file.read_bytes()[:-200])
        else:
            store.put_file(f"{KEY}/{file.name}", file)


def test_a_delivery_is_found_whole_without_its_pixels(address: str, server: Seaweed, delivery: Path) -> None:
    with fault_proxy(server.endpoint) as proxy:
        store = Bucket.at(address, S3Access(proxy.endpoint))
        put(store, delivery)
        proxy.inject()
        with headers(store, KEY) as (folder, tiffs):
            numbers = STAGE.check(TILE, folder, tiffs).numbers
            assert [path.name for path in folder.iterdir()] == ["userdata.json"]
        counted = proxy.counted
    assert (numbers["dates"], numbers["files"], numbers["first_date"]) == (12, 2, "2020-01-15T10:00:00")
    assert sum(file.stat().st_size for file in delivery.iterdir()) > 10_000_000
    assert counted.received < 200_000
    assert len(counted.requests) <= 8


def test_a_file_that_was_cut_short_or_is_missing_is_told_by_its_headers(bucket: Bucket, delivery: Path) -> None:
    put(bucket, delivery, cut="B08.tif")
    with headers(bucket, KEY) as (folder, tiffs), pytest.raises(DamagedDelivery, match=r"B08\.tif ends after"):
        STAGE.check(TILE, folder, tiffs)
    bucket.delete(f"{KEY}/B08.tif")
    with headers(bucket, KEY) as (folder, tiffs), pytest.raises(DamagedDelivery, match=r"B08\.tif.* was not delivered"):
        STAGE.check(TILE, folder, tiffs)
    put(bucket, delivery)
    with headers(bucket, KEY) as (folder, tiffs):
        assert STAGE.check(TILE, folder, tiffs).numbers["dates"] == 12


def found(bucket: Bucket, check: Callable[..., object]) -> list[str | None]:
    """Where the tile's earlier delivery is taken from, if it is taken."""
    api = BatchApi(SentinelHub("test"), bucket, "tiffs")
    desk = Desk(
        api, OrderBook(bucket, "tiffs"), Ledger(bucket, "spending"), lambda shapes: 1.0, check, lambda tile: False
    )
    wanted = Wanted(Asked([], "", OUTPUTS), (TILE,), {TILE.name: "r"}, {TILE.name: TILE})
    order = Order("1", "test", {TILE.name: "r"}, 1.0, "ended", "job-1")
    return [delivery.folder for delivery in arrived(desk, wanted, {TILE.name: TILE}, order, checked=True)]


def test_a_whole_delivery_is_taken_and_a_damaged_one_is_not(bucket: Bucket, delivery: Path, machine: None) -> None:
    put(bucket, delivery)
    assert found(bucket, STAGE.check) == [KEY]
    put(bucket, delivery, cut="B04.tif")
    assert found(bucket, STAGE.check) == []


def test_what_headers_say_against_a_delivery_counts_only_if_its_files_say_so(
    bucket: Bucket, delivery: Path, machine: None
) -> None:
    put(bucket, delivery)
    asked = []

    def check(tile: Tile, folder: Path, tiffs: Any) -> None:
        remote = tiffs["B04"].path.startswith("/vsis3/")
        asked.append(remote)
        if remote:
            raise DamagedDelivery("a server that was away for a moment")
        STAGE.check(tile, folder, tiffs)

    assert found(bucket, check) == [KEY]
    assert asked == [True, False]
