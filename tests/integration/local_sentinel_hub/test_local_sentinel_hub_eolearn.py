"""eo-learn's own tasks against the local service, unmodified: their downloads as pixels, their refusals as text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sentinelhub import CRS, BBox, DataCollection, SentinelHubSession, SHConfig
from sentinelhub.exceptions import DownloadFailedException

from resources.local_sentinel_hub.server import ServiceAddress, ServiceSettings, client_of, ensure_running, stop

from .conftest import LEFT, SIDE, TOP, Imagery, client_config, write_cog

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

BOX = BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS("32633"))
JUNE = ("2020-06-01", "2020-06-30")
SCRIPT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B02", "dataMask"], units: "DN"}],
          output: [{id: "B02", bands: 1, sampleType: "UINT16"}, {id: "mask", bands: 1, sampleType: "UINT8"}]};
}
function evaluatePixel(s) { return {B02: [s.B02], mask: [s.dataMask]}; }
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {scenes: scenes.tiles.length};
}
"""


def test_sentinelhub_evalscript_task_fills_an_eopatch(
    config: SHConfig, collection: DataCollection, imagery: Imagery
) -> None:
    from eolearn.core import FeatureType
    from eolearn.io import SentinelHubEvalscriptTask

    task = SentinelHubEvalscriptTask(
        features=[(FeatureType.DATA, "B02"), (FeatureType.MASK, "mask"), (FeatureType.META_INFO, "userdata")],
        evalscript=SCRIPT,
        data_collection=collection,
        resolution=10,
        maxcc=0.5,
        time_difference=dt.timedelta(minutes=1),
        config=config,
        max_threads=2,
    )
    patch = task.execute(bbox=BOX, time_interval=JUNE)
    assert [time.day for time in patch.timestamps] == [1, 11]
    assert patch.data["B02"].shape == (2, SIDE, SIDE, 1)
    np.testing.assert_array_equal(patch.data["B02"][0, ..., 0], imagery.pixels["early", "B02"])
    np.testing.assert_array_equal(patch.data["B02"][1, ..., 0], imagery.pixels["next", "B02"])
    assert patch.meta_info["userdata"] == [{"scenes": 1}, {"scenes": 1}]


def test_sentinelhub_evalscript_task_without_time(
    config: SHConfig, collection: DataCollection, imagery: Imagery
) -> None:
    from eolearn.core import FeatureType
    from eolearn.io import SentinelHubEvalscriptTask

    task = SentinelHubEvalscriptTask(
        features=[(FeatureType.DATA_TIMELESS, "B02")],
        evalscript=SCRIPT,
        data_collection=collection,
        size=(SIDE, SIDE),
        mosaicking_order="leastCC",
        config=config,
    )
    patch = task.execute(bbox=BOX, time_interval=JUNE)
    np.testing.assert_array_equal(patch.data_timeless["B02"][10:, :, 0], imagery.pixels["early", "B02"][10:])


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint16, 1), (np.float32, 10_000)])
def test_sentinelhub_input_task(
    config: SHConfig, collection: DataCollection, imagery: Imagery, dtype: Any, scale: int
) -> None:
    from eolearn.core import FeatureType
    from eolearn.io import SentinelHubInputTask

    task = SentinelHubInputTask(
        data_collection=collection,
        bands=["B02", "B11"],
        bands_feature=(FeatureType.DATA, "L1C_data"),
        additional_data=[(FeatureType.MASK, "dataMask")],
        bands_dtype=dtype,
        resolution=10,
        maxcc=0.5,
        time_difference=dt.timedelta(minutes=1),
        config=config,
        max_threads=3,
        session_loader=lambda: SentinelHubSession(config),
    )
    patch = task.execute(bbox=BOX, time_interval=JUNE)
    assert [time.day for time in patch.timestamps] == [1, 11]
    assert patch.data["L1C_data"].shape == (2, SIDE, SIDE, 2)
    for i, date in enumerate(("early", "next")):
        for j, band in enumerate(("B02", "B11")):
            expected = imagery.at_10_m(date, band).astype(float) / scale
            np.testing.assert_allclose(patch.data["L1C_data"][i, ..., j], expected, rtol=1e-6)
    np.testing.assert_array_equal(patch.mask["dataMask"][0, ..., 0], imagery.pixels["early", "B02"] > 0)


def test_sentinelhub_input_task_as_one_mosaic(config: SHConfig, collection: DataCollection, imagery: Imagery) -> None:
    from eolearn.core import FeatureType
    from eolearn.io import SentinelHubInputTask

    task = SentinelHubInputTask(
        data_collection=collection,
        bands=["B02"],
        bands_feature=(FeatureType.DATA, "BANDS"),
        resolution=10,
        bands_dtype=np.uint16,
        single_scene=True,
        mosaicking_order="leastRecent",
        config=config,
    )
    patch = task.execute(bbox=BOX, time_interval=JUNE)
    assert patch.data["BANDS"].shape == (1, SIDE, SIDE, 1)
    np.testing.assert_array_equal(patch.data["BANDS"][0, 10:, :, 0], imagery.pixels["early", "B02"][10:])


