"""Tokens, Process and Catalog as the product relies on them."""

from __future__ import annotations

import datetime as dt
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import rasterio
import requests
from sentinelhub import CRS, BBox, SentinelHubCatalog, SHConfig

from .budget import Spending
from .conftest import BOX, COLLECTION, EPSG, SIDE, Service, process_request

pytestmark = pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")  # of the client's own

SCRIPT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B02", "B11", "dataMask"], units: "DN"}],
          output: [{id: "B02", bands: 1, sampleType: "UINT16"}, {id: "mask", bands: 1, sampleType: "UINT8"}]};
}
function evaluatePixel(s) { return {B02: [s.B02], mask: [s.dataMask]}; }
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {dates: scenes.tiles.map(t => t.date)};
}
"""
INDEX = """//VERSION=3
function setup() { return {input: ["B02", "B11"], output: {bands: 1, sampleType: "FLOAT32"}}; }
function evaluatePixel(s) { return [(s.B02 - s.B11) / (s.B02 + s.B11)]; }
"""
BANDS = 2
PLACE = BBox(BOX, CRS(str(EPSG)))
TIFF, TAR = {"Accept": "image/tiff"}, {"Accept": "application/tar"}


def message(refusal: requests.Response, status: int) -> str:
    """The service's own text of a refusal."""
    assert refusal.status_code == status, refusal.text
    body = refusal.json()
    told = body.get("error", body)
    return json.dumps(told) if isinstance(told, dict) else str(told)


def test_a_token_is_for_a_while_and_for_the_right_secret(service: Service) -> None:
    answer = service.token()
    assert answer.status_code == 200, answer.text
    token = answer.json()
    assert token["access_token"] and token["expires_in"] > 60 and token["token_type"].lower() == "bearer"
    refused = service.token(secret="not the secret")
    assert refused.status_code in (400, 401) and "error" in refused.json()
    assert "not the secret" not in refused.text


def test_a_call_without_a_token_is_refused(service: Service) -> None:
    assert service.post(f"{service.deployment.base_url}/api/v1/process", json={}).status_code == 401


def test_an_index_as_one_tiff_with_its_cost_in_a_header(service: Service, reserve: Callable[..., Spending]) -> None:
    spending = reserve("Process: an index, 64 x 64 px, FLOAT32", [(SIDE, SIDE)], BANDS * 2)
    answer = service.call("/api/v1/process", process_request(INDEX, "default"), **TIFF)
    assert answer.status_code == 200, answer.text
    spending.cost_pu = float(answer.headers["x-processingunits-spent"])
    assert answer.headers["content-type"].split(";")[0] == "image/tiff"
    with rasterio.open(io.BytesIO(answer.content)) as tiff:
        assert (tiff.shape, tiff.dtypes, tiff.crs.to_epsg()) == ((SIDE, SIDE), ("float32",), EPSG)
        assert tuple(tiff.bounds) == BOX
        assert abs(tiff.read(1)).max() <= 1


def test_several_outputs_and_userdata_as_a_tar(service: Service, reserve: Callable[..., Spending]) -> None:
    spending = reserve("Process: two outputs and userdata, 64 x 64 px", [(SIDE, SIDE)], BANDS)
    answer = service.call("/api/v1/process", process_request(SCRIPT, "B02", "mask", "userdata"), **TAR)
    assert answer.status_code == 200, answer.text
    spending.cost_pu = float(answer.headers["x-processingunits-spent"])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        assert sorted(files) == ["B02.tif", "mask.tif", "userdata.json"]
        contents = {name: file.read() for name, file in files.items() if file is not None}
    dates = [dt.datetime.fromisoformat(text) for text in json.loads(contents["userdata.json"])["dates"]]
    assert dates and {date.year for date in dates} == {2020}
    with (
        rasterio.open(io.BytesIO(contents["B02.tif"])) as band,
        rasterio.open(io.BytesIO(contents["mask.tif"])) as mask,
    ):
        assert (band.dtypes, mask.dtypes) == (("uint16",), ("uint8",))
        assert set(mask.read(1).ravel().tolist()) <= {0, 1} and band.read(1).any()


def test_small_requests_and_what_they_cost_at_least(service: Service, reserve: Callable[..., Spending]) -> None:
    spending = reserve("Process: an index, 10 x 10 px, FLOAT32", [(10, 10)], BANDS * 2)
    answer = service.call("/api/v1/process", process_request(INDEX, "default", size=(10, 10)), **TIFF)
    spending.cost_pu = float(answer.headers["x-processingunits-spent"])
    assert spending.cost_pu > 0


@pytest.mark.parametrize(
    ("script", "size", "said"),
    [
        (INDEX.replace('"B11"]', '"B99"]'), (SIDE, SIDE), "B99"),
        (INDEX.replace("return [(", "throw new Error('no luck'); return [("), (SIDE, SIDE), "no luck"),
        (INDEX, (2501, 10), "2500"),
    ],
    ids=["a band that is not there", "a script that throws", "more than 2500 px"],
)
def test_a_refusal_is_400_and_says_why(
    service: Service, reserve: Callable[..., Spending], script: str, size: Any, said: str
) -> None:
    reserve(f"Process: refused, {said}", [(size[1], size[0])], BANDS * 2)
    assert said in message(service.call("/api/v1/process", process_request(script, "default", size=size), **TIFF), 400)


def test_catalog_search_by_place_time_and_cloud(config: SHConfig) -> None:
    catalog = SentinelHubCatalog(config=config)
    june = {"bbox": PLACE, "time": ("2020-06-01", "2020-06-30")}
    found = list(catalog.search(COLLECTION, **june, limit=1))
    assert len(found) >= 2 and len({item["id"] for item in found}) == len(found)
    for item in found:
        assert dt.datetime.fromisoformat(item["properties"]["datetime"]).month == 6
        assert item["geometry"]["type"] in ("Polygon", "MultiPolygon")
    clear = list(catalog.search(COLLECTION, **june, filter="eo:cloud_cover < 5"))
    assert all(item["properties"]["eo:cloud_cover"] < 5 for item in clear) and len(clear) <= len(found)


def test_catalog_tells_distinct_dates(config: SHConfig) -> None:
    june = {"bbox": PLACE, "time": ("2020-06-01", "2020-06-30")}
    catalog = SentinelHubCatalog(config=config)
    days = list(catalog.search(COLLECTION, **june, distinct="date"))
    sensed = {item["properties"]["datetime"][:10] for item in catalog.search(COLLECTION, **june)}
    assert {dt.date.fromisoformat(day).isoformat() for day in days} == sensed and len(days) == len(sensed)
