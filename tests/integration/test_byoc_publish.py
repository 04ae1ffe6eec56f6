"""Publishing tiles to the real local service: nothing twice, nothing of others touched, failures told.

What was asked of the service is read from its own log, which names every call that is no mere look.
"""

from __future__ import annotations

import datetime as dt
import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from sentinelhub import SentinelHubBYOC

from eo_assets.core.publishing import BandSettings, PublishedTile
from eo_assets.errors import ServiceError, TransientError
from resources.byoc import PublishOptions, _Publication, publish_tiles
from resources.byoc_collection import WantedCollection
from resources.local_sentinel_hub.server import client_of, stop
from resources.local_sentinel_hub.store import DocumentStore
from resources.sentinel_hub import LOCAL_BUCKET, LocalDeployment, SentinelHub

NAME = "maps"
LEFT, TOP, SIDE_M = 500_000, 5_800_000, 320
BAND = BandSettings("map", "uint8", 255, "SHARE")
FORMAT = {"source": "map", "bandIndex": 1, "bitDepth": 8, "sampleFormat": "UINT", "noData": 255}
WANTED = WantedCollection(NAME, LOCAL_BUCKET, BAND)
YEAR = dt.datetime(2020, 12, 31, tzinfo=dt.UTC)
FAST = PublishOptions(0.05)
DELETE = PublishOptions(0.05, delete_vanished=True)
CALL = re.compile(r"(POST|PUT|DELETE) /api/v1/byoc(\S*) \d")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def cover(width_m: int = SIDE_M) -> dict[str, Any]:
    left, bottom, right, top = LEFT, TOP - SIDE_M, LEFT + width_m, TOP
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    return {"type": "Polygon", "coordinates": [ring], "crs": crs}


def tile(zone: str, digest: str = "first", folder: str = "maps") -> PublishedTile:
    return PublishedTile(f"{folder}/{zone}_(BAND).tiff", YEAR, cover(), digest)


def write_map(project: Path, zone: str, kind: str = "uint8", folder: str = "maps") -> Path:
    path = project / folder / f"{zone}_map.tiff"
    path.parent.mkdir(exist_ok=True, parents=True)
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, LEFT, 0, -10, TOP)}
    with rasterio.open(path, "w", driver="COG", width=32, height=32, count=1, dtype=kind, **place) as raster:
        raster.write(np.ones((1, 32, 32), kind))
    return path


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


@dataclass
class Project:
    """One project that publishes: it keeps what it is told to remember, as the asset does."""

    hub: SentinelHub
    known: Mapping[str, Any] = field(default_factory=dict)
    wanted: WantedCollection = WANTED

    def publish(self, *tiles: PublishedTile, options: PublishOptions = FAST, **wanted: Any) -> Any:
        return publish_tiles(self.hub, replace(self.wanted, **wanted), tiles, self.known, self.remember, options)

    def remember(self, known: Mapping[str, Any]) -> None:
        self.known = json.loads(json.dumps(known))


@pytest.fixture
def project(hub: SentinelHub) -> Project:
    return Project(hub)


@pytest.fixture
def calls(hub: SentinelHub, place: LocalDeployment) -> Callable[[], list[str]]:
    """The calls that change something since this was last asked, ids left out."""
    hub.config()
    log, seen = place.state / "service.log", 0

    def since() -> list[str]:
        nonlocal seen
        everything = [f"{method} {UUID.sub('*', path)}" for method, path in CALL.findall(log.read_text())]
        fresh, seen = everything[seen:], len(everything)
        return fresh

    since()
    return since


def collections(hub: SentinelHub) -> list[dict[str, Any]]:
    return list(SentinelHubBYOC(hub.config()).iter_collections())


def held(hub: SentinelHub) -> dict[str, dict[str, Any]]:
    """The tiles of the one collection there is, by zone; none is there twice."""
    [collection] = collections(hub)
    tiles = list(SentinelHubBYOC(hub.config()).iter_tiles(collection["id"]))
    found = {entry["path"].removeprefix("maps/").partition("_")[0]: entry for entry in tiles}
    assert len(found) == len(tiles)
    return found


def actions(published: Mapping[str, Any], key: str = "tiles") -> dict[str, str]:
    return {entry["path"].removeprefix("maps/").partition("_")[0]: entry["action"] for entry in published[key]}


def add_foreign(hub: SentinelHub, collection: str, path: str = "elsewhere/x_(BAND).tiff") -> None:
    SentinelHubBYOC(hub.config()).create_tile(collection, {"path": path, "sensingTime": "2020-12-31T00:00:00Z"})


CREATE, TILE = "POST /collections", "/collections/*/tiles"
REINGEST = f"POST {TILE}/*/reingest"


