"""Publishing tiles to the real local service: nothing twice, nothing of others lost, failures told."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from sentinelhub import SentinelHubBYOC

from eo_assets.errors import ServiceError
from resources.byoc import PublishedTile, publish_tiles
from resources.local_sentinel_hub.server import client_of, stop
from resources.sentinel_hub import LOCAL_BUCKET, LocalDeployment, SentinelHub

NAME = "maps"
LEFT, TOP, SIDE_M = 500_000, 5_800_000, 320


def tile(zone: str, digest: str = "first") -> PublishedTile:
    left, bottom, right, top = LEFT, TOP - SIDE_M, LEFT + SIDE_M, TOP
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    cover = {
        "type": "Polygon",
        "coordinates": [ring],
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
    }
    return PublishedTile(f"maps/{zone}_(BAND).tiff", dt.datetime(2020, 12, 31, tzinfo=dt.UTC), cover, digest)


def write_map(project: Path, zone: str, kind: str = "uint8") -> None:
    path = project / f"maps/{zone}_map.tiff"
    path.parent.mkdir(exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, LEFT, 0, -10, TOP)}
    with rasterio.open(path, "w", driver="COG", width=32, height=32, count=1, dtype=kind, **place) as raster:
        raster.write(np.ones((1, 32, 32), kind))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDeployment]:
    """A service without credentials in its environment, and its project folder."""
    folder = tmp_path_factory.mktemp("publish")
    (folder / "project").mkdir()
    try:
        yield LocalDeployment(folder / "state", None, folder / "project")
    finally:
        stop(folder / "state")


@pytest.fixture
def hub(place: LocalDeployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[SentinelHub]:
    """The service with maps of zones a and b, and no collection."""
    for variable in ("EO_ASSETS_LOCAL_SH_CLIENT_ID", "EO_ASSETS_LOCAL_SH_CLIENT_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    for zone in "ab":
        write_map(place.project_folder, zone)
    found = SentinelHub("local", local=place)
    yield found
    client = SentinelHubBYOC(found.config())
    for collection in list(client.iter_collections()):
        client.delete_collection(collection["id"])


def held(hub: SentinelHub) -> dict[str, dict[str, Any]]:
    """The tiles of the one collection there is, by zone; none is there twice."""
    client = SentinelHubBYOC(hub.config())
    [collection] = client.iter_collections()
    tiles = list(client.iter_tiles(collection["id"]))
    found = {entry["path"].removeprefix("maps/").partition("_")[0]: entry for entry in tiles}
    assert len(found) == len(tiles)
    return found


def add_foreign(hub: SentinelHub, collection: str, path: str = "elsewhere/x_(BAND).tiff") -> None:
    SentinelHubBYOC(hub.config()).create_tile(collection, {"path": path, "sensingTime": "2020-12-31T00:00:00Z"})


def test_a_second_publish_makes_no_duplicates(hub: SentinelHub) -> None:
    first = publish_tiles(hub, NAME, [tile("a"), tile("b")], {})
    before = held(hub)
    second = publish_tiles(hub, NAME, [tile("a"), tile("b")], first)
    assert second == first
    assert {entry["status"] for entry in first["tiles"]} == {"INGESTED"}
    assert {zone: entry["id"] for zone, entry in held(hub).items()} == {z: entry["id"] for z, entry in before.items()}


def test_a_lost_record_takes_the_collection_up_with_all_it_holds(hub: SentinelHub) -> None:
    first = publish_tiles(hub, NAME, [tile("a"), tile("b")], {})
    again = publish_tiles(hub, NAME, [tile("a")], {})
    assert again["id"] == first["id"]
    assert [entry["path"] for entry in again["tiles"]] == [tile("a").path]
    assert held(hub).keys() == {"a", "b"}, "nobody knows any more whose b is"


def test_what_is_no_longer_wanted_goes_and_what_others_put_there_stays(hub: SentinelHub) -> None:
    first = publish_tiles(hub, NAME, [tile("a"), tile("b")], {})
    add_foreign(hub, first["id"])  # its files are missing: that it fails is not our failure
    second = publish_tiles(hub, NAME, [tile("a")], first)
    assert held(hub).keys() == {"a", "elsewhere/x"}
    assert [entry["path"] for entry in second["tiles"]] == [tile("a").path]


def test_a_record_of_a_collection_that_is_gone_claims_nothing_of_another(hub: SentinelHub) -> None:
    first = publish_tiles(hub, NAME, [tile("a"), tile("b")], {})
    client = SentinelHubBYOC(hub.config())
    client.delete_collection(first["id"])
    other = client.create_collection({"name": NAME, "s3Bucket": LOCAL_BUCKET})["id"]
    add_foreign(hub, other, tile("b").path)
    assert publish_tiles(hub, NAME, [tile("a")], first)["id"] == other
    assert held(hub).keys() == {"a", "b"}


def test_a_changed_digest_is_ingested_again(hub: SentinelHub, place: LocalDeployment) -> None:
    first = publish_tiles(hub, NAME, [tile("a"), tile("b")], {})
    write_map(place.project_folder, "a", "uint16")  # unlike its collection, so whoever looks again must refuse it
    with pytest.raises(ServiceError, match="band map is 16 bit"):
        publish_tiles(hub, NAME, [tile("a", "second"), tile("b")], first)
    write_map(place.project_folder, "a")
    second = publish_tiles(hub, NAME, [tile("a", "third"), tile("b")], first)
    assert {entry["path"]: entry["digest"] for entry in second["tiles"]} == {
        tile("a").path: "third",
        tile("b").path: "first",
    }


def test_a_failed_ingestion_names_the_tile_and_the_cause(hub: SentinelHub) -> None:
    missing = replace(tile("a"), path="maps/missing_(BAND).tiff")
    with pytest.raises(ServiceError, match=r"maps/missing_\(BAND\)\.tiff: FAILED: .*missing") as refusal:
        publish_tiles(hub, NAME, [tile("b"), missing], {})
    assert tile("b").path not in str(refusal.value)


def test_the_handle_and_the_process_hold_no_secret(hub: SentinelHub, place: LocalDeployment) -> None:
    config = hub.config()
    assert client_of(place.state).client_secret == config.sh_client_secret
    assert (place.state / "client.json").stat().st_mode & 0o777 == 0o600
    secret = config.sh_client_secret.encode()
    assert secret not in pickle.dumps(hub)
    assert all(
        secret not in path.read_bytes()
        for path in place.state.iterdir()
        if path.name != "client.json" and path.is_file()
    )
    assert hub.config().sh_client_secret == config.sh_client_secret
    assert not list(place.state.glob(".client*"))
