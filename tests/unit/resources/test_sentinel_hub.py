"""One client for every deployment: what it sends, where it goes, and how refusals are told from faults that pass."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import requests

from eo_assets.core.tile import Bounds
from eo_assets.errors import ServiceError, TransientError
from resources.sentinel_hub import LocalDeployment, SentinelHub, input_data, service_errors

BOX = Bounds(330_000, 5_800_000, 330_040, 5_800_030)
DATA = input_data(
    "sentinel-2-l2a",
    datasource=None,
    time_interval=("2020-01-01", "2020-12-31"),
    mosaicking_order="leastCC",
    max_cloud_cover=0.29,
    upsampling="BICUBIC",
    downsampling="NEAREST",
    harmonize_values=True,
)


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    bands, height, width = values.shape
    place = rasterio.Affine(10, 0, 330_000, 0, -10, 5_800_030)
    with rasterio.open(
        file,
        "w",
        driver="GTiff",
        count=bands,
        height=height,
        width=width,
        dtype=values.dtype,
        crs="EPSG:32633",
        transform=place,
    ) as raster:
        raster.write(values)
    return file.getvalue()


def hub(http_service: Any) -> SentinelHub:
    return SentinelHub("test", http_service.url, f"{http_service.url}/token")


def process(http_service: Any) -> np.ndarray:
    return hub(http_service).process([DATA], "//VERSION=3", BOX, 32633, (3, 4)).values


def test_a_local_service_without_its_collections_file_says_where_it_belongs(tmp_path: Path) -> None:
    missing = tmp_path / "collections.yaml"
    service = SentinelHub("local", local=LocalDeployment(tmp_path / "state", missing, tmp_path))
    assert service.state_id() is None, "asking for it starts nothing"
    with pytest.raises(ServiceError, match=rf"services.local.collections: {missing} does not exist; declare"):
        service.config()


@pytest.mark.parametrize("bands", [1, 3])
def test_a_process_request_is_height_width_band(http_service: Any, bands: int) -> None:
    values = np.arange(bands * 12, dtype=np.uint16).reshape(bands, 3, 4)
    http_service.answer = lambda method, path, body: (200, tiff(values))
    np.testing.assert_array_equal(process(http_service), np.moveaxis(values, 0, -1))
    [(method, path, body)] = http_service.asked
    assert (method, path) == ("POST", "/api/v1/process")
    assert (body["output"]["width"], body["output"]["height"]) == (4, 3)
    assert body["input"]["bounds"]["bbox"] == list(BOX)
    assert body["input"]["bounds"]["properties"]["crs"].endswith("/32633")


def test_an_input_holds_plain_values_and_no_address(http_service: Any) -> None:
    http_service.answer = lambda method, path, body: (200, tiff(np.zeros((1, 3, 4), np.uint8)))
    process(http_service)
    [source] = http_service.asked[0][2]["input"]["data"]
    assert source == {
        "type": "sentinel-2-l2a",
        "dataFilter": {
            "timeRange": {"from": "2020-01-01T00:00:00Z", "to": "2020-12-31T23:59:59Z"},
            "mosaickingOrder": "leastCC",
            "maxCloudCoverage": 29.0,
        },
        "processing": {"upsampling": "BICUBIC", "downsampling": "NEAREST", "harmonizeValues": True},
    }


def test_what_is_not_said_is_not_sent() -> None:
    nothing = dict.fromkeys(("time_interval", "mosaicking_order", "max_cloud_cover", "harmonize_values"))
    found = input_data("byoc-1", datasource="G", upsampling="NEAREST", downsampling="NEAREST", **nothing)  # type: ignore[arg-type]
    resampling = {"upsampling": "NEAREST", "downsampling": "NEAREST"}
    assert found == {"type": "byoc-1", "id": "G", "dataFilter": {}, "processing": resampling}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(status, ServiceError) for status in (400, 401, 403, 404)] + [(status, TransientError) for status in (500, 503)],
)
def test_refusals_are_told_from_faults_that_may_pass(http_service: Any, status: int, kind: type[Exception]) -> None:
    http_service.answer = lambda method, path, body: (status, {"error": {"message": "the evalscript has no setup"}})
    with pytest.raises(kind, match="test: Process request") as caught:
        process(http_service)
    assert "top-secret" not in str(caught.value)
    assert "secret-token" not in str(caught.value)
    if status == 400:
        assert "the evalscript has no setup" in str(caught.value)


def test_a_fault_is_tried_again_before_it_is_told(http_service: Any) -> None:
    answers = iter([(500, {}), (502, {}), (200, tiff(np.ones((1, 3, 4), np.uint8)))])
    http_service.answer = lambda method, path, body: next(answers)
    assert (process(http_service) == 1).all()


def test_wrong_credentials_are_a_refusal_with_the_remedy(http_service: Any) -> None:
    http_service.token = (401, {"error": "invalid_client", "error_description": "Bad client"})
    with pytest.raises(ServiceError, match=r"signing in was refused .*invalid_client.*SH_CLIENT_ID") as caught:
        process(http_service)
    assert "top-secret" not in str(caught.value)
    assert not http_service.asked


def test_missing_credentials_are_named(http_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SH_CLIENT_SECRET")
    with pytest.raises(ServiceError, match=r"set SH_CLIENT_ID and SH_CLIENT_SECRET"):
        process(http_service)


def test_nobody_there_may_pass(http_service: Any) -> None:
    with pytest.raises(TransientError):
        SentinelHub("gone", "http://127.0.0.1:9", "http://127.0.0.1:9/token").process([DATA], "", BOX, 32633, (3, 4))


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("x"), requests.Timeout("x"), requests.exceptions.ChunkedEncodingError("x")]
)
def test_a_broken_line_may_pass(error: Exception) -> None:
    with pytest.raises(TransientError, match="what: x"), service_errors("what"):
        raise error


def test_a_handle_travels_without_secrets(http_service: Any) -> None:
    handle = hub(http_service)
    data = pickle.dumps(handle)
    assert b"top-secret" not in data
    assert pickle.loads(data) == handle  # noqa: S301


def test_a_deployment_without_a_bucket_is_told(http_service: Any) -> None:
    with pytest.raises(ServiceError, match=r"delivers to a bucket.*storage\.project_folder: s3://"):
        hub(http_service).bucket_url("tiffs")
    with pytest.raises(ServiceError, match="base_url and token_url are both needed"):
        SentinelHub("half", base_url=http_service.url).config()


def test_the_client_s_own_configuration_file_is_not_read(http_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SH_PROFILE", "somebody-elses")
    config = hub(http_service).config()
    assert config.sh_base_url == http_service.url
    assert config.max_retries is not None, "429 would be retried for ever"