def test_a_collection_is_created_with_its_band_said(project: Project, calls: Callable[[], list[str]]) -> None:
    first = project.publish(tile("a"), tile("b"))
    assert calls() == [CREATE, f"POST {TILE}", f"POST {TILE}"]
    assert {entry["status"] for entry in first["tiles"]} == {"INGESTED"}
    assert actions(first) == {"a": "created", "b": "created"}
    [collection] = collections(project.hub)
    assert collection["additionalData"]["bands"] == {"SHARE": FORMAT}
    assert "noData" not in collection


def test_what_is_unchanged_is_left_alone(project: Project, calls: Callable[[], list[str]]) -> None:
    first = project.publish(tile("a"), tile("b"))
    before, _ = held(project.hub), calls()
    second = project.publish(tile("a"), tile("b"))
    assert calls() == []
    assert actions(second) == {"a": "left alone", "b": "left alone"}
    assert second["id"] == first["id"]
    assert held(project.hub) == before


def test_a_changed_map_is_ingested_again_and_no_other(
    project: Project, calls: Callable[[], list[str]], place: LocalDeployment
) -> None:
    project.publish(tile("a"), tile("b"))
    calls()
    write_map(place.project_folder, "a", "uint16")  # unlike its collection, so whoever looks again must refuse it
    with pytest.raises(ServiceError, match="band SHARE is 16 bit"):
        project.publish(tile("a", "second"), tile("b"))
    assert calls() == [REINGEST]
    write_map(place.project_folder, "a")
    assert actions(project.publish(tile("a", "third"), tile("b"))) == {"a": "re-ingested", "b": "left alone"}
    assert calls() == [REINGEST]


def test_a_changed_cover_or_time_is_updated(project: Project, calls: Callable[[], list[str]]) -> None:
    project.publish(tile("a"), tile("b"))
    calls()
    narrow, later = replace(tile("a"), cover=cover(160)), replace(tile("b"), sensing_time=YEAR.replace(year=2021))
    assert actions(project.publish(narrow, later)) == {"a": "updated", "b": "updated"}
    assert calls() == [f"PUT {TILE}/*"] * 2
    assert held(project.hub)["b"]["sensingTime"] == "2021-12-31T00:00:00Z"
    assert actions(project.publish(narrow, later)) == {"a": "left alone", "b": "left alone"}


def test_a_lost_record_takes_the_collection_up_with_all_it_holds(project: Project) -> None:
    first = project.publish(tile("a"), tile("b"))
    project.known = {}
    again = project.publish(tile("a"))
    assert again["id"] == first["id"]
    assert actions(again) == {"a": "updated"}, "nobody knows any more what was ingested"
    assert held(project.hub).keys() == {"a", "b"}, "nobody knows any more whose b is"
    project.publish(tile("b"), options=DELETE)
    assert held(project.hub).keys() == {"a", "b"}, "it is not known that this project has made a"


def test_a_record_of_an_older_version_is_understood(project: Project) -> None:
    first = project.publish(tile("a"), tile("b"))
    shown = [{"path": tile(zone).path, "status": "INGESTED", "digest": "first"} for zone in "ab"]
    project.known = {"id": first["id"], "name": NAME, "tiles": shown}
    assert actions(project.publish(tile("a")), "vanished") == {"b": "vanished"}


