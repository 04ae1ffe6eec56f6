"""A real service on a free port, two small collections of COGs written here, and the unmodified sentinelhub client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray
from sentinelhub import CRS, BBox, DataCollection, MimeType, SentinelHubRequest, SHConfig

from resources.local_sentinel_hub.credentials import Credentials
from resources.local_sentinel_hub.server import ServiceAddress, ServiceSettings, client_of, ensure_running, stop

LEFT, TOP, EPSG = 500_000, 5_800_000, 32633
SIDE = 64  # pixels of 10 m
BUCKET = "data"

SIMPLE = """//VERSION=3
function setup() {
  return {
    input: [{bands: ["B02", "B11", "dataMask"], units: "DN"}],
    output: [{id: "B02", bands: 1, sampleType: "UINT16"}, {id: "B11", bands: 1, sampleType: "UINT16"},
             {id: "mask", bands: 1, sampleType: "UINT8"}],
  };
}
function evaluatePixel(s) { return {B02: [s.B02], B11: [s.B11], mask: [s.dataMask]}; }
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {dates: scenes.tiles.map(t => t.date), factor: inputMetadata.normalizationFactor};
}
"""

ORBIT = """//VERSION=3
function setup() {
  return {
    input: [{bands: ["B02", "dataMask"], units: "DN"}],
    output: [{id: "B02", bands: 1, sampleType: "UINT16"}, {id: "mask", bands: 1, sampleType: "UINT8"}],
    mosaicking: "ORBIT",
  };
}
function updateOutput(outputs, collections) {
  Object.values(outputs).forEach(o => { o.bands = collections.scenes.length; });
}
function evaluatePixel(samples) {
  return {B02: samples.map(s => s.B02), mask: samples.map(s => s.dataMask)};
}
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {days: scenes.orbits.map(o => o.dateFrom)};
}
"""


@dataclass(frozen=True)
class Imagery:
    """The pixels of the collection, by (date, band), as they are in the files."""

    pixels: dict[tuple[str, str], NDArray[np.uint16]]

    def at_10_m(self, date: str, band: str) -> NDArray[np.uint16]:
        """The file's pixels, those of 20 m twice in each direction."""
        values = self.pixels[date, band]
        return np.kron(values, np.ones((SIDE // values.shape[0],) * 2, np.uint16)) if values.shape[0] < SIDE else values


def write_cog(
    path: Path, values: NDArray[Any], resolution: float = 10, nodata: float | None = None, **changes: Any
) -> Path:
    """A COG at the test's place."""
    profile = {
        "driver": "COG",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": values.dtype.name,
        "crs": f"EPSG:{EPSG}",
        "transform": Affine(resolution, 0, LEFT, 0, -resolution, TOP),
        "nodata": nodata,
        "compress": "deflate",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **{**profile, **changes}) as dataset:
        dataset.write(values, 1)
    return path


def make_imagery(folder: Path) -> tuple[Path, Imagery]:
    """Scenes: 1 June (cloud 10 %, rows 0-9 empty), five minutes later (60 %), 11 June (30 %, left half empty)."""
    random = np.random.default_rng(7)
    pixels, scenes = {}, []
    for date, time, cloud in (
        ("early", "2020-06-01T10:00:00Z", 10),
        ("late", "2020-06-01T10:05:00Z", 60),
        ("next", "2020-06-11T10:00:00Z", 30),
    ):
        files = {}
        for band, size, resolution in (("B02", SIDE, 10), ("B11", SIDE // 2, 20)):
            values = random.integers(1, 10_000, (size, size), dtype=np.uint16)
            if date == "early":
                values[: size * 10 // SIDE] = 0
            if date == "next":
                values[:, : size // 2] = 0
            pixels[date, band] = values
            files[band] = f"scenes/{date}_{band}.tif"
            write_cog(folder / files[band], values, resolution, nodata=0)
        scenes.append({"time": time, "cloud_cover": cloud, "files": files})
    share = random.random((SIDE, SIDE)).astype(np.float32)
    write_cog(folder / "scenes/share.tif", share, nodata=float("nan"))
    bands = {band: {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0} for band in ("B02", "B11")}
    declared = [
        {"type": "sentinel-2-l1c", "title": "A few scenes", "bands": bands, "scenes": scenes},
        {
            "type": "byoc-share",
            "bands": {"SHARE": {"sample_type": "FLOAT32"}},
            "scenes": [{"time": "2020-01-01T00:00:00Z", "files": {"SHARE": "scenes/share.tif"}}],
        },
    ]
    path = folder / "collections.yaml"
    path.write_text(yaml.safe_dump({"collections": declared}), encoding="utf-8")
    return path, Imagery(pixels)


def client_config(address: ServiceAddress, client: Credentials) -> SHConfig:
    """A client's configuration for the service; one attempt, so that a refusal is not waited for."""
    config = SHConfig(use_defaults=True)
    config.sh_client_id, config.sh_client_secret = client.client_id, client.client_secret
    config.sh_base_url, config.sh_token_url = address.base_url, address.token_url
    config.max_download_attempts, config.download_sleep_time = 1, 0.1
    return config


@pytest.fixture(scope="session", autouse=True)
def _plain_http() -> Iterator[None]:
    """The client refuses plain http for tokens unless told otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Imagery]:
    """The YAML file of collections, and their pixels."""
    return make_imagery(tmp_path_factory.mktemp("imagery"))


@pytest.fixture(scope="session")
def imagery(world: tuple[Path, Imagery]) -> Imagery:
    """The pixels of the collection."""
    return world[1]


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that plays the bucket."""
    return tmp_path_factory.mktemp("bucket")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the running service."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def address(world: tuple[Path, Imagery], bucket: Path, folder: Path) -> Iterator[ServiceAddress]:
    """A running service; scripts may take 3 s a block."""
    settings = ServiceSettings(folder, world[0], {BUCKET: bucket}, script_seconds=3)
    try:
        yield ensure_running(settings, timeout_s=120)
    finally:
        stop(folder)


@pytest.fixture(scope="session")
def config(address: ServiceAddress, folder: Path) -> SHConfig:
    """The client's configuration."""
    return client_config(address, client_of(folder))


@pytest.fixture(scope="session")
def collection(address: ServiceAddress) -> DataCollection:
    """The client's own Sentinel-2 L1C collection, bound to this service and no other host."""
    return DataCollection.SENTINEL2_L1C.define_from("LOCAL_S2_L1C", service_url=address.base_url)


@pytest.fixture(scope="session")
def process(config: SHConfig, collection: DataCollection) -> Callable[..., Any]:
    """Ask for outputs of a script over the scenes' place: process(script, *outputs, **changes) -> decoded answer."""

    def ask(script: str, *outputs: str, kind: MimeType = MimeType.TIFF, **changes: Any) -> Any:
        bounds = changes.pop("bounds", (LEFT, TOP - 640, LEFT + 640, TOP))
        size = changes.pop("size", (SIDE, SIDE))
        data = changes.pop("data", None) or [
            SentinelHubRequest.input_data(
                changes.pop("collection", collection),
                time_interval=changes.pop("time_interval", ("2020-06-01", "2020-06-30")),
                **changes,
            )
        ]
        responses = [
            SentinelHubRequest.output_response(name, MimeType.JSON if name == "userdata" else kind)
            for name in outputs or ("default",)
        ]
        return SentinelHubRequest(
            evalscript=script,
            input_data=data,
            responses=responses,
            bbox=BBox(bounds, CRS(str(EPSG))),
            size=size,
            config=config,
        ).get_data()[0]

    return ask