def test_a_band_that_the_collection_lacks_is_refused_by_name(config: SHConfig, collection: DataCollection) -> None:
    from eolearn.core import FeatureType
    from eolearn.io import SentinelHubInputTask

    task = SentinelHubInputTask(
        data_collection=collection, additional_data=[(FeatureType.MASK, "CLM")], resolution=10, config=config
    )
    with pytest.raises(DownloadFailedException, match="sentinel-2-l1c has no band CLM; it has: B02, B11, dataMask"):
        task.execute(bbox=BOX, time_interval=JUNE)


@pytest.fixture
def service_with_heights(tmp_path: Path) -> Iterator[tuple[ServiceAddress, SHConfig, np.ndarray]]:
    """A service whose YAML file declares a DEM, and its heights (y, x) in metres."""
    heights = np.linspace(-3, 120, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    write_cog(tmp_path / "heights.tif", heights)
    scenes = [{"time": "2021-04-22T00:00:00Z", "files": {"DEM": "heights.tif"}}]
    declared = {
        "type": "dem",
        "bands": {"DEM": {"sample_type": "FLOAT32", "units": "METERS", "scale": 1}},
        "scenes": scenes,
    }
    (tmp_path / "collections.yaml").write_text(yaml.safe_dump({"collections": [declared]}))
    folder = tmp_path / "service"
    try:
        address = ensure_running(ServiceSettings(folder, tmp_path / "collections.yaml"), timeout_s=120)
        yield address, client_config(address, client_of(folder)), heights
    finally:
        stop(folder)


def test_sentinelhub_dem_task(service_with_heights: tuple[ServiceAddress, SHConfig, np.ndarray]) -> None:
    from eolearn.io import SentinelHubDemTask

    address, config, heights = service_with_heights
    dem = DataCollection.DEM_COPERNICUS_30.define_from("LOCAL_DEM", service_url=address.base_url)
    patch = SentinelHubDemTask(feature="dem", data_collection=dem, resolution=10, config=config).execute(bbox=BOX)
    np.testing.assert_array_equal(patch.data_timeless["dem"][..., 0], heights)


def test_sentinelhub_dem_task_without_a_declared_dem(config: SHConfig, address: ServiceAddress) -> None:
    from eolearn.io import SentinelHubDemTask

    dem = DataCollection.DEM.define_from("NO_DEM", service_url=address.base_url)
    with pytest.raises(DownloadFailedException, match="collection 'dem' is not served here; there are: "):
        SentinelHubDemTask(data_collection=dem, resolution=10, config=config).execute(bbox=BOX)


def test_get_available_timestamps_of_eolearn(config: SHConfig, collection: DataCollection) -> None:
    from eolearn.io import get_available_timestamps

    found = get_available_timestamps(bbox=BOX, time_interval=JUNE, data_collection=collection, config=config)
    assert found == [dt.datetime(2020, 6, *time) for time in ((1, 10, 0), (1, 10, 5), (11, 10, 0))]


def test_a_workflow_downloads_saves_and_imports_a_tiff(
    config: SHConfig,
    collection: DataCollection,
    imagery: Imagery,
    tmp_path: Path,
) -> None:
    """Download, export to TIFF, import again: eo-learn's nodes around the service in one workflow."""
    from eolearn.core import EONode, EOPatch, EOWorkflow, FeatureType, OutputTask
    from eolearn.io import ExportToTiffTask, ImportFromTiffTask, SentinelHubEvalscriptTask

    feature = (FeatureType.DATA_TIMELESS, "B02")
    download = EONode(SentinelHubEvalscriptTask([feature], SCRIPT, collection, resolution=10, config=config))
    export = EONode(ExportToTiffTask(feature, str(tmp_path)), inputs=[download])
    result = EOWorkflow([download, export, EONode(OutputTask("patch"), inputs=[export])]).execute(
        {download: {"bbox": BOX, "time_interval": ("2020-06-11", "2020-06-12")}, export: {"filename": "one.tiff"}}
    )
    np.testing.assert_array_equal(result.outputs["patch"][feature][..., 0], imagery.pixels["next", "B02"])
    read = ImportFromTiffTask(feature, str(tmp_path)).execute(EOPatch(bbox=BOX), filename="one.tiff")
    np.testing.assert_array_equal(read[feature], result.outputs["patch"][feature])


def test_these_are_all_of_eolearns_sentinel_hub_tasks() -> None:
    """SentinelHubSen2corTask is gone since eo-learn 1.5."""
    import eolearn.io

    offered = {name for name in dir(eolearn.io) if name.startswith("SentinelHub")}
    assert offered == {"SentinelHub" + kind for kind in ("DemTask", "EvalscriptTask", "InputTask")}
