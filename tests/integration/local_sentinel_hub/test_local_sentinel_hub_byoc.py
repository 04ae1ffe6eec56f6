"""BYOC and Catalog of the unmodified client: ingestion, its failures, and pixels read back."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from sentinelhub import CRS, BBox, DataCollection, Geometry, SentinelHubBYOC, SentinelHubCatalog, SHConfig
from sentinelhub.api.byoc import ByocCollection, ByocTile
from sentinelhub.exceptions import DownloadFailedException
from shapely.geometry import box

from .conftest import BUCKET, LEFT, SIDE, TOP, write_cog

READ = """//VERSION=3
function setup() {{
  return {{input: ["{band}", "dataMask"], output: [{{id: "map", bands: 1, sampleType: "UINT8"}},
                                                   {{id: "mask", bands: 1, sampleType: "UINT8"}}]}};
}}
function evaluatePixel(s) {{ return {{map: [s["{band}"]], mask: [s.dataMask]}}; }}
"""


@pytest.fixture(scope="module")
def byoc(config: SHConfig) -> SentinelHubBYOC:
    return SentinelHubBYOC(config)


@pytest.fixture
def target(byoc: SentinelHubBYOC) -> dict[str, Any]:
    """An empty collection."""
    return byoc.create_collection(ByocCollection("maps", s3_bucket=BUCKET))


def settled(byoc: SentinelHubBYOC, target: dict[str, Any], tile: dict[str, Any]) -> dict[str, Any]:
    """Poll until the tile is INGESTED or FAILED."""
    deadline = time.monotonic() + 30
    while (now := byoc.get_tile(target, tile))["status"] not in ("INGESTED", "FAILED"):
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def cause(tile: dict[str, Any]) -> str:
    assert tile["status"] == "FAILED"
    return str(tile["additionalData"]["failedIngestionCause"])


def a_map(side: int = SIDE) -> Any:
    return np.random.default_rng(3).integers(0, 101, (side, side), dtype=np.uint8)


def test_a_map_is_ingested_and_read_back(
    byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path, process: Callable[..., Any], config: SHConfig
) -> None:
    values = a_map()
    values[:5] = 255
    write_cog(bucket / "maps/utm32633_result.tiff", values, nodata=255)
    east_half = Geometry(box(LEFT + 320, TOP - 640, LEFT + 640, TOP), CRS("32633"))
    made = byoc.create_tile(
        target, ByocTile("maps/utm32633_(BAND)", sensing_time=dt.datetime(2020, 12, 31), cover_geometry=east_half)
    )
    assert made["path"] == "maps/utm32633_(BAND).tiff"
    tile = settled(byoc, target, made)
    assert tile["status"] == "INGESTED", tile
    bands = byoc.get_collection(target)["additionalData"]["bands"]
    expected = {"source": "result", "bandIndex": 1, "bitDepth": 8, "sampleFormat": "UINT", "noData": 255}
    assert bands == {"result": expected}
    mine = DataCollection.define_byoc(target["id"], service_url=config.sh_base_url)
    answer = process(
        READ.format(band="result"), "map", "mask", collection=mine, time_interval=("2020-01-01", "2021-01-01")
    )
    covered = np.zeros((SIDE, SIDE), bool)
    covered[5:, 32:] = True
    np.testing.assert_array_equal(answer["map.tif"], np.where(covered, values, 0))
    np.testing.assert_array_equal(answer["mask.tif"], covered)
    nothing = process(READ.format(band="result"), "mask", collection=mine, time_interval=("2019-01-01", "2019-02-01"))
    assert not nothing.any()


def test_bands_are_named_by_file_and_number(byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path) -> None:
    write_cog(bucket / "named/one.tif", a_map())
    with rasterio.open(write_cog(bucket / "named/draft.tif", a_map())) as source:
        profile = {**source.profile, "driver": "COG", "count": 2}
    (bucket / "named/draft.tif").unlink()
    for key in ("blockxsize", "blockysize", "tiled", "interleave"):
        profile.pop(key, None)
    with rasterio.open(bucket / "named/two.tiff", "w", **profile) as dataset:
        dataset.write(np.stack([a_map(), a_map()]))
    tile = settled(byoc, target, byoc.create_tile(target, ByocTile("named")))
    assert tile["status"] == "INGESTED", tile
    assert sorted(byoc.get_collection(target)["additionalData"]["bands"]) == ["one", "two_1", "two_2"]
    assert tile["tileGeometry"]["crs"]["properties"]["name"].endswith("32633")


def test_a_missing_file_fails_and_can_be_ingested_again(
    byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path
) -> None:
    tile = settled(byoc, target, byoc.create_tile(target, ByocTile("later")))
    assert "there is no file at later/(BAND).tiff in bucket data" in cause(tile)
    write_cog(bucket / "later/result.tiff", a_map())
    byoc.reingest_tile(target, tile)
    assert settled(byoc, target, tile)["status"] == "INGESTED"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"driver": "GTiff"}, "stored in strips, not in tiles"),
        ({"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256}, "it has no overviews"),
        ({"crs": None}, "no CRS with an EPSG code"),
    ],
)
def test_what_is_no_cog_fails_and_says_why(
    byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path, profile: dict[str, Any], said: str
) -> None:
    folder = f"bad/{len(said)}"
    write_cog(bucket / folder / "result.tiff", a_map(1024), **profile)
    message = cause(settled(byoc, target, byoc.create_tile(target, ByocTile(folder))))
    assert said in message and f"{folder}/result.tiff" in message and "GDAL's COG driver" in message


def test_other_failures_have_their_causes(byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path) -> None:
    (bucket / "text").mkdir()
    (bucket / "text/result.tiff").write_text("not a raster")
    assert "not a GeoTIFF" in cause(settled(byoc, target, byoc.create_tile(target, ByocTile("text"))))
    write_cog(bucket / "first/result.tiff", a_map())
    assert settled(byoc, target, byoc.create_tile(target, ByocTile("first")))["status"] == "INGESTED"
    write_cog(bucket / "wide/result.tiff", a_map().astype(np.float32))
    message = cause(settled(byoc, target, byoc.create_tile(target, ByocTile("wide"))))
    assert "band result is 32 bit FLOAT, in the collection 8 bit UINT" in message
    far = Geometry(box(0, 0, 1, 1), CRS.WGS84)
    write_cog(bucket / "far/result.tiff", a_map())
    message = cause(settled(byoc, target, byoc.create_tile(target, ByocTile("far", cover_geometry=far))))
    assert "coverGeometry lies outside" in message


BAND = {"source": "result", "bandIndex": 1, "bitDepth": 8, "sampleFormat": "UINT", "noData": 255}


def with_bands(target: dict[str, Any], bands: dict[str, Any]) -> dict[str, Any]:
    """A collection's payload with other bands."""
    return {key: target[key] for key in ("id", "name", "s3Bucket")} | {"additionalData": {"bands": bands}}


