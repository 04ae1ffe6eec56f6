"""Batch V2 of the unmodified client: by tiling grid and by GeoPackage, side files, tiles that fail, stop and go on."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from sentinelhub import BatchProcessClient, MimeType, SentinelHubRequest, SHConfig
from sentinelhub.api.batch.process import BatchProcessRequest
from sentinelhub.api.utils import s3_specification
from sentinelhub.exceptions import DownloadFailedException

from .conftest import BUCKET, EPSG, LEFT, ORBIT, SIDE, SIMPLE, TOP, Imagery

ENDED = ("DONE", "FAILED", "STOPPED", "ANALYSIS_DONE")
SLOW = SIMPLE.replace(
    "function evaluatePixel(s) {", "function evaluatePixel(s) { for (let i = 0, x = 0; i < 60000; i++) { x += i % 7; }"
)


@pytest.fixture(scope="module")
def client(config: SHConfig) -> BatchProcessClient:
    return BatchProcessClient(config)


def s3(key: str) -> Any:
    return s3_specification(f"s3://{BUCKET}/{key}", access_key="key", secret_access_key="very secret")


def payload(
    script: str = SIMPLE, outputs: tuple[str, ...] = ("B02", "mask", "userdata"), **bounds: Any
) -> dict[str, Any]:
    """A processRequest."""
    responses = [
        SentinelHubRequest.output_response(name, MimeType.JSON if name == "userdata" else MimeType.TIFF)
        for name in outputs
    ]
    data = [{"type": "sentinel-2-l1c", "dataFilter": {"maxCloudCoverage": 20}}]
    return {"input": {"data": data, **bounds}, "evalscript": script, "output": {"responses": responses}}


def package(path: Path, boxes: dict[str, tuple[float, float, float, float]], **columns: Any) -> None:
    """A GeoPackage of features with an identifier."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"identifier": np.array(list(boxes), dtype=object), **{k: np.array(v) for k, v in columns.items()}}
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array([shapely.box(*box) for box in boxes.values()])),
        field_data=list(fields.values()),
        fields=list(fields),
        layer=f"tiles_{EPSG}",
        driver="GPKG",
        geometry_type="Polygon",
        crs=f"EPSG:{EPSG}",
    )


def wait_for(client: BatchProcessClient, request: Any, *statuses: str, timeout_s: float = 60) -> BatchProcessRequest:
    """Poll until a status is reached."""
    deadline = time.monotonic() + timeout_s
    while (now := client.get_request(request)).status.value not in (statuses or ENDED):
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def features(folder: Path, request_id: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / f"execution-{request_id}.sqlite")) as db:
        return db.execute("SELECT id, name, status, error, delivered FROM features ORDER BY id").fetchall()


def halves(bucket: Path, key: str) -> None:
    """Two tiles of 32x64 px: the west and the east half of the scenes."""
    west, east = (LEFT, TOP - 640, LEFT + 320, TOP), (LEFT + 320, TOP - 640, LEFT + 640, TOP)
    package(bucket / key, {"west": west, "east": east}, resolution=[10.0, 10.0])


def test_a_geopackage_is_delivered_tile_by_tile(client: BatchProcessClient, bucket: Path, imagery: Imagery) -> None:
    halves(bucket, "orders/halves.gpkg")
    request = client.create(
        payload(),
        client.geopackage_input(s3("orders/halves.gpkg")),
        client.raster_output(s3("tiffs")),
        description="two",
    )
    assert request.status.value == "CREATED"
    client.start_analysis(request)
    assert wait_for(client, request, "ANALYSIS_DONE").completion_percentage == 0
    folder = bucket / "tiffs" / request.request_id
    assert [row[1:] for row in features(folder, request.request_id)] == [
        ("west", "PENDING", None, 0),
        ("east", "PENDING", None, 0),
    ]
    client.start_job(request)
    done = wait_for(client, request, "DONE", "FAILED")
    assert (done.error, done.completion_percentage, done.cost_PU) == (None, 100, 100)
    assert [row[1:] for row in features(folder, request.request_id)] == [
        ("west", "DONE", None, 1),
        ("east", "DONE", None, 1),
    ]
    for name, columns in (("west", slice(0, 32)), ("east", slice(32, 64))):
        assert sorted(path.name for path in (folder / name).iterdir()) == ["B02.tif", "mask.tif", "userdata.json"]
        with rasterio.open(folder / name / "B02.tif") as tiff:
            np.testing.assert_array_equal(tiff.read(1), imagery.pixels["early", "B02"][:, columns])
            assert (tiff.crs.to_epsg(), tiff.nodata, tiff.count, tiff.profile["tiled"]) == (EPSG, None, 1, True)
            assert tiff.bounds.left == LEFT + 10 * columns.start
    assert json.loads((folder / "east/userdata.json").read_text())["dates"] == ["2020-06-01T10:00:00Z"]


