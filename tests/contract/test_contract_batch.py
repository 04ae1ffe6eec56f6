"""Batch V2 as the product relies on it. One job is started in a run, since each costs 100 PU at least."""

from __future__ import annotations

import io
import json
import sqlite3
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from sentinelhub import BatchProcessClient, SHConfig
from sentinelhub.api.batch.process import BatchProcessRequest
from sentinelhub.exceptions import DownloadFailedException

from eo_assets.core.cost import SMALLEST_REQUEST, processing_units
from eo_assets.core.grid import SentinelHubGrid

from .budget import ROOM_PU, Budget
from .conftest import BOX, EPSG, LEFT, SIDE, TOP, Service, process_request
from .deployments import Bucket
from .test_contract_process import BANDS, SCRIPT

pytestmark = pytest.mark.bucket

HALVES = {"west": (LEFT, TOP - 640, LEFT + 320, TOP), "east": (LEFT + 320, TOP - 640, LEFT + 640, TOP)}
OUTPUTS = ("B02", "mask", "userdata")
LEAST_PU = SMALLEST_REQUEST["batch"]


@dataclass
class Job:
    """A job that ran from creation to its end, and all that was seen on the way."""

    request_id: str
    created: BatchProcessRequest
    seconds_until_known: float
    analysis: list[str]
    manifest: bytes
    states_before: dict[str, str]
    polls: list[BatchProcessRequest]


def features(bucket: Bucket, request_id: str) -> list[tuple[str, str, str | None]]:
    """(name, status, error) of each tile from the execution database."""
    data = bucket.get(f"tiffs/{request_id}/execution-{request_id}.sqlite")
    assert data is not None, "there is no execution database"
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(data)
        return db.execute("SELECT name, status, error FROM features ORDER BY name").fetchall()


def order(service: Service, bucket: Bucket) -> dict[str, Any]:
    """The output of a job: below tiffs/, by the service's default layout."""
    return BatchProcessClient.raster_output(service.deployment.delivery(bucket.url("tiffs")))


def texts(value: Any) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, dict | list):
        return [text for part in (value.values() if isinstance(value, dict) else value) for text in texts(part)]
    return [value] if isinstance(value, str) else []


def upload_halves(bucket: Bucket, folder: Path) -> str:
    """A GeoPackage of two tiles in the bucket; returns its key."""
    path = folder / "halves.gpkg"
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array([shapely.box(*box) for box in HALVES.values()])),
        field_data=[np.array(list(HALVES), dtype=object), np.array([10.0, 10.0])],
        fields=["identifier", "resolution"],
        layer="tiles",
        driver="GPKG",
        geometry_type="Polygon",
        crs=f"EPSG:{EPSG}",
    )
    key = f"orders/{uuid.uuid4()}.gpkg"
    bucket.put(key, path.read_bytes())
    return key


def known_after(client: BatchProcessClient, request_id: str) -> float:
    """Seconds after which a new request is found: right after its creation a 404 is possible."""
    started = time.monotonic()
    while True:
        try:
            client.get_request(request_id)
            return time.monotonic() - started
        except DownloadFailedException as error:
            status = getattr(getattr(error.request_exception, "response", None), "status_code", None)
            assert status == 404 and time.monotonic() - started < 120, error
            time.sleep(1)


@pytest.fixture(scope="module")
def client(config: SHConfig) -> BatchProcessClient:
    return BatchProcessClient(config)