def test_a_band_that_is_said_is_served_by_its_name_and_nodata(
    byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path, process: Callable[..., Any], config: SHConfig
) -> None:
    values = a_map()
    write_cog(bucket / "said/utm32633_result.tiff", values)  # without a nodata of its own
    byoc.update_collection(with_bands(target, {"SHARE": {**BAND, "noData": 7}}))
    tile = byoc.create_tile(target, ByocTile("said/utm32633_(BAND)", sensing_time=dt.datetime(2020, 12, 31)))
    assert settled(byoc, target, tile)["status"] == "INGESTED"
    mine = DataCollection.define_byoc(target["id"], service_url=config.sh_base_url)
    year = ("2020-01-01", "2021-01-01")
    answer = process(READ.format(band="SHARE"), "map", "mask", collection=mine, time_interval=year)
    np.testing.assert_array_equal(answer["mask.tif"], values != 7)
    np.testing.assert_array_equal(answer["map.tif"], np.where(values == 7, 0, values))

    byoc.update_collection(with_bands(target, {"COVER": {**BAND, "noData": 9}}))
    mask = process(READ.format(band="COVER"), "mask", collection=mine, time_interval=year)
    np.testing.assert_array_equal(mask, values != 9)


def test_tiles_forbid_what_would_change_them(byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path) -> None:
    byoc.update_collection(with_bands(target, {"COVER": {**BAND, "bitDepth": 16}}))
    byoc.update_collection(with_bands(target, {"COVER": BAND}))  # without tiles everything can be changed
    write_cog(bucket / "kept/result.tiff", a_map())
    settled(byoc, target, byoc.create_tile(target, ByocTile("kept")))
    for bands, said in (
        ({"COVER": BAND, "MORE": {**BAND, "bandIndex": 2}}, "band MORE can't be added"),
        ({"COVER": {**BAND, "bitDepth": 16}}, "bitDepth of band COVER is 8 and can't be changed"),
        ({"COVER": {**BAND, "sampleFormat": "INT"}}, "sampleFormat of band COVER is UINT"),
        ({"COVER": {**BAND, "bitDepth": 12}}, "one of 8, 16, 32"),
        ({"COVER": BAND, "AGAIN": BAND}, "the same source and bandIndex"),
        ({}, "can't all be removed"),
    ):
        with pytest.raises(DownloadFailedException, match=said):
            byoc.update_collection(with_bands(target, bands))
    with pytest.raises(DownloadFailedException, match="say it in one place"):
        byoc.update_collection({**with_bands(target, {"COVER": BAND}), "noData": 255})
    with pytest.raises(DownloadFailedException, match="name is needed"):
        byoc.update_collection({"id": target["id"], "s3Bucket": BUCKET})
    assert byoc.get_collection(target)["additionalData"]["bands"] == {"COVER": BAND}


