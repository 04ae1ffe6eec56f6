"""GDAL and the object store reach one server with one set of settings, and GDAL reads no more than it needs."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

from eo_assets.errors import StoreError
from resources.bucket import Bucket
from resources.gdal_s3 import READING, gdal_env, gdal_options, gdal_path
from resources.s3_access import S3Access
from tests.fault_proxy import Fault, fault_proxy
from tests.seaweed import Seaweed

SIDE = 2048


@pytest.fixture
def cog(tmp_path: Path) -> Path:
    """Noise, which does not compress: 8 MB of uint16 with blocks of 256 pixels."""
    path = tmp_path / "map.tiff"
    pixels = np.random.default_rng(1).integers(0, 10_000, (SIDE, SIDE), dtype=np.uint16)
    with rasterio.open(
        path, "w", driver="COG", width=SIDE, height=SIDE, count=1, dtype="uint16", crs="EPSG:32633",
        transform=Affine(10, 0, 500_000, 0, -10, 5_000_000), blocksize=256, overviews="NONE",
    ) as raster:  # fmt: skip
        raster.write(pixels, 1)
    return path


def test_a_window_of_a_cog_is_read_by_ranges(address: str, server: Seaweed, cog: Path) -> None:
    window = Window(512, 768, 256, 256)
    with rasterio.open(cog) as raster:
        expected = raster.read(1, window=window)
    with fault_proxy(server.endpoint) as proxy:
        access = S3Access(endpoint=proxy.endpoint)
        store = Bucket.at(address, access)
        store.put_file("maps/utm32633 result.tiff", cog)
        proxy.inject()
        with gdal_env(access), rasterio.open(gdal_path(store.place("maps/utm32633 result.tiff"))) as raster:
            found = raster.read(1, window=window)
        counted = proxy.counted
    np.testing.assert_array_equal(found, expected)
    assert cog.stat().st_size > 7_000_000
    assert counted.received < 500_000
    assert len(counted.requests) < 8
    assert not any("list-type" in line or ".aux.xml" in line or ".ovr" in line for line in counted.requests)


def test_gdal_tries_again_what_passes(address: str, server: Seaweed, cog: Path) -> None:
    with fault_proxy(server.endpoint) as proxy:
        access = S3Access(endpoint=proxy.endpoint)
        store = Bucket.at(address, access)
        store.put_file("again.tiff", cog)
        proxy.inject(Fault("503", times=2))
        with gdal_env(access), rasterio.open(gdal_path(store.place("again.tiff"))) as raster:
            assert raster.shape == (SIDE, SIDE)


def test_names_for_gdal() -> None:
    assert gdal_path("s3://bucket/a/b c.tif") == "/vsis3/bucket/a/b c.tif"
    assert gdal_path("/data/a.tif") == "/data/a.tif"
    for address in ("gs://bucket/a.tif", "s3://bucket", "s3://bucket/"):
        with pytest.raises(StoreError, match="s3://bucket/key"):
            gdal_path(address)


def test_settings_say_what_the_access_says(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    clean_environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    clean_environment.setenv("AWS_SESSION_TOKEN", "token")
    options = gdal_options(S3Access("https://s3.example.org:9000", "eu-central-2"))
    assert options["AWS_S3_ENDPOINT"] == "s3.example.org:9000"
    assert options["AWS_HTTPS"] == "YES"
    assert options["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert options["AWS_REGION"] == "eu-central-2"
    assert options["AWS_SESSION_TOKEN"] == "token"
    plain = gdal_options(S3Access(region="eu-west-1"))
    assert "AWS_S3_ENDPOINT" not in plain
    assert plain["AWS_VIRTUAL_HOSTING"] == "TRUE"
    assert gdal_options(S3Access("http://h:1", addressing="virtual"))["AWS_VIRTUAL_HOSTING"] == "TRUE"


def test_a_server_that_falls_silent_does_not_hold_gdal_for_ever(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        clean_environment.setenv(name, "any")
    clean_environment.setitem(READING, "GDAL_HTTP_LOW_SPEED_TIME", "1")
    clean_environment.setitem(READING, "GDAL_HTTP_MAX_RETRY", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        access = S3Access(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with gdal_env(access), pytest.raises(rasterio.errors.RasterioIOError):
            rasterio.open(gdal_path("s3://bucket/map.tiff"))
