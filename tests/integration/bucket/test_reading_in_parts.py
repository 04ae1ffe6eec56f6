"""What is moved out of a bucket is what was asked for: chunks of arrays, blocks of rasters; handles move nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import rasterio
from affine import Affine
from eolearn.core import EOPatch, FeatureType

from resources.eopatch_files import open_array
from resources.raster_file import RasterFile, raster_files
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.integration.bucket.conftest import AWS
from tests.seaweed import Seaweed

SIDE, BLOCK = 4096, 256
"""Pixels of a large raster, and of a block of it."""


@pytest.fixture
def proxy(fields_in_bucket: Any, s3_server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Before the server from now on; it counts, and does nothing wrong."""
    with fault_proxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


def counted(proxy: FaultProxy, act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What an act returns, and what it asks the bucket for: method and the end of the key, sorted."""
    proxy.inject()
    value = act()
    lines = (line.split(" ") for line in proxy.counted.requests)
    return value, sorted(f"{method} {url.partition('?')[0].rpartition('/')[2]}" for method, url, _ in lines)


def test_a_block_of_rows_is_two_chunks_of_metadata_and_pixels(fields_in_bucket: Any, proxy: FaultProxy) -> None:
    tile = fields_in_bucket.tiles[1]
    eopatch = fields_in_bucket.load("features", tile.name)
    blocks, asked = counted(proxy, lambda: eopatch.blocks("data", "FEATURES"))
    assert asked == ["GET .zarray"]
    rows, asked = counted(proxy, lambda: blocks[:, 64:72])
    assert asked == ["GET 0.1.0.0"], "of the chunks of 64 rows the second one alone"
    np.testing.assert_array_equal(rows, eopatch.data["FEATURES"][:, 64:72])
    both, asked = counted(proxy, lambda: blocks[:, 60:70])
    assert asked == ["GET 0.0.0.0", "GET 0.1.0.0"] and both.shape[1] == 10


def test_a_loaded_eopatch_has_moved_no_pixel(fields_in_bucket: Any, proxy: FaultProxy) -> None:
    tile = fields_in_bucket.tiles[0]
    eopatch, asked = counted(proxy, lambda: fields_in_bucket.load("features", tile.name))
    assert not [line for line in asked if line.endswith(".0.0")]
    assert asked.count("GET bbox.geojson") == asked.count("GET timestamps.json") == 1
    array, asked = counted(proxy, lambda: eopatch.data["FEATURES"])
    assert asked == ["GET .zarray", "GET 0.0.0.0", "GET 0.1.0.0"]
    assert eopatch.data["FEATURES"] is array, "once it was read it is there"


def test_the_handles_of_all_tiles_move_no_pixel(fields_in_bucket: Any, proxy: FaultProxy) -> None:
    names = [tile.name for tile in fields_in_bucket.tiles]
    loaded, asked = counted(proxy, lambda: [fields_in_bucket.load("tiffs", name) for name in names])
    assert {line.split(" ")[1] for line in asked if line.startswith("GET")} == {
        *(f"{n}.json" for n in names),
        "userdata.json",
        "projects",
    }
    assert all(isinstance(tiffs["B08"], RasterFile) for tiffs in loaded)


@pytest.fixture
def large(fields_in_bucket: Any, tmp_path: Path) -> RasterFile:
    """A committed COG of noise, which compresses badly."""
    values = np.random.default_rng(1).integers(0, 60_000, (SIDE, SIDE), dtype=np.uint16)
    shape = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint16"}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_800_000)}
    store = fields_in_bucket.store
    with store.attempt("large", "large") as attempt:
        with rasterio.open(attempt.folder / "large.tif", "w", driver="COG", blocksize=BLOCK, **shape, **place) as tiff:
            tiff.write(values, 1)
        record = store.commit("large", "large", attempt, "recipe")
    store.forget("large")
    return raster_files(store, record)[0]


def test_a_window_of_a_raster_moves_its_blocks_and_no_more(
    large: RasterFile, proxy: FaultProxy, fields_in_bucket: Any
) -> None:
    size = large.record.numbers["bytes"]
    window = rasterio.windows.Window(1024, 2048, BLOCK, BLOCK)

    def read() -> Any:
        with large.open() as tiff:
            return tiff.read(1, window=window)

    values, asked = counted(proxy, read)
    moved = proxy.counted.received
    assert set(asked) <= {"GET large.tif", "HEAD large.tif"} and len(asked) <= 4
    assert BLOCK * BLOCK < moved < size / 50, f"{moved} of {size} bytes"
    with rasterio.open(large) as whole:  # as a path: a copy
        np.testing.assert_array_equal(whole.read(1, window=window), values)
    assert proxy.counted.received > size
    fields_in_bucket.store.forget("large")


def test_handles_go_into_a_ray_task_without_dagster_and_without_a_secret(
    fields_in_bucket: Any, local_ray: None, s3_server: Seaweed
) -> None:
    import ray

    from resources.ray_cluster import RayCluster

    tile = fields_in_bucket.tiles[0]
    handles = (
        fields_in_bucket.load("maps", "32633"),
        fields_in_bucket.store.blocks(fields_in_bucket.store.live_record("features", tile.name)),
        fields_in_bucket.load("features", tile.name),
    )
    sent = cloudpickle.dumps(handles)
    assert s3_server.admin.secret.encode() not in sent and len(sent) < 20_000
    RayCluster(workers=2).connect()
    variables = {
        name: os.environ[name] for name in (*AWS, "EO_ASSETS_HOME", "AWS_EC2_METADATA_DISABLED") if name in os.environ
    }

    @ray.remote(runtime_env={"env_vars": variables})
    def summed(raster: Any, folder: Any, eopatch: Any) -> tuple[int, float, float, bool]:
        """Sums of a map, of a stored array and of an EOPatch's; is Dagster in this process?"""
        import sys

        with raster.open() as tiff:
            pixels = int(tiff.read(1).sum())
        array = float(np.nansum(open_array(folder, "data", "FEATURES")[:]))
        return pixels, array, float(np.nansum(eopatch.data["FEATURES"])), "dagster" in sys.modules

    pixels, array, features, with_dagster = ray.get(summed.remote(*handles), timeout=120)
    with handles[0].open() as tiff:
        assert pixels == int(tiff.read(1).sum()) > 0
    expected: EOPatch = fields_in_bucket.load("features", tile.name)
    assert array == features == float(np.nansum(expected[FeatureType.DATA, "FEATURES"]))
    assert not with_dagster