def test_of_a_geopackage_only_what_the_bounds_touch_is_processed(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/bounded.gpkg")
    corner = {"bbox": [LEFT + 330, TOP - 50, LEFT + 340, TOP - 10]}
    corner["properties"] = {"crs": f"http://www.opengis.net/def/crs/EPSG/0/{EPSG}"}  # type: ignore[assignment]
    request = client.create(
        payload(bounds=corner), client.geopackage_input(s3("orders/bounded.gpkg")), client.raster_output(s3("bounded"))
    )
    client.start_job(request)
    wait_for(client, request, "DONE", "FAILED")
    folder = bucket / "bounded" / request.request_id
    assert [row[1:] for row in features(folder, request.request_id)] == [("east", "DONE", None, 1)]


def test_side_files_describe_the_request_and_hold_no_secret(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/side.gpkg")
    request = client.create(
        payload(), client.geopackage_input(s3("orders/side.gpkg")), client.raster_output(s3("side"))
    )
    client.start_job(request)
    wait_for(client, request, "DONE")
    folder = bucket / "side" / request.request_id
    written = (folder / f"request-{request.request_id}.json").read_text()
    assert json.loads(written)["request"]["processRequest"]["evalscript"] == SIMPLE
    assert "very secret" not in written and "very secret" not in json.dumps(client.get_request(request).request)
    meta, _, geometry, columns = pyogrio.raw.read(
        folder / f"featureManifest-{request.request_id}.gpkg", layer=f"feature_{EPSG}"
    )
    rows = dict(zip(meta["fields"], columns, strict=True))
    assert set(rows["identifier"]) == {"west", "east"} and set(rows["outputId"]) == {"B02", "mask", "userdata"}
    assert f"s3://{BUCKET}/side/{request.request_id}/west/B02.tif" in rows["path"]
    assert len(geometry) == 6


def test_a_tiling_grid_covers_the_area(client: BatchProcessClient, bucket: Path, imagery: Imagery) -> None:
    lonlat = {
        "type": "Polygon",
        "coordinates": [[[15.001, 52.341], [15.005, 52.341], [15.005, 52.345], [15.001, 52.341]]],
    }
    process = payload(bounds={"geometry": lonlat})
    template = s3("grid/<requestId>/<tileName>/<outputId>.<format>")
    request = client.create(
        process, client.tiling_grid_input(1, 20, buffer_x=3, buffer_y=2), client.raster_output(template)
    )
    client.start_job(request)
    assert wait_for(client, request, "DONE", "FAILED").error is None
    folder = bucket / "grid" / request.request_id
    (row,) = features(folder, request.request_id)
    with rasterio.open(folder / row[1] / "mask.tif") as tiff:
        assert tiff.shape == (504, 506)
        assert tiff.res == (20, 20)
        assert tiff.read(1).any()


def test_a_tile_that_fails_is_fatal_inside_a_job_that_is_done(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/fatal.gpkg")
    fatal = SIMPLE.replace("return {B02", "if (s.dataMask) throw new Error('no luck'); return {B02")
    west_of_it = (LEFT - 1000, TOP - 640, LEFT - 500, TOP)
    package(
        bucket / "orders/fatal.gpkg",
        {"on": (LEFT, TOP - 640, LEFT + 640, TOP), "off": west_of_it},
        resolution=[10.0, 10.0],
    )
    request = client.create(
        payload(fatal), client.geopackage_input(s3("orders/fatal.gpkg")), client.raster_output(s3("fatal"))
    )
    client.start_job(request)
    assert wait_for(client, request, "DONE", "FAILED").status.value == "DONE"
    folder = bucket / "fatal" / request.request_id
    states = {row[1]: row[2:] for row in features(folder, request.request_id)}
    assert states["off"] == ("DONE", None, 1)
    assert states["on"][0] == "FATAL" and "no luck" in states["on"][1] and states["on"][2] == 0
    assert not (folder / "on").exists()
    assert not list(folder.glob(".*"))


def test_a_stopped_job_keeps_its_tiles_and_goes_on(client: BatchProcessClient, bucket: Path) -> None:
    rows = {f"row{i}": (LEFT, TOP - 20 * (i + 1), LEFT + 640, TOP - 20 * i) for i in range(32)}
    package(bucket / "orders/rows.gpkg", rows, width=np.full(32, 64), height=np.full(32, 2))
    request = client.create(
        payload(SLOW), client.geopackage_input(s3("orders/rows.gpkg")), client.raster_output(s3("rows"))
    )
    client.start_job(request)
    while not client.get_request(request).completion_percentage:
        time.sleep(0.05)
    client.stop_job(request)
    stopped = wait_for(client, request, "STOPPED", "DONE")
    assert (stopped.status.value, stopped.stopped_status_reason.value) == ("STOPPED", "USER_ACTION")
    folder = bucket / "rows" / request.request_id
    before = {row[1] for row in features(folder, request.request_id) if row[2] == "DONE"}
    assert 0 < len(before) < 32
    assert {path.name for path in folder.iterdir() if path.is_dir()} == before
    times = {name: (folder / name / "B02.tif").stat().st_mtime_ns for name in before}
    client.start_job(request)
    assert wait_for(client, request, "DONE").completion_percentage == 100
    assert {row[2] for row in features(folder, request.request_id)} == {"DONE"}
    assert {name: (folder / name / "B02.tif").stat().st_mtime_ns for name in before} == times


def test_orbit_tiffs_have_a_band_a_day(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/orbit.gpkg")
    process = payload(ORBIT)
    process["input"]["data"][0]["dataFilter"] = {}
    request = client.create(
        process, client.geopackage_input(s3("orders/orbit.gpkg")), client.raster_output(s3("orbit"), cog_output=True)
    )
    client.start_job(request)
    assert wait_for(client, request, "DONE", "FAILED").error is None
    with rasterio.open(bucket / "orbit" / request.request_id / "west/B02.tif") as tiff:
        assert (tiff.count, tiff.shape) == (2, (64, 32))
        assert tiff.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_requests_are_listed_in_pages_and_described(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/list.gpkg")
    made = [
        client.create(payload(), client.geopackage_input(s3("orders/list.gpkg")), client.raster_output(s3("list")))
        for _ in range(3)
    ]
    listed = [request.request_id for request in client.iter_requests(count=2)]
    assert listed[:3] == [request.request_id for request in reversed(made)]
    assert len(set(listed)) == len(listed)
    client.update_request(made[0], "a better name")
    assert client.get_request(made[0]).request["description"] == "a better name"


def test_tiling_grids_are_listed(client: BatchProcessClient) -> None:
    assert [grid["id"] for grid in client.iter_tiling_grids()] == [0, 1, 2, 3]
    assert client.get_tiling_grid(2)["properties"]["resolutions"] == [30, 60, 120, 240, 360]
    with pytest.raises(DownloadFailedException, match="tiling grid 9 does not exist"):
        client.get_tiling_grid(9)


@pytest.mark.parametrize(
    ("boxes", "columns", "said"),
    [
        (
            {"big": (0, 0, 40_000, 1000)},
            {"resolution": [10.0]},
            "big has 4000x100 px, the service allows 3500 px a side",
        ),
        ({"plain": (0, 0, 640, 640)}, {"size": [10.0]}, "needs the columns identifier and resolution"),
        ({"../out": (0, 0, 640, 640)}, {"resolution": [10.0]}, "'../out' is not usable"),
    ],
)
def test_a_package_that_cannot_be_used_fails_the_analysis(
    client: BatchProcessClient, bucket: Path, boxes: Any, columns: Any, said: str
) -> None:
    key = f"orders/{next(iter(columns))}-{len(said)}.gpkg"
    package(bucket / key, boxes, **columns)
    request = client.create(payload(), client.geopackage_input(s3(key)), client.raster_output(s3("bad")))
    client.start_analysis(request)
    failed = wait_for(client, request)
    assert failed.status.value == "FAILED" and said in str(failed.error)


def test_a_script_that_lacks_an_output_fails_the_analysis(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/lacks.gpkg")
    request = client.create(
        payload(outputs=("B02", "B99")),
        client.geopackage_input(s3("orders/lacks.gpkg")),
        client.raster_output(s3("bad")),
    )
    client.start_job(request)
    assert "Output B99 requested but missing from function setup" in str(wait_for(client, request).error)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("s3://elsewhere/tiffs", "bucket 'elsewhere' is not served here; there are: data"),
        (f"s3://{BUCKET}/../out", "leads out of bucket"),
        (f"s3://{BUCKET}/link/tiffs", "leads out of bucket"),
        (f"s3://{BUCKET}/tiffs/<tileName>.tif", "needs <tileName> and <outputId>"),
    ],
)
def test_deliveries_stay_in_their_bucket(
    client: BatchProcessClient, bucket: Path, tmp_path: Path, target: str, said: str
) -> None:
    link = bucket / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    with pytest.raises(DownloadFailedException) as refusal:
        client.create(
            payload(),
            client.geopackage_input(s3("orders/x.gpkg")),
            client.raster_output(s3_specification(target, iam_role_arn="arn")),
        )
    assert said in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_what_is_already_delivered_is_not_overwritten(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/twice.gpkg")
    target = s3("twice/<tileName>/<outputId>.<format>")

    def order(**options: bool) -> str:
        request = client.create(
            payload(), client.geopackage_input(s3("orders/twice.gpkg")), client.raster_output(target, **options)
        )
        client.start_job(request)
        ended = wait_for(client, request, "DONE", "FAILED")
        return f"{ended.status.value} {ended.error}"

    assert order() == "DONE None"
    first = (bucket / "twice/west/B02.tif").stat().st_mtime_ns
    assert "already delivered" in order()
    assert order(skip_existing=True) == "DONE None"
    assert (bucket / "twice/west/B02.tif").stat().st_mtime_ns == first
    (bucket / "twice/west/mask.tif").unlink()
    assert "B02.tif of west is already delivered" in order(skip_existing=True), "a part of a tile is not skipped"
    assert order(skip_existing=True, overwrite=True) == "DONE None"
    assert (bucket / "twice/west/mask.tif").exists()
    first = (bucket / "twice/west/B02.tif").stat().st_mtime_ns
    assert order(overwrite=True) == "DONE None"
    assert (bucket / "twice/west/B02.tif").stat().st_mtime_ns != first


def test_actions_that_make_no_sense_are_refused(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/sense.gpkg")
    request = client.create(
        payload(), client.geopackage_input(s3("orders/sense.gpkg")), client.raster_output(s3("sense"))
    )
    with pytest.raises(DownloadFailedException, match="stop is not possible in status CREATED"):
        client.stop_job(request)
    with pytest.raises(DownloadFailedException, match="does not exist"):
        client.get_request("00000000-0000-0000-0000-000000000000")
    assert SIDE == 64


def test_several_jobs_run_side_by_side(client: BatchProcessClient, bucket: Path) -> None:
    halves(bucket, "orders/side-by-side.gpkg")
    create: Callable[[], BatchProcessRequest] = lambda: client.create(  # noqa: E731
        payload(), client.geopackage_input(s3("orders/side-by-side.gpkg")), client.raster_output(s3("both"))
    )
    made = [create() for _ in range(3)]
    for request in made:
        client.start_job(request)
    assert {wait_for(client, request, "DONE", "FAILED").status.value for request in made} == {"DONE"}