def test_a_tile_that_does_not_fit_the_bands_fails(byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path) -> None:
    byoc.update_collection(with_bands(target, {"COVER": BAND}))
    write_cog(bucket / "misnamed/utm_map.tiff", a_map())
    message = cause(settled(byoc, target, byoc.create_tile(target, ByocTile("misnamed/utm_(BAND)"))))
    assert "band COVER is missing: it is band 1 of a file called result, found are map (1)" in message
    write_cog(bucket / "signed/result.tiff", a_map().astype(np.int16))
    message = cause(settled(byoc, target, byoc.create_tile(target, ByocTile("signed"))))
    assert "band COVER is 16 bit INT, in the collection 8 bit UINT" in message


def test_a_tile_in_a_crs_that_is_not_served_fails(byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path) -> None:
    write_cog(bucket / "lambert/result.tiff", a_map(), crs="EPSG:2154")
    message = cause(settled(byoc, target, byoc.create_tile(target, ByocTile("lambert"))))
    assert "are in EPSG:2154; write them in WGS 84, a UTM zone" in message
    write_cog(bucket / "mixed/a.tiff", a_map())
    write_cog(bucket / "mixed/b.tiff", a_map(), crs="EPSG:32632")
    assert "have different CRSs" in cause(settled(byoc, target, byoc.create_tile(target, ByocTile("mixed"))))


def test_nan_as_nodata_is_the_files_own(
    byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path, process: Callable[..., Any], config: SHConfig
) -> None:
    values = a_map().astype(np.float32)
    values[:5] = np.nan
    write_cog(bucket / "nan/result.tiff", values, nodata=float("nan"))
    tile = byoc.create_tile(target, ByocTile("nan", sensing_time=dt.datetime(2020, 12, 31)))
    assert settled(byoc, target, tile)["status"] == "INGESTED"
    assert "noData" not in byoc.get_collection(target)["additionalData"]["bands"]["result"]
    mine = DataCollection.define_byoc(target["id"], service_url=config.sh_base_url)
    mask = process(READ.format(band="result"), "mask", collection=mine, time_interval=("2020-01-01", "2021-01-01"))
    np.testing.assert_array_equal(mask, ~np.isnan(values))