def test_what_vanished_stays_unless_the_project_says_otherwise(
    project: Project, calls: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    first = project.publish(tile("a"), tile("b"))
    add_foreign(project.hub, first["id"])  # its files are missing: that it fails is not our failure
    calls()
    second = project.publish(tile("a"))
    assert calls() == []
    assert second["vanished"] == [{"path": tile("b").path, "status": "INGESTED", "action": "vanished"}]
    assert [entry["path"] for entry in second["tiles"]] == [tile("a").path]
    assert f"{tile('b').path} has no map any more: it stays" in caplog.text
    assert held(project.hub).keys() == {"a", "b", "elsewhere/x"}
    third = project.publish(tile("a"), options=DELETE)
    assert calls() == [f"DELETE {TILE}/*"]
    assert actions(third, "vanished") == {"b": "deleted"}
    assert held(project.hub).keys() == {"a", "elsewhere/x"}
    assert project.publish(tile("a"), options=DELETE)["vanished"] == []


def test_a_vanished_map_that_comes_back_was_never_away(project: Project, calls: Callable[[], list[str]]) -> None:
    project.publish(tile("a"), tile("b"))
    project.publish(tile("a"))
    calls()
    assert actions(project.publish(tile("a"), tile("b"))) == {"a": "left alone", "b": "left alone"}
    assert calls() == []


def test_a_tile_that_somebody_put_in_the_place_of_ours_is_not_deleted(project: Project) -> None:
    first = project.publish(tile("a"), tile("b"))
    client = SentinelHubBYOC(project.hub.config())
    client.delete_tile(first["id"], held(project.hub)["b"])
    add_foreign(project.hub, first["id"], tile("b").path)
    assert project.publish(tile("a"), options=DELETE)["vanished"] == []
    assert held(project.hub).keys() == {"a", "b"}


def test_a_record_of_a_collection_that_is_gone_claims_nothing_of_another(project: Project) -> None:
    first = project.publish(tile("a"), tile("b"))
    client = SentinelHubBYOC(project.hub.config())
    client.delete_collection(first["id"])
    other = client.create_collection({"name": NAME, "s3Bucket": LOCAL_BUCKET})["id"]
    add_foreign(project.hub, other, tile("b").path)
    assert project.publish(tile("a"), options=DELETE)["id"] == other
    assert held(project.hub).keys() == {"a", "b"}


def test_two_years_share_a_collection_and_leave_each_other_alone(
    project: Project, place: LocalDeployment, calls: Callable[[], list[str]]
) -> None:
    write_map(place.project_folder, "a", folder="maps/2021")
    new = replace(tile("a", folder="maps/2021"), sensing_time=YEAR.replace(year=2021))
    next_year = Project(project.hub)
    first = project.publish(tile("a"), tile("b"))
    calls()
    second = next_year.publish(new, options=DELETE)
    assert calls() == [f"POST {TILE}"]
    assert (second["id"], second["vanished"]) == (first["id"], [])
    assert actions(project.publish(tile("a"), tile("b"), options=DELETE)) == {"a": "left alone", "b": "left alone"}
    assert calls() == []
    times = {entry["path"]: entry["sensingTime"][:4] for entry in held(project.hub).values()}
    assert times == {tile("a").path: "2020", tile("b").path: "2020", new.path: "2021"}


def test_only_the_failed_are_asked_for_again(
    project: Project, place: LocalDeployment, calls: Callable[[], list[str]]
) -> None:
    missing, bad = tile("missing"), tile("bad")
    write_map(place.project_folder, "bad").write_text("no raster")
    with pytest.raises(ServiceError) as refusal:
        project.publish(tile("b"), missing, bad)
    told = str(refusal.value)
    assert "2 of 3 tiles not ingested" in told and tile("b").path not in told
    assert f"{missing.path}: FAILED: there is no file at {missing.path}" in told
    assert f"{bad.path}: FAILED: maps/bad_map.tiff is not a GeoTIFF" in told
    assert held(project.hub)["b"]["status"] == "INGESTED"
    calls()
    write_map(place.project_folder, "bad")
    write_map(place.project_folder, "missing")
    again = project.publish(tile("b"), missing, bad)
    assert actions(again) == {"b": "left alone", "missing": "re-ingested", "bad": "re-ingested"}
    assert calls() == [REINGEST, REINGEST]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(1, 6))
def test_a_publication_that_is_killed_is_gone_on_with(project: Project, after: int) -> None:
    """It is killed before its n-th remembering: after the collection was made, and after each of its tiles."""
    kept, count = dict[str, Any](), 0

    def remember(known: Mapping[str, Any]) -> None:
        nonlocal kept, count
        count += 1
        if count == after:
            raise Killed
        kept = json.loads(json.dumps(known))

    def publish() -> Any:
        return publish_tiles(project.hub, WANTED, [tile("a"), tile("b")], kept, remember, FAST)

    try:
        publish()
        assert after == 5, "it is remembered four times: the collection, the plan and two tiles"
    except Killed:
        pass
    count = -100
    assert {entry["status"] for entry in publish()["tiles"]} == {"INGESTED"}
    assert held(project.hub).keys() == {"a", "b"}
    if after > 2:
        assert {entry["made"] for entry in kept["tiles"]} == {True}, "whoever planned a tile has made it"


def test_a_tile_that_takes_too_long_is_only_waited_for_again(
    project: Project, place: LocalDeployment, calls: Callable[[], list[str]]
) -> None:
    project.publish(tile("a"), tile("b"))
    calls()
    state = DocumentStore(place.state / "state.sqlite")
    slow = held(project.hub)["b"]["id"]
    state.update("byoc-tile", slow, lambda document: document.update(status="INGESTING"))
    with pytest.raises(ServiceError, match=r"b_\(BAND\).tiff: INGESTING: not ended after 0.01 minutes"):
        project.publish(tile("a"), tile("b"), options=PublishOptions(0.05, timeout_s=0.6))
    state.update("byoc-tile", slow, lambda document: document.update(status="INGESTED"))
    state.close()
    assert actions(project.publish(tile("a"), tile("b"))) == {"a": "left alone", "b": "left alone"}
    assert calls() == []


