"""The calls of the `sentinelhub` package, unmodified: what works, and what is refused in which words.

docs/sentinel-hub-compatibility.md is the table of these tests. Batch jobs and BYOC ingestion have files of their own.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentinelhub import (
    CRS,
    AsyncProcessRequest,
    BatchProcessClient,
    BatchRequestStatus,
    BBox,
    BBoxSplitter,
    CustomGridSplitter,
    DataCollection,
    Geometry,
    MimeType,
    MosaickingOrder,
    OsmSplitter,
    SentinelHubBatchStatistical,
    SentinelHubBYOC,
    SentinelHubCatalog,
    SentinelHubDownloadClient,
    SentinelHubRequest,
    SentinelHubSession,
    SentinelHubStatistical,
    SHConfig,
    TileSplitter,
    UtmGridSplitter,
    UtmZoneSplitter,
    WcsRequest,
    WebFeatureService,
    WmsRequest,
    get_async_running_status,
    monitor_batch_process_analysis,
    monitor_batch_process_job,
)
from sentinelhub.api.byoc import ByocCollection
from sentinelhub.api.catalog import get_available_timestamps
from sentinelhub.api.utils import s3_specification
from sentinelhub.evalscript import generate_evalscript
from sentinelhub.exceptions import DownloadFailedException

from .conftest import BUCKET, LEFT, SIDE, SIMPLE, TOP, Imagery

pytestmark = pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")  # of the client's own

JUNE = ("2020-06-01", "2020-06-30")
BOX = BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS("32633"))
TRUE_COLOUR = """//VERSION=3
function setup() { return {input: [{bands: ["B02", "B11"]}], output: {bands: 3}}; }
function evaluatePixel(s) { return [s.B02, s.B02, s.B11]; }
"""
FUSION = """//VERSION=3
function setup() {
  return {input: [{datasource: "old", bands: ["B02"], units: "DN"}, {datasource: "new", bands: ["B02"], units: "DN"}],
          output: [{id: "default", bands: 2, sampleType: "UINT16"}]};
}
function evaluatePixel(samples) { return [samples.old[0].B02, samples.new[0].B02]; }
"""


def not_offered(call: Callable[[], Any], said: str = "is not offered by the local Sentinel Hub") -> None:
    """The call is refused in these words."""
    with pytest.raises(DownloadFailedException) as refusal:
        call()
    assert said in str(refusal.value), str(refusal.value)


@pytest.fixture
def request_of(config: SHConfig, collection: DataCollection) -> Callable[..., SentinelHubRequest]:
    """`request_of(script, responses, **options)`: a Process request over the scenes."""

    def make(script: str, *responses: Any, data: Any = None, **options: Any) -> SentinelHubRequest:
        source = data or [
            SentinelHubRequest.input_data(collection, time_interval=JUNE, mosaicking_order=MosaickingOrder.LEAST_CC)
        ]
        place = {"bbox": BOX, "size": (SIDE, SIDE)} if "size" not in options and "resolution" not in options else {}
        return SentinelHubRequest(
            evalscript=script, input_data=source, responses=list(responses), config=config, **{**place, **options}
        )

    return make


# Process


def test_a_true_colour_picture_as_in_the_examples(
    request_of: Callable[..., SentinelHubRequest], imagery: Imagery
) -> None:
    request = request_of(TRUE_COLOUR, SentinelHubRequest.output_response("default", MimeType.PNG))
    (picture,) = request.get_data()
    expected = np.clip(np.floor(imagery.pixels["early", "B02"].astype(float) / 10_000 * 255 + 0.5), 0, 255)
    assert (picture.shape, picture.dtype) == ((SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(picture[10:, :, 0], expected[10:])


def test_several_outputs_come_as_one_archive(
    request_of: Callable[..., SentinelHubRequest], imagery: Imagery, tmp_path: Path
) -> None:
    responses = [SentinelHubRequest.output_response(name, MimeType.TIFF) for name in ("B02", "B11", "mask")]
    userdata = SentinelHubRequest.output_response("userdata", MimeType.JSON)
    request = request_of(SIMPLE, *responses, userdata, data_folder=str(tmp_path))
    (found,) = request.get_data(save_data=True)
    np.testing.assert_array_equal(found["B02.tif"][10:], imagery.pixels["early", "B02"][10:])
    np.testing.assert_array_equal(found["B11.tif"][10:], imagery.at_10_m("early", "B11")[10:])
    assert found["userdata.json"]["dates"][0] == "2020-06-01T10:00:00Z"
    assert len(list(tmp_path.glob("*/request.json"))) == len(list(tmp_path.glob("*/response.tar"))) == 1
    (again,) = request.get_data()  # from the folder
    np.testing.assert_array_equal(again["B02.tif"], found["B02.tif"])


def test_resolution_and_polygon(request_of: Callable[..., SentinelHubRequest], imagery: Imagery) -> None:
    west = Geometry(BBox((LEFT, TOP - 640, LEFT + 320, TOP), BOX.crs).geometry, BOX.crs)
    answer = SentinelHubRequest.output_response("mask", MimeType.TIFF)
    (mask,) = request_of(SIMPLE, answer, bbox=BOX, geometry=west, resolution=(20, 20)).get_data()
    assert mask.shape == (32, 32) and mask[:, :16].any() and not mask[:, 16:].any()


def test_data_fusion(
    request_of: Callable[..., SentinelHubRequest], collection: DataCollection, imagery: Imagery
) -> None:
    data = [
        SentinelHubRequest.input_data(collection, time_interval=interval, maxcc=0.5, identifier=name)
        for name, interval in (("old", ("2020-06-01", "2020-06-02")), ("new", ("2020-06-10", "2020-06-12")))
    ]
    (both,) = request_of(FUSION, SentinelHubRequest.output_response("default", MimeType.TIFF), data=data).get_data()
    np.testing.assert_array_equal(both[..., 0], imagery.pixels["early", "B02"])
    np.testing.assert_array_equal(both[..., 1], imagery.pixels["next", "B02"])


def test_many_requests_through_one_download_client(
    request_of: Callable[..., SentinelHubRequest], config: SHConfig, imagery: Imagery
) -> None:
    answer = SentinelHubRequest.output_response("B02", MimeType.TIFF)
    boxes = BBoxSplitter([BOX.geometry], BOX.crs, split_shape=(4, 4)).get_bbox_list()
    requests = [request_of(SIMPLE, answer, bbox=box, size=(16, 16)).download_list[0] for box in boxes]
    parts = SentinelHubDownloadClient(config=config).download(requests, max_threads=3)
    whole = np.zeros((SIDE, SIDE), np.uint16)
    for box, part in zip(boxes, parts, strict=True):
        row, column = round((TOP - box.max_y) / 10), round((box.min_x - LEFT) / 10)
        whole[row : row + 16, column : column + 16] = part
    np.testing.assert_array_equal(whole[10:], imagery.pixels["early", "B02"][10:])


@pytest.mark.parametrize(("digital", "scale"), [(True, 1), (False, 10_000)])
def test_the_clients_own_evalscript(
    request_of: Callable[..., SentinelHubRequest],
    collection: DataCollection,
    imagery: Imagery,
    digital: bool,
    scale: int,
) -> None:
    script = generate_evalscript(
        data_collection=collection, bands=["B02"], meta_bands=["dataMask"], prioritize_dn=digital
    )
    responses = [SentinelHubRequest.output_response(name, MimeType.TIFF) for name in ("B02", "dataMask")]
    (found,) = request_of(script, *responses).get_data()
    np.testing.assert_allclose(found["B02.tif"][10:], imagery.pixels["early", "B02"][10:] / scale, rtol=1e-6)
    assert found["dataMask.tif"].all()


def test_a_refusal_names_the_reason(request_of: Callable[..., SentinelHubRequest]) -> None:
    answer = SentinelHubRequest.output_response("default", MimeType.TIFF)
    not_offered(lambda: request_of(TRUE_COLOUR.replace("B11", "B99"), answer).get_data(), "has no band B99")
    large = request_of(TRUE_COLOUR, answer, bbox=BOX, size=(2501, 10))
    not_offered(lambda: large.get_data(), "2501x10 px is more than the 2500 px a side")


# Sessions


def test_a_session_is_handed_from_one_client_to_another(config: SHConfig) -> None:
    session = SentinelHubSession(config)
    assert session.info()["iss"] == "local-sentinel-hub"
    handed = SentinelHubSession.from_token(session.token)
    client = SentinelHubDownloadClient(config=config, session=handed)
    assert client.get_json_dict(f"{config.sh_base_url}/api/v2/batch/tilinggrids/0", use_session=True)["id"] == 0


# Catalog


@pytest.fixture(scope="module")
def catalog(config: SHConfig) -> SentinelHubCatalog:
    return SentinelHubCatalog(config=config)


def test_catalog_collections_and_items(catalog: SentinelHubCatalog, collection: DataCollection) -> None:
    assert "sentinel-2-l1c" in {found["id"] for found in catalog.get_collections()}
    assert catalog.get_collection(collection)["extent"]["temporal"]["interval"][0][1] == "2020-06-11T10:00:00Z"
    found = next(iter(catalog.search(collection, bbox=BOX, time=JUNE)))
    assert catalog.get_feature(collection, found["id"])["properties"] == found["properties"]


def test_catalog_search(catalog: SentinelHubCatalog, collection: DataCollection) -> None:
    def days(**query: Any) -> list[int]:
        times = catalog.search(collection, **{"time": JUNE, "bbox": BOX, **query}).get_timestamps()
        return [time.day * 100 + time.minute for time in times]

    clear = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 50]}
    assert days() == days(limit=1) == [1100, 105, 100]
    assert days(bbox=None, geometry=Geometry(BOX.geometry, BOX.crs)) == [1100, 105, 100]
    assert days(filter="eo:cloud_cover < 50") == days(filter=clear, filter_lang="cql2-json") == [1100, 100]
    assert days(filter="eo:cloud_cover > 20 AND eo:cloud_cover <= 30") == [1100]
    search = catalog.search(collection, bbox=BOX, time=JUNE)
    assert len(search.get_geometries()) == 3
    assert days(ids=search.get_ids()[:1]) == [1100]
    assert list(catalog.search(collection, bbox=BOX, time=JUNE, distinct="date")) == ["2020-06-11", "2020-06-01"]


def test_available_timestamps(config: SHConfig, collection: DataCollection) -> None:
    found = get_available_timestamps(
        BOX, JUNE, collection, time_difference=dt.timedelta(hours=1), maxcc=0.7, config=config
    )
    assert found == [dt.datetime(2020, 6, 1, 10), dt.datetime(2020, 6, 11, 10)]


def test_other_filters_are_refused(catalog: SentinelHubCatalog, collection: DataCollection) -> None:
    search = catalog.search(collection, bbox=BOX, time=JUNE, filter="platform='sentinel-2a'")
    not_offered(lambda: list(search), "only conditions on eo:cloud_cover, joined by AND")


# Splitting an area


@pytest.mark.parametrize(
    "split",
    [
        lambda: BBoxSplitter([BOX.geometry], BOX.crs, split_size=320),
        lambda: UtmZoneSplitter([BOX.geometry], BOX.crs, bbox_size=320),
        lambda: UtmGridSplitter([BOX.geometry], BOX.crs, bbox_size=320),
        lambda: CustomGridSplitter([BOX.geometry], BOX.crs, [BOX], bbox_split_shape=2),
        lambda: OsmSplitter([BOX.geometry], BOX.crs, zoom_level=15, reduce_bbox_sizes=True),
    ],
    ids=["BBoxSplitter", "UtmZoneSplitter", "UtmGridSplitter", "CustomGridSplitter", "OsmSplitter"],
)
def test_the_parts_of_a_split_area_cover_it(
    split: Callable[[], Any], request_of: Callable[..., SentinelHubRequest], imagery: Imagery
) -> None:
    """Every digital number of the scene is found in some part, whatever the grid."""
    answer = SentinelHubRequest.output_response("B02", MimeType.TIFF)
    seen: set[int] = set()
    for box in split().get_bbox_list():
        (part,) = request_of(SIMPLE, answer, bbox=box, resolution=(2.5, 2.5)).get_data()
        seen |= set(np.unique(part).tolist())
    scene = set(np.unique(imagery.pixels["early", "B02"][10:]).tolist())
    assert len(scene - seen) <= 0.01 * len(scene)


# Batch


def test_the_batch_example_from_creation_to_delivery(
    config: SHConfig, bucket: Path, request_of: Callable[..., SentinelHubRequest], imagery: Imagery
) -> None:
    client = BatchProcessClient(config)
    area = request_of(SIMPLE, SentinelHubRequest.output_response("B02", MimeType.TIFF), bbox=BOX, size=(1, 1))
    job = client.create(
        area,
        input=client.tiling_grid_input(grid_id=1, resolution=10),
        output=client.raster_output(client.s3_specification(f"s3://{BUCKET}/example", iam_role_arn="arn:aws:iam::1:x")),
        description="as in the examples",
    )
    client.start_analysis(job)
    analysed = monitor_batch_process_analysis(job, client, sleep_time=5)
    assert analysed.status is BatchRequestStatus.ANALYSIS_DONE
    client.start_job(job)
    while client.get_request(job).status is not BatchRequestStatus.DONE:  # the monitor sleeps a minute at least
        time.sleep(0.1)
    done = monitor_batch_process_job(job, client, sleep_time=60, analysis_sleep_time=5)
    assert (done.status, done.completion_percentage, done.cost_PU) == (BatchRequestStatus.DONE, 100, 100)
    client.update_request(job, "renamed")
    assert client.get_request(job).request["description"] == "renamed"
    assert job.request_id in {found.request_id for found in client.iter_requests()}
    delivered = list((bucket / "example" / job.request_id).glob("*/B02.tif"))
    assert len(delivered) == 1


def test_what_batch_does_not_offer(config: SHConfig) -> None:
    client = BatchProcessClient(config)
    place = client.s3_specification(f"s3://{BUCKET}/never", iam_role_arn="arn")
    bounds = {"bounds": {"bbox": list(BOX), "properties": {"crs": BOX.crs.opengis_string}}}
    order = {"input": {**bounds, "data": [{"type": "sentinel-2-l1c"}]}, "evalscript": SIMPLE}
    grid = client.tiling_grid_input(1, 10)
    not_offered(lambda: client.create(order, grid, client.zarr_output(place)), "output.type: Input should be 'raster'")
    collection = client.raster_output(place, create_collection=True)
    not_offered(lambda: client.create(order, grid, collection), "batch collections are not made here")


# BYOC


def test_byoc_collections(config: SHConfig) -> None:
    byoc = SentinelHubBYOC(config=config)
    made = byoc.create_collection(ByocCollection("a name that is looked for", BUCKET))
    assert [found["id"] for found in byoc.iter_collections(search="looked for")] == [made["id"]]
    byoc.update_collection({**made, "name": "another"})
    assert byoc.get_collection(made["id"])["name"] == "another"
    other = byoc.create_collection({"name": "other", "s3Bucket": BUCKET})
    not_offered(lambda: byoc.copy_tiles(made, other))
    for collection in (made, other):
        byoc.delete_collection(collection)
    not_offered(lambda: byoc.get_collection(made), f"BYOC collection {made['id']} does not exist")


# What is not offered


def test_other_services_are_refused_by_name(config: SHConfig, collection: DataCollection) -> None:
    statistics = SentinelHubStatistical(
        aggregation=SentinelHubStatistical.aggregation(SIMPLE, JUNE, "P1D", resolution=(10, 10)),
        input_data=[SentinelHubStatistical.input_data(collection)],
        bbox=BOX,
        config=config,
    )
    not_offered(lambda: statistics.get_data(), "POST /api/v1/statistics is not offered")
    not_offered(lambda: SentinelHubBatchStatistical(config).get_request("1"), "GET /api/v1/statistics/batch/1 is not")
    asynchronous = AsyncProcessRequest(
        evalscript=SIMPLE,
        input_data=[AsyncProcessRequest.input_data(collection, time_interval=JUNE)],
        responses=[AsyncProcessRequest.output_response("B02", MimeType.TIFF)],
        delivery=s3_specification(f"s3://{BUCKET}/async", iam_role_arn="arn"),
        bbox=BOX,
        size=(2, 2),
        config=config,
    )
    not_offered(lambda: asynchronous.get_data(), "POST /api/v1/async/process is not offered")
    assert get_async_running_status(["1"], config=config) == {"1": False}  # the client takes 404 for "has ended"


def test_ogc_services_are_refused_by_name(config: SHConfig, collection: DataCollection) -> None:
    with_instance = config.copy()
    with_instance.instance_id = "00000000-0000-0000-0000-000000000000"
    options = {"data_collection": collection, "layer": "TRUE-COLOR", "bbox": BOX, "config": with_instance}
    features = WebFeatureService(BOX, JUNE, data_collection=collection, config=with_instance)
    for call in (
        lambda: WmsRequest(time="2020-06-01", width=10, **options).get_data(),
        lambda: WcsRequest(time="2020-06-01", **options).get_data(),
        lambda: list(features),
    ):
        not_offered(call, "GET /ogc/wfs/00000000-0000-0000-0000-000000000000 is not offered")


def test_catalog_info_is_refused_by_name(catalog: SentinelHubCatalog) -> None:
    not_offered(lambda: catalog.get_info(), "GET /api/v1/catalog/1.0.0 is not offered")


def test_tile_splitter_needs_what_the_catalog_does_not_tell(config: SHConfig, collection: DataCollection) -> None:
    with pytest.raises(KeyError, match="proj:bbox"):
        TileSplitter([BOX.geometry], BOX.crs, JUNE, collection, config=config)