def test_a_path_is_taken_once(byoc: SentinelHubBYOC, target: dict[str, Any]) -> None:
    byoc.create_tile(target, ByocTile("once"))
    with pytest.raises(DownloadFailedException, match="409"):
        byoc.create_tile(target, ByocTile("/once/(BAND).tiff"))
    with pytest.raises(DownloadFailedException, match="leads out of bucket"):
        byoc.create_tile(target, ByocTile("../once"))


def test_tiles_and_collections_are_listed_changed_and_deleted(
    byoc: SentinelHubBYOC, target: dict[str, Any], bucket: Path
) -> None:
    for i in range(3):
        write_cog(bucket / f"many{i}/result.tiff", a_map())
        byoc.create_tile(target, ByocTile(f"many{i}"))
    assert [tile["path"] for tile in byoc.iter_tiles(target, count=2)] == [f"many{i}/(BAND).tiff" for i in range(3)]
    (tile,) = byoc.iter_tiles(target, path="many1")
    settled(byoc, target, tile)
    byoc.update_tile(target, {**tile, "sensingTime": "2021-05-01T00:00:00Z"})
    assert settled(byoc, target, tile)["sensingTime"] == "2021-05-01T00:00:00Z"
    byoc.delete_tile(target, tile)
    assert len(list(byoc.iter_tiles(target))) == 2
    byoc.update_collection({**byoc.get_collection(target), "name": "renamed"})
    assert byoc.get_collection(target)["name"] == "renamed"
    assert target["id"] in {entry["id"] for entry in byoc.iter_collections(search="renamed")}
    byoc.delete_collection(target)
    with pytest.raises(DownloadFailedException, match="does not exist"):
        byoc.get_collection(target)
    assert (bucket / "many1/result.tiff").exists()


def test_a_collection_needs_a_bucket_that_is_there(byoc: SentinelHubBYOC) -> None:
    with pytest.raises(DownloadFailedException, match="bucket 'nowhere' is not served here; there are: data"):
        byoc.create_collection(ByocCollection("lost", s3_bucket="nowhere"))


@pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")  # the client's own call
def test_catalog_finds_scenes_by_place_time_and_cloud(config: SHConfig, collection: DataCollection) -> None:
    catalog = SentinelHubCatalog(config)
    here = BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS("32633"))

    def found(**search: Any) -> list[str]:
        return [item["properties"]["datetime"] for item in catalog.search(collection, **search)]

    june = ("2020-06-01", "2020-06-30")
    everything = ["2020-06-11T10:00:00Z", "2020-06-01T10:05:00Z", "2020-06-01T10:00:00Z"]
    assert found(bbox=here, time=june) == everything
    assert found(bbox=here, time=june, limit=1) == everything
    assert found(geometry=here.geometry and Geometry(here.geometry, here.crs), time=june, limit=2) == everything
    assert found(bbox=here, time=("2020-06-05", "2020-06-30")) == everything[:1]
    assert found(bbox=here, time=june, filter="eo:cloud_cover < 50") == [everything[0], everything[2]]
    assert found(bbox=BBox((0, 0, 1, 1), CRS.WGS84), time=june) == []
    with pytest.raises(DownloadFailedException, match="only conditions on eo:cloud_cover"):
        found(filter="s1:polarization = 'DV'")
    assert {entry["id"] for entry in catalog.get_collections()} >= {"sentinel-2-l1c", "byoc-share"}
    (first, *_) = catalog.search(collection, bbox=here, time=june)
    assert catalog.get_feature(collection, first["id"])["id"] == first["id"]