@pytest.fixture(scope="module")
def job(
    service: Service,
    client: BatchProcessClient,
    bucket: Bucket,
    budget: Budget,
    tmp_path_factory: pytest.TempPathFactory,
) -> Job:
    """The one job that is started: two tiles of a GeoPackage, analysed, then run to its end."""
    estimate = processing_units([(SIDE, SIDE // 2)] * 2, BANDS, 1, mode="batch")
    spending = budget.reserve("Batch: two tiles of 32 x 64 px, two outputs and userdata", estimate)
    key = upload_halves(bucket, tmp_path_factory.mktemp("order"))
    package = client.geopackage_input(service.deployment.delivery(bucket.url(key)))
    created = client.create(
        process_request(SCRIPT, *OUTPUTS), package, order(service, bucket), description="eo-assets contract tests"
    )
    identity = created.request_id
    known = known_after(client, identity)
    client.start_analysis(identity)
    analysis = service.wait(
        lambda: client.get_request(identity).status.value, lambda status: status in ("ANALYSIS_DONE", "FAILED")
    )
    assert analysis[-1] == "ANALYSIS_DONE", client.get_request(identity).error
    manifest = bucket.get(f"tiffs/{identity}/featureManifest-{identity}.gpkg")
    before = {name: status for name, status, _ in features(bucket, identity)}
    client.start_job(identity)
    polls = service.wait(
        lambda: client.get_request(identity), lambda found: found.status.value in ("DONE", "FAILED", "STOPPED")
    )
    spending.cost_pu = polls[-1].cost_PU
    budget.observed["seconds until a new batch request was known"] = round(known, 1)
    budget.observed["statuses of the batch job"] = list(
        dict.fromkeys(["CREATED", *analysis, *(poll.status.value for poll in polls)])
    )
    return Job(identity, created, known, analysis, manifest or b"", before, polls)


def read_layers(data: bytes, folder: Path) -> dict[str, tuple[dict[str, Any], Any, str]]:
    """The layers of a GeoPackage: columns, geometries, CRS."""
    path = folder / "manifest.gpkg"
    path.write_bytes(data)
    found = {}
    for layer, _ in pyogrio.list_layers(path):
        meta, _, geometry, columns = pyogrio.raw.read(path, layer=layer)
        found[str(layer)] = (dict(zip(meta["fields"], columns, strict=True)), shapely.from_wkb(geometry), meta["crs"])
    return found


def test_a_new_job_is_created_and_waits(job: Job) -> None:
    assert (job.created.status.value, job.created.completion_percentage) == ("CREATED", 0)
    assert job.created.request["description"] == "eo-assets contract tests"
    assert set(job.analysis) <= {"CREATED", "ANALYSING", "ANALYSIS_DONE"}


def test_the_manifest_names_each_file_that_will_be(job: Job, tmp_path: Path) -> None:
    layers = read_layers(job.manifest, tmp_path)
    assert list(layers) == [f"feature_{EPSG}"]
    columns, geometry, crs = layers[f"feature_{EPSG}"]
    assert {"outputId", "identifier", "path", "width", "height"} <= set(columns)
    assert crs.endswith(str(EPSG)) or str(EPSG) in crs
    assert set(columns["identifier"]) == set(HALVES) and set(OUTPUTS[:2]) <= set(columns["outputId"])
    assert set(zip(columns["height"].tolist(), columns["width"].tolist(), strict=True)) == {(SIDE, SIDE // 2)}
    places = {name: shape.bounds for name, shape in zip(columns["identifier"], geometry, strict=True)}
    assert {name: tuple(map(round, bounds)) for name, bounds in places.items()} == HALVES


def test_tiles_wait_before_the_start_and_are_done_after_it(job: Job, bucket: Bucket) -> None:
    assert job.states_before == dict.fromkeys(HALVES, "PENDING")
    assert features(bucket, job.request_id) == [("east", "DONE", None), ("west", "DONE", None)]


def test_a_job_passes_through_known_statuses(job: Job) -> None:
    assert {poll.status.value for poll in job.polls} <= {"ANALYSIS_DONE", "PROCESSING", "DONE"}
    assert (job.polls[-1].status.value, job.polls[-1].completion_percentage) == ("DONE", 100)
    shares = [poll.completion_percentage for poll in job.polls]
    assert shares == sorted(shares)


def test_a_job_costs_at_least_a_hundred_units(job: Job) -> None:
    costs = [poll.cost_PU or 0 for poll in job.polls]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(LEAST_PU)


def test_tiles_are_delivered_by_name_and_output(job: Job, bucket: Bucket) -> None:
    for name, box in HALVES.items():
        data = {output: bucket.get(f"tiffs/{job.request_id}/{name}/{output}.tif") for output in OUTPUTS[:2]}
        for output, kind in (("B02", "uint16"), ("mask", "uint8")):
            with rasterio.open(io.BytesIO(data[output] or b"")) as tiff:
                assert (tiff.shape, tiff.dtypes, tiff.crs.to_epsg()) == ((SIDE, SIDE // 2), (kind,), EPSG)
                assert tuple(map(round, tiff.bounds)) == box
        userdata = bucket.get(f"tiffs/{job.request_id}/{name}/userdata.json")
        assert json.loads(userdata or b"{}")["dates"]


def test_the_request_is_kept_beside_its_tiles(job: Job, bucket: Bucket) -> None:
    kept = bucket.get(f"tiffs/{job.request_id}/request-{job.request_id}.json")
    assert kept is not None and SCRIPT in texts(json.loads(kept))


def test_a_job_that_is_done_is_not_started_again(job: Job, client: BatchProcessClient) -> None:
    with pytest.raises(DownloadFailedException):
        client.start_job(job.request_id)
    assert client.get_request(job.request_id).status.value == "DONE"


@pytest.fixture(scope="module")
def grid_job(service: Service, client: BatchProcessClient, bucket: Bucket) -> str:
    """A job on tiling grid 1 that is analysed and not started: it costs nothing."""
    grid = client.tiling_grid_input(grid_id=1, resolution=20, buffer_x=3, buffer_y=2)
    made = client.create(process_request(SCRIPT, *OUTPUTS), grid, order(service, bucket), description="eo-assets grid")
    known_after(client, made.request_id)
    client.start_analysis(made)
    seen = service.wait(
        lambda: client.get_request(made).status.value, lambda status: status in ("ANALYSIS_DONE", "FAILED")
    )
    assert seen[-1] == "ANALYSIS_DONE"
    return made.request_id


def test_tiles_of_a_grid_have_the_names_and_places_that_we_compute(
    grid_job: str, bucket: Bucket, tmp_path: Path
) -> None:
    data = bucket.get(f"tiffs/{grid_job}/featureManifest-{grid_job}.gpkg")
    told = {}
    for columns, geometry, crs in read_layers(data or b"", tmp_path).values():
        for i, name in enumerate(columns["identifier"]):
            size = (int(columns["height"][i]), int(columns["width"][i]))
            told[name] = (crs[-5:], size, tuple(map(round, geometry[i].bounds)))
    area = shapely.transform(shapely.box(*BOX), _to_lonlat)
    ours = SentinelHubGrid(1, 20.0, buffer_px=(2, 3)).tiles(area)
    assert set(told) == {tile.name for tile in ours}
    for tile in ours:
        assert told[tile.name][1:] == (tile.shape, tuple(map(round, tile.bounds)))


def test_a_job_is_stopped_with_its_reason_and_what_a_restart_does(
    service: Service, grid_job: str, client: BatchProcessClient, budget: Budget
) -> None:
    """Last in this file. Starting the job again is tried only if the budget has room for it."""
    client.stop_job(grid_job)
    seen = service.wait(lambda: client.get_request(grid_job), lambda found: found.status.value == "STOPPED")
    assert seen[-1].stopped_status_reason.value == "USER_ACTION"
    estimate = processing_units([(504, 506)], BANDS, 1, mode="batch")
    if not budget.allows(estimate + ROOM_PU):
        budget.observed["restart of a stopped job"] = "not tried, it could cost too much"
        return
    spending = budget.reserve("Batch: restart of a stopped job, one tile of 504 x 506 px", estimate)
    try:
        client.start_job(grid_job)
    except DownloadFailedException as refusal:
        assert 400 <= refusal.request_exception.response.status_code < 500
        budget.observed["restart of a stopped job"] = "refused"
        return
    ended = service.wait(lambda: client.get_request(grid_job), lambda found: found.status.value in ("DONE", "FAILED"))
    spending.cost_pu = ended[-1].cost_PU
    budget.observed["restart of a stopped job"] = "accepted"


def test_an_unknown_job_is_404(client: BatchProcessClient) -> None:
    with pytest.raises(DownloadFailedException) as refusal:
        client.get_request(str(uuid.uuid4()))
    assert refusal.value.request_exception.response.status_code == 404


def _to_lonlat(xy: Any) -> Any:
    from pyproj import Transformer

    return np.column_stack(Transformer.from_crs(EPSG, "OGC:CRS84", always_xy=True).transform(xy[:, 0], xy[:, 1]))
