"""BYOC as the product relies on it: paths, statuses, causes, conflicts."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sentinelhub import SentinelHubBYOC, SHConfig
from sentinelhub.api.byoc import ByocCollection, ByocTile
from sentinelhub.exceptions import DownloadFailedException

from .conftest import SIDE, Service, write_cog
from .deployments import Bucket

pytestmark = pytest.mark.bucket

STATUSES = {"WAITING", "QUEUED", "INGESTING", "INGESTED", "FAILED"}
SENSED = dt.datetime(2020, 12, 31, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def byoc(config: SHConfig) -> SentinelHubBYOC:
    return SentinelHubBYOC(config=config)


@pytest.fixture(scope="module")
def collection(byoc: SentinelHubBYOC, bucket: Bucket) -> Iterator[dict[str, Any]]:
    """A collection of the run's own, deleted at its end."""
    made = byoc.create_collection(ByocCollection(f"eo-assets contract {uuid.uuid4()}", bucket.name_and_key("")[0]))
    yield made
    byoc.delete_collection(made)


@pytest.fixture(scope="module")
def ingested(
    service: Service, byoc: SentinelHubBYOC, collection: dict[str, Any], bucket: Bucket, tmp_path_factory: Any
) -> tuple[dict[str, Any], list[str]]:
    """A tile of one small map, and the statuses that it went through."""
    cog = tmp_path_factory.mktemp("map") / "map.tif"
    write_cog(cog, np.arange(1, SIDE * SIDE + 1).reshape(SIDE, SIDE).astype(np.uint16))
    bucket.put("maps/utm32633_result.tiff", cog.read_bytes())
    key = bucket.name_and_key("maps/utm32633_(BAND).tiff")[1]
    tile = byoc.create_tile(collection, ByocTile(key, sensing_time=SENSED))
    seen = service.wait(lambda: byoc.get_tile(collection, tile), _settled)
    return seen[-1], [str(found["status"]) for found in seen]


def _settled(tile: dict[str, Any]) -> bool:
    return tile["status"] in ("INGESTED", "FAILED")


def test_a_tile_is_ingested_under_its_normalised_path(ingested: tuple[dict[str, Any], list[str]]) -> None:
    tile, statuses = ingested
    assert statuses[-1] == "INGESTED" and set(statuses) <= STATUSES, tile
    assert tile["path"].endswith("maps/utm32633_(BAND).tiff")
    assert tile["sensingTime"].startswith("2020-12-31") and tile["coverGeometry"]["coordinates"]


def test_the_bands_of_a_collection_come_from_its_files(
    byoc: SentinelHubBYOC, collection: dict[str, Any], ingested: tuple[dict[str, Any], list[str]]
) -> None:
    bands = byoc.get_collection(collection)["additionalData"]["bands"]
    assert list(bands) == ["result"] and bands["result"]["bitDepth"] == 16


def test_the_same_path_twice_is_a_conflict(
    byoc: SentinelHubBYOC, collection: dict[str, Any], ingested: tuple[dict[str, Any], list[str]]
) -> None:
    with pytest.raises(DownloadFailedException) as refusal:
        byoc.create_tile(collection, ByocTile(ingested[0]["path"], sensing_time=SENSED))
    assert refusal.value.request_exception.response.status_code == 409


def test_a_tile_without_files_fails_with_its_cause(
    service: Service, byoc: SentinelHubBYOC, collection: dict[str, Any], bucket: Bucket
) -> None:
    key = bucket.name_and_key("nothing/here_(BAND).tiff")[1]
    try:
        tile = byoc.create_tile(collection, ByocTile(key, sensing_time=SENSED))
    except DownloadFailedException as refusal:  # refused at once is as good
        assert refusal.request_exception.response.status_code == 400
        return
    failed = service.wait(lambda: byoc.get_tile(collection, tile), _settled)[-1]
    assert failed["status"] == "FAILED" and failed["additionalData"]["failedIngestionCause"]


def test_a_deleted_tile_is_gone(
    byoc: SentinelHubBYOC, collection: dict[str, Any], ingested: tuple[dict[str, Any], list[str]]
) -> None:
    """Last in this file: the tile goes."""
    byoc.delete_tile(collection, ingested[0])
    with pytest.raises(DownloadFailedException) as refusal:
        byoc.get_tile(collection, ingested[0])
    assert refusal.value.request_exception.response.status_code == 404
