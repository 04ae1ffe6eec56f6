"""The service on a real bucket, by the unmodified client: deliveries, features, BYOC; and what it may not reach."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import requests
from sentinelhub import BatchProcessClient, DataCollection, SentinelHubBYOC, SHConfig
from sentinelhub.api.byoc import ByocCollection, ByocTile
from sentinelhub.exceptions import DownloadFailedException

from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop
from resources.s3_access import S3Access
from tests.fault_proxy import Fault, fault_proxy
from tests.seaweed import Key, Seaweed, seaweed

from .conftest import LEFT, SIDE, TOP, Imagery, client_config, write_cog
from .test_local_sentinel_hub_batch import package, payload, wait_for
from .test_local_sentinel_hub_byoc import READ, a_map, cause, settled

NAME = "project"
Serve = Callable[..., tuple[SHConfig, Path]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        running.make_bucket(NAME)
        yield running


@pytest.fixture(scope="module")
def serve(server: Seaweed, world: tuple[Path, Imagery], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`serve(key)`: a service that has this key in its environment; its client's configuration, and its folder."""
    folders: list[Path] = []

    def started(key: Key, endpoint: str = server.endpoint) -> tuple[SHConfig, Path]:
        folder = tmp_path_factory.mktemp("service-s3")
        folders.append(folder)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment(key).items():
                patch.setenv(name, value)
            patch.delenv("AWS_ENDPOINT_URL_S3")  # it is told the endpoint, and finds the key by itself
            access = S3Access(endpoint, addressing="path")
            settings = ServiceSettings(folder, world[0], script_seconds=3, s3=access)
            address = ensure_running(settings, timeout_s=120)
        return client_config(address, client_of(folder)), folder

    yield started
    for folder in folders:
        stop(folder)


@contextlib.contextmanager
def by_profile(server: Seaweed, world: tuple[Path, Imagery], folder: Path) -> Iterator[SHConfig]:
    """The client of a service that finds its key by a program that a profile names; the environment's is no good."""
    held = json.dumps({"Version": 1, "AccessKeyId": server.admin.id, "SecretAccessKey": server.admin.secret})
    (folder / "key.json").write_text(held)
    (folder / "config").write_text(f"[profile helper]\ncredential_process = cat {folder / 'key.json'}\n")
    unknown = {"AWS_ACCESS_KEY_ID": "UNKNOWN", "AWS_SECRET_ACCESS_KEY": "wrong"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**unknown, "AWS_CONFIG_FILE": str(folder / "config"), "AWS_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        access = S3Access(server.endpoint, profile="helper", addressing="path")
        service = folder / "service"
        address = ensure_running(ServiceSettings(service, world[0], s3=access), timeout_s=120)
    try:
        yield client_config(address, client_of(service))
    finally:
        stop(service)


@pytest.fixture(scope="module")
def mine(serve: Serve, server: Seaweed) -> tuple[SHConfig, Path]:
    return serve(server.admin)


@pytest.fixture(scope="module")
def config_s3(mine: tuple[SHConfig, Path]) -> SHConfig:
    return mine[0]


@pytest.fixture(scope="module")
def s3(server: Seaweed) -> Any:
    """A boto3 client: what the service did is looked at by another's means."""
    return server.client()


def put(s3: Any, key: str, file: Path) -> None:
    s3.put_object(Bucket=NAME, Key=key, Body=file.read_bytes())


def get(s3: Any, key: str) -> bytes:
    return bytes(s3.get_object(Bucket=NAME, Key=key)["Body"].read())


def keys(s3: Any, prefix: str) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket=NAME, Prefix=prefix).get("Contents", [])]


def halves(s3: Any, key: str, folder: Path) -> None:
    """Two tiles of 32x64 px: the west and the east half of the scenes."""
    west, east = (LEFT, TOP - 640, LEFT + 320, TOP), (LEFT + 320, TOP - 640, LEFT + 640, TOP)
    package(folder / "halves.gpkg", {"west": west, "east": east}, resolution=[10.0, 10.0])
    put(s3, key, folder / "halves.gpkg")


def url(key: str) -> Any:
    return {"s3": {"url": f"s3://{NAME}/{key}"}}