def test_an_answer_that_was_lost_is_made_good(project: Project) -> None:
    """The client asks again when an answer does not come: the tile is there by then."""
    project.publish(tile("a"))
    [collection] = collections(project.hub)
    publication = _Publication(SentinelHubBYOC(project.hub.config()), collection["id"], {}, project.remember)
    assert publication._create(tile("a"))["id"] == held(project.hub)["a"]["id"]


def test_a_service_that_is_away_is_a_transient_fault(project: Project) -> None:
    away = SentinelHub("away", "http://127.0.0.1:1", "http://127.0.0.1:1/oauth/token")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TransientError, match="away: BYOC collection maps"):
        patch.setenv("SH_CLIENT_ID", "id")
        patch.setenv("SH_CLIENT_SECRET", "secret")
        patch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
        Project(away).publish(tile("a"))


def test_name_band_name_and_nodata_follow_the_project(project: Project, calls: Callable[[], list[str]]) -> None:
    project.publish(tile("a"))
    calls()
    changed = replace(BAND, name="COVER", nodata=0)
    project.publish(tile("a"), name="new name", band=changed)
    assert calls() == ["PUT /collections/*"]
    [collection] = collections(project.hub)
    assert collection["name"] == "new name"
    assert collection["additionalData"]["bands"] == {"COVER": {**FORMAT, "noData": 0}}
    project.publish(tile("a"), name="new name", band=replace(changed, name=None))
    assert calls() == [], "a name that the project does not say stays"


def test_the_nodata_of_a_collection_becomes_that_of_its_band(project: Project) -> None:
    client = SentinelHubBYOC(project.hub.config())
    bands = {"MINE": {"source": "map", "bitDepth": 8, "sampleFormat": "UINT"}}
    client.create_collection(
        {"name": NAME, "s3Bucket": LOCAL_BUCKET, "noData": 255, "additionalData": {"bands": bands}}
    )
    project.publish(tile("a"))
    [collection] = collections(project.hub)
    assert "noData" not in collection
    assert collection["additionalData"]["bands"] == {"MINE": FORMAT}


def test_what_a_collection_with_tiles_can_not_become_is_refused(
    project: Project, calls: Callable[[], list[str]]
) -> None:
    first = project.publish(tile("a"))
    calls()
    for band, said in (
        (replace(BAND, dtype="uint16"), r"band SHARE has 8 bits, maps.dtype uint16 has 16.*set maps.dtype"),
        (
            replace(BAND, source="other"),
            "its bands are SHARE of files called map, this project's maps are called",
        ),
    ):
        with pytest.raises(ServiceError, match=rf"BYOC collection maps \({first['id']}\): {said}"):
            project.publish(tile("a", "second"), band=band)
    assert calls() == []


def test_a_collection_can_be_named_by_its_id(project: Project, calls: Callable[[], list[str]]) -> None:
    client = SentinelHubBYOC(project.hub.config())
    mine = client.create_collection({"name": "of the institute", "s3Bucket": LOCAL_BUCKET})["id"]
    calls()
    assert project.publish(tile("a"), id=mine)["id"] == mine
    assert calls() == ["PUT /collections/*", f"POST {TILE}"], "its band, then the tile"
    [collection] = collections(project.hub)
    assert collection["name"] == "of the institute"
    unknown = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(ServiceError, match=f"byoc.collection_id: {unknown}: local has no such collection"):
        project.publish(tile("a"), id=unknown)
    with pytest.raises(ServiceError, match="its bucket is project-folder, the maps are in elsewhere"):
        project.publish(tile("a"), id=mine, bucket="elsewhere")


def test_where_two_collections_may_be_meant_a_person_decides(project: Project) -> None:
    client = SentinelHubBYOC(project.hub.config())
    ids = [client.create_collection({"name": NAME, "s3Bucket": LOCAL_BUCKET})["id"] for _ in range(2)]
    with pytest.raises(ServiceError, match=f"2 on bucket .* have that name; set byoc.collection_id to .*{ids[0]}"):
        project.publish(tile("a"))
    project.publish(tile("a"), id=ids[0])
    assert project.publish(tile("a"))["id"] == ids[0], "it is known by now"
    client.create_collection({"name": "next", "s3Bucket": LOCAL_BUCKET})
    with pytest.raises(ServiceError, match=rf"the maps are in {ids[0]} \(maps\), and another one has that name"):
        project.publish(tile("a"), name="next")


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