def test_tiles_of_a_geopackage_in_the_bucket_are_delivered_into_it(
    config_s3: SHConfig, s3: Any, imagery: Imagery, tmp_path: Path
) -> None:
    halves(s3, "a b/orders/halves.gpkg", tmp_path)
    client = BatchProcessClient(config_s3)
    features, output = url("a b/orders/halves.gpkg"), url("a b/tiffs")
    request = client.create(payload(), client.geopackage_input(features), client.raster_output(output))
    identity = request.request_id
    assert json.loads(get(s3, f"a b/tiffs/{identity}/request-{identity}.json"))["status"] == "CREATED"
    client.start_job(request)
    done = wait_for(client, request, "DONE", "FAILED")
    assert (done.error, done.completion_percentage) == (None, 100)
    root = f"a b/tiffs/{identity}"
    outputs = ("B02.tif", "mask.tif", "userdata.json")
    tiles = [f"{root}/{tile}/{name}" for tile in ("east", "west") for name in outputs]
    beside = (f"execution-{identity}.sqlite", f"featureManifest-{identity}.gpkg", f"request-{identity}.json")
    assert keys(s3, root) == sorted([*tiles, *(f"{root}/{name}" for name in beside)])
    with rasterio.open(io.BytesIO(get(s3, f"{root}/west/B02.tif"))) as tiff:
        seen = imagery.at_10_m("early", "B02")[:, :32]
        np.testing.assert_array_equal(tiff.read(1), seen)
    (tmp_path / "e.sqlite").write_bytes(get(s3, f"{root}/execution-{identity}.sqlite"))
    with closing(sqlite3.connect(tmp_path / "e.sqlite")) as db:
        assert db.execute("SELECT name, status FROM features").fetchall() == [("west", "DONE"), ("east", "DONE")]
    same_place = client.raster_output(url(f"{root}/<tileName>/<outputId>.<format>"))
    again = client.create(payload(), client.geopackage_input(features), same_place)
    client.start_analysis(again)
    assert "already delivered there" in str(wait_for(client, again, "FAILED", "ANALYSIS_DONE").error)


def test_an_analysis_costs_as_many_requests_for_a_hundred_tiles_as_for_one(
    serve: Serve, server: Seaweed, s3: Any, tmp_path: Path
) -> None:
    boxes = {f"t{n:03}": (LEFT + 10 * n, TOP - 10, LEFT + 10 * n + 10, TOP) for n in range(100)}
    with fault_proxy(server.endpoint) as proxy:
        client = BatchProcessClient(serve(server.admin, proxy.endpoint)[0])
        counts = []
        for number in (1, 100):
            some = dict(list(boxes.items())[:number])
            package(tmp_path / f"{number}.gpkg", some, resolution=[10.0] * number)
            put(s3, f"counted/{number}.gpkg", tmp_path / f"{number}.gpkg")
            features = client.geopackage_input(url(f"counted/{number}.gpkg"))
            proxy.inject()
            request = client.create(payload(), features, client.raster_output(url("counted/tiffs")))
            client.start_analysis(request)
            wait_for(client, request, "ANALYSIS_DONE")
            counts.append(len(proxy.counted.requests))
    assert counts[0] == counts[1] <= 10


def test_a_delivery_that_the_bucket_refuses_fails_its_tile_and_leaves_nothing(
    serve: Serve, server: Seaweed, s3: Any, tmp_path: Path
) -> None:
    halves(s3, "refused/halves.gpkg", tmp_path)
    with fault_proxy(server.endpoint) as proxy:
        config, folder = serve(server.admin, proxy.endpoint)
        client = BatchProcessClient(config)
        output = client.raster_output(url("refused/tiffs"))
        request = client.create(payload(), client.geopackage_input(url("refused/halves.gpkg")), output)
        client.start_analysis(request)
        wait_for(client, request, "ANALYSIS_DONE")
        proxy.inject(Fault("403", "PUT"))
        client.start_job(request)
        wait_for(client, request, "DONE")
        told = f"refused/tiffs/{request.request_id}"
        (tmp_path / "e.sqlite").write_bytes(get(s3, f"{told}/execution-{request.request_id}.sqlite"))
    with closing(sqlite3.connect(tmp_path / "e.sqlite")) as db:
        ended = dict(db.execute("SELECT status, error FROM features").fetchall())
    assert ended["DONE"] is None and f"s3://{NAME}/{told}" in ended["FATAL"] and "AccessDenied" in ended["FATAL"]
    assert len([key for key in keys(s3, told) if key.endswith(".tif")]) == 2
    assert not list((folder / "drafts").iterdir())


def test_who_serves_real_buckets_by_hand_lets_in_the_folder_s_client_only(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    command = [sys.executable, "-m", "eo_assets.cli", "sentinel-hub", "serve", "--folder", str(folder), "--port", "0"]
    with subprocess.Popen([*command, "--s3", "{}"], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            assert str(folder / "client.json") in service.stdout.readline()
            tokens = service.stdout.readline().split()[-1]
            client = json.loads((folder / "client.json").read_text())
            grant = {"grant_type": "client_credentials"}
            stranger = requests.post(tokens, {**grant, "client_id": "any", "client_secret": "any"}, timeout=10)
            known = requests.post(tokens, {**grant, **client}, timeout=10)
        finally:
            service.terminate()
    assert (stranger.status_code, known.status_code) == (401, 200)


def test_a_key_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for module in (["eo_assets.cli", "sentinel-hub", "serve"], ["resources.local_sentinel_hub"]):
        command = [sys.executable, "-m", *module, "--folder", str(tmp_path), "--s3", '{"secret_key": "MARKED"}']
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode != 0
        assert "endpoint, region, profile, addressing" in ended.stdout + ended.stderr
        assert "MARKED" not in ended.stdout + ended.stderr


def test_a_geopackage_that_is_not_there_fails_the_analysis_by_its_address(config_s3: SHConfig) -> None:
    client = BatchProcessClient(config_s3)
    request = client.create(payload(), client.geopackage_input(url("no.gpkg")), client.raster_output(url("tiffs")))
    client.start_analysis(request)
    failed = wait_for(client, request, "FAILED")
    assert f"s3://{NAME}/no.gpkg can't be read as a GeoPackage" in str(failed.error)


def test_a_map_in_the_bucket_is_ingested_read_by_range_and_read_anew_when_it_changes(
    config_s3: SHConfig, s3: Any, tmp_path: Path
) -> None:
    byoc = SentinelHubBYOC(config_s3)
    target = byoc.create_collection(ByocCollection("maps", s3_bucket=NAME))
    first = a_map()
    put(s3, "p/maps/utm32633_result.tiff", write_cog(tmp_path / "first.tiff", first, nodata=255))
    made = byoc.create_tile(target, ByocTile("p/maps/utm32633_(BAND)", sensing_time=dt.datetime(2020, 12, 31)))
    assert settled(byoc, target, made)["status"] == "INGESTED"

    def shown() -> Any:
        there = DataCollection.define_byoc(target["id"], service_url=config_s3.sh_base_url)
        return _ask(config_s3, READ.format(band="result"), there)

    np.testing.assert_array_equal(shown(), first)
    second = np.where(first > 50, 0, 100).astype(np.uint8)
    put(s3, "p/maps/utm32633_result.tiff", write_cog(tmp_path / "second.tiff", second, nodata=255))
    byoc.reingest_tile(target, made)
    assert settled(byoc, target, made)["status"] == "INGESTED"
    np.testing.assert_array_equal(shown(), second)


def _ask(config: SHConfig, script: str, collection: DataCollection) -> Any:
    from sentinelhub import CRS, BBox, MimeType, SentinelHubRequest

    return SentinelHubRequest(
        evalscript=script,
        input_data=[SentinelHubRequest.input_data(collection, time_interval=("2020-01-01", "2021-01-01"))],
        responses=[SentinelHubRequest.output_response("map", MimeType.TIFF)],
        bbox=BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS("32633")),
        size=(SIDE, SIDE),
        config=config,
    ).get_data()[0]


def test_maps_that_are_missing_or_damaged_fail_with_the_cause(config_s3: SHConfig, s3: Any, tmp_path: Path) -> None:
    byoc = SentinelHubBYOC(config_s3)
    target = byoc.create_collection(ByocCollection("broken", s3_bucket=NAME))
    missing = settled(byoc, target, byoc.create_tile(target, ByocTile("nothing/(BAND)")))
    assert f"there is no file at nothing/(BAND).tiff in bucket {NAME}" in cause(missing)
    whole = write_cog(tmp_path / "whole.tiff", a_map()).read_bytes()
    s3.put_object(Bucket=NAME, Key="torn/result.tiff", Body=whole[:100])
    torn = settled(byoc, target, byoc.create_tile(target, ByocTile("torn")))
    assert "torn/result.tiff is not a GeoTIFF that can be read" in cause(torn)
    s3.put_object(Bucket=NAME, Key="torn/result.tiff", Body=whole)
    byoc.reingest_tile(target, torn)
    assert settled(byoc, target, torn)["status"] == "INGESTED"


def test_a_key_that_may_only_read_can_not_have_tiles_delivered_and_its_secret_is_nowhere(
    serve: Serve, server: Seaweed, s3: Any, tmp_path: Path
) -> None:
    config, folder = serve(server.reader)
    halves(s3, "read/halves.gpkg", tmp_path)
    client = BatchProcessClient(config)
    with pytest.raises(DownloadFailedException, match="AccessDenied"):
        client.create(payload(), client.geopackage_input(url("read/halves.gpkg")), client.raster_output(url("read")))
    assert keys(s3, "read/") == ["read/halves.gpkg"]
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert server.reader.secret.encode() not in written and b"X-Amz-Signature" not in written


def test_maps_are_read_with_the_key_that_everything_else_is_done_with(
    server: Seaweed, world: tuple[Path, Imagery], s3: Any, tmp_path: Path
) -> None:
    expected = a_map()
    put(s3, "by/profile/result.tiff", write_cog(tmp_path / "map.tiff", expected, nodata=255))
    with by_profile(server, world, tmp_path) as config:
        byoc = SentinelHubBYOC(config)
        target = byoc.create_collection(ByocCollection("by profile", s3_bucket=NAME))
        tile = settled(
            byoc, target, byoc.create_tile(target, ByocTile("by/profile", sensing_time=dt.datetime(2020, 12, 31)))
        )
        assert tile["status"] == "INGESTED", tile
        there = DataCollection.define_byoc(target["id"], service_url=config.sh_base_url)
        np.testing.assert_array_equal(_ask(config, READ.format(band="result"), there), expected)


def test_a_key_that_leads_out_and_a_folder_s_name_are_as_they_were(config_s3: SHConfig) -> None:
    client = BatchProcessClient(config_s3)
    with pytest.raises(DownloadFailedException, match="leads out of bucket"):
        client.create(payload(), client.geopackage_input(url("a.gpkg")), client.raster_output(url("../elsewhere")))
