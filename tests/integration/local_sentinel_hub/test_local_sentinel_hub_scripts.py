"""Evalscripts through the unmodified client against numpy; foreign ones over HTTP, while others are served."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from sentinelhub import CRS, BBox, DataCollection, MimeType, SentinelHubRequest, SentinelHubSession, SHConfig

from eo_assets.errors import EvalscriptError
from resources.local_sentinel_hub.collections import load_collections
from resources.local_sentinel_hub.process_request import parse_process_request
from resources.local_sentinel_hub.render import Job, render
from resources.local_sentinel_hub.script_child import ScriptLimits
from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop

from .conftest import EPSG, LEFT, SIDE, TOP, Imagery, client_config, write_cog
from .foreign_scripts import CASES, MORE_CASES, Case, MemoryWatch, body, script, send

DAYS = ("2020-06-01", "2020-06-11", "2020-06-21")  # the service gives the newest first
BANDS = ("B02", "B03", "B04", "B08")
GROWTH_BYTES = 256 << 20

Ask = Callable[..., Any]


@dataclass(frozen=True)
class Stack:
    """The pixels by band, (time, y, x), oldest day first: digital numbers, 0 is no data; CLM is 1 for cloud."""

    numbers: dict[str, NDArray[np.uint16]]
    clouds: NDArray[np.uint8]

    def reflectance(self, band: str) -> NDArray[np.float64]:
        """As a script sees it: a double, the digital number times the scale."""
        return self.numbers[band] * 0.0001

    @property
    def valid(self) -> NDArray[np.bool_]:
        """dataMask of a script that reads every band."""
        return np.all([self.numbers[band] > 0 for band in BANDS], axis=0)

    @property
    def ndvi(self) -> NDArray[np.float64]:
        """(B08 - B04) / (B08 + B04) of reflectances, 0 where the sum is 0."""
        near, red = self.reflectance("B08"), self.reflectance("B04")
        total = near + red
        return np.divide(near - red, total, out=np.zeros_like(total), where=total != 0)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stack]:
    """The file of a collection of three days, and its pixels."""
    folder = tmp_path_factory.mktemp("stack")
    random = np.random.default_rng(11)
    shape = (len(DAYS), SIDE, SIDE)
    numbers = {band: random.integers(1, 6000, shape, dtype=np.uint16) for band in BANDS}
    for band in BANDS:
        numbers[band][:, :4] = 0  # never any data
        numbers[band][2, :, 40:] = 0  # the newest day has none in the east
    numbers["B08"][1, 20:24] = 0  # one band alone lacks data
    clouds = (random.random(shape) < 0.3).astype(np.uint8)
    scenes = []
    for i, day in enumerate(DAYS):
        files = {band: f"{day}_{band}.tif" for band in (*BANDS, "CLM")}
        for band in BANDS:
            write_cog(folder / files[band], numbers[band][i], nodata=0)
        write_cog(folder / files["CLM"], clouds[i])
        scenes.append({"time": f"{day}T10:00:00Z", "cloud_cover": 10.0 * i, "files": files})
    bands: dict[str, Any] = {band: {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0} for band in BANDS}
    bands["CLM"] = {"sample_type": "UINT8"}
    path = folder / "collections.yaml"
    declared = [{"type": "sentinel-2-l1c", "bands": bands, "scenes": scenes}]
    path.write_text(yaml.safe_dump({"collections": declared}), encoding="utf-8")
    return path, Stack(numbers, clouds)


@pytest.fixture(scope="module")
def pixels(stack: tuple[Path, Stack]) -> Stack:
    """The collection's pixels."""
    return stack[1]


@pytest.fixture(scope="module")
def ask(stack: tuple[Path, Stack], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask a service of that collection: ask(script, *outputs, interval=...) -> decoded answer."""
    folder = tmp_path_factory.mktemp("scripts-service")
    try:
        address = ensure_running(ServiceSettings(folder, stack[0]), timeout_s=120)
        config = client_config(address, client_of(folder))
        collection = DataCollection.SENTINEL2_L1C.define_from("LOCAL_SCRIPTS_L1C", service_url=address.base_url)

        def process(text: str, *outputs: str, interval: tuple[str, str] = (DAYS[0], DAYS[2]), **changes: Any) -> Any:
            return SentinelHubRequest(
                evalscript=text,
                input_data=[SentinelHubRequest.input_data(collection, time_interval=interval, **changes)],
                responses=[
                    SentinelHubRequest.output_response(name, MimeType.JSON if name == "userdata" else MimeType.TIFF)
                    for name in outputs or ("default",)
                ],
                bbox=BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS(str(EPSG))),
                size=(SIDE, SIDE),
                config=config,
            ).get_data()[0]

        yield process
    finally:
        stop(folder)


INDEX = """//VERSION=3
function setup() {
  return {input: ["B04", "B08"], output: {bands: 1, sampleType: SampleType.FLOAT32}};
}
function evaluatePixel(sample) { return [index(sample.B08, sample.B04)]; }
"""


def test_an_index_is_float32_of_the_double(ask: Ask, pixels: Stack) -> None:
    values = ask(INDEX, interval=(DAYS[0], DAYS[0]))
    np.testing.assert_array_equal(values, pixels.ndvi[0].astype(np.float32))


def test_simple_takes_the_newest_day_whose_bands_all_have_data(ask: Ask, pixels: Stack) -> None:
    values = ask(INDEX)
    has_data = [(pixels.numbers["B04"][day] > 0) & (pixels.numbers["B08"][day] > 0) for day in (2, 1, 0)]
    expected = np.select(has_data, [pixels.ndvi[day] for day in (2, 1, 0)], 0)
    np.testing.assert_array_equal(values, expected.astype(np.float32))


TRUE_COLOUR = """//VERSION=3
let viz = new HighlightCompressVisualizer(0.0, 0.4);
let green = ColorRampVisualizer.createWhiteGreen(-0.5, 1);
function setup() {
  return {
    input: ["B02", "B03", "B04", "B08", "dataMask"],
    output: [{id: "default", bands: 4}, {id: "ndvi", bands: 3, sampleType: "AUTO"}],
  };
}
function evaluatePixel(s) {
  return {
    default: viz.processList([s.B04, s.B03, s.B02, s.dataMask]),
    ndvi: green.process(index(s.B08, s.B04)),
  };
}
"""


def auto(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """AUTO: from [0, 1] to [0, 255], rounded half up, clamped."""
    return np.clip(np.floor(values * 255 + 0.5), 0, 255).astype(np.uint8)


def test_true_colour_with_visualizers(ask: Ask, pixels: Stack) -> None:
    answer = ask(TRUE_COLOUR, "default", "ndvi", interval=(DAYS[0], DAYS[0]))
    layers = [pixels.reflectance(band)[0] for band in ("B04", "B03", "B02")] + [pixels.valid[0].astype(float)]
    linear = np.stack(layers, axis=-1) / 0.4
    compressed = np.where(linear > 0.92, 0.92 + (linear - 0.92) * 0.08 / 1.08, linear)
    np.testing.assert_array_equal(answer["default.tif"], auto(np.clip(compressed, 0, 1)))

    # createWhiteGreen: black, dark green, light green, white at 0, 0.3, 0.6, 1 of the way from -0.5 to 1
    limits = -0.5 + np.array([0, 0.3, 0.6, 1]) * 1.5
    levels = np.array([[0, 0, 0], [0x00, 0x66, 0x00], [0x80, 0xB3, 0x00], [255, 255, 255]], float)
    i = np.clip(np.searchsorted(limits, pixels.ndvi[0], side="left"), 1, 3)
    share = ((pixels.ndvi[0] - limits[i - 1]) / (limits[i] - limits[i - 1]))[..., None]
    inside = np.clip(levels[i - 1] + (levels[i] - levels[i - 1]) * share, 0, 255)
    ramp = np.where((pixels.ndvi[0] <= limits[0])[..., None], levels[0], inside)
    np.testing.assert_array_equal(answer["ndvi.tif"], auto(np.floor(ramp) / 255))


CLOUD_MASK = """//VERSION=3
function setup() {
  return {
    input: [{bands: ["B02", "B03", "B04", "B08", "CLM", "dataMask"], units: ["DN", "DN", "DN", "DN", "DN", "DN"]}],
    output: {bands: 4, sampleType: "UINT16", nodataValue: 65535},
  };
}
function evaluatePixel(s) {
  if (s.dataMask === 0 || s.CLM === 1) return [65535, 65535, 65535, 65535];
  return [s.B02, s.B03, s.B04, s.B08];
}
"""


def test_a_cloud_mask(ask: Ask, pixels: Stack) -> None:
    values = ask(CLOUD_MASK, interval=(DAYS[1], DAYS[1]))
    clear = pixels.valid[1] & (pixels.clouds[1] == 0)
    numbers = np.stack([pixels.numbers[band][1] for band in BANDS], axis=-1)
    np.testing.assert_array_equal(values, np.where(clear[..., None], numbers, 65535))
    assert 0.4 < clear.mean() < 0.8


COMPOSITE = """//VERSION=3
function setup() {
  return {
    input: [{bands: ["B02", "B03", "B04", "B08", "CLM", "dataMask"]}],
    output: [
      {id: "rgb", bands: 3, sampleType: "UINT16"}, {id: "ndvi", bands: 1, sampleType: "FLOAT32"},
      {id: "day", bands: 1, sampleType: "INT8"},
    ],
    mosaicking: Mosaicking.ORBIT,
  };
}
function evaluatePixel(samples, scenes, inputMetadata) {
  let best = -1, most = -2;
  for (let i = 0; i < samples.length; i++) {
    const value = index(samples[i].B08, samples[i].B04);
    if (samples[i].dataMask && !samples[i].CLM && value > most) { most = value; best = i; }
  }
  if (best < 0) return {rgb: [0, 0, 0], ndvi: [NaN], day: [-1]};
  const s = samples[best], f = inputMetadata.normalizationFactor;
  return {
    rgb: [s.B04 / f, s.B03 / f, s.B02 / f], ndvi: [most], day: [new Date(scenes.orbits[best].dateFrom).getUTCDate()],
  };
}
"""


def test_a_composite_of_the_highest_ndvi_over_orbits(ask: Ask, pixels: Stack) -> None:
    answer = ask(COMPOSITE, "rgb", "ndvi", "day")
    usable = pixels.valid & (pixels.clouds == 0)
    ndvi = np.where(usable, pixels.ndvi, -2)[::-1]  # newest first: of equal values the newest wins
    best = len(DAYS) - 1 - ndvi.argmax(0)
    none = ~usable.any(0)
    rows, columns = np.indices(best.shape)
    rgb = np.stack([pixels.numbers[band][best, rows, columns] for band in ("B04", "B03", "B02")], axis=-1)
    np.testing.assert_array_equal(answer["rgb.tif"], np.where(none[..., None], 0, rgb))
    np.testing.assert_array_equal(answer["ndvi.tif"], np.where(none, np.nan, ndvi.max(0)).astype(np.float32))
    np.testing.assert_array_equal(answer["day.tif"], np.where(none, -1, np.array([1, 11, 21])[best]))
    assert none.any() and (~none).any()


MULTI = """//VERSION=3
function setup() {
  return {
    input: [{bands: ["B04", "B08", "dataMask"], units: ["reflectance", "DN", "DN"]}],
    output: [
      {id: "B04", bands: 1, sampleType: "FLOAT32"}, {id: "B08", bands: 1, sampleType: "UINT16"},
      {id: "mask", bands: 1, sampleType: "UINT8"}, {id: "unasked", bands: 1},
    ],
    mosaicking: "ORBIT",
  };
}
function preProcessScenes(collections) {
  const days = (collections.to - collections.from) / 86400000;
  if (!(days > 19 && days < 22)) throw new Error("from and to are no dates: " + days);
  collections.scenes.orbits = collections.scenes.orbits.filter((orbit) => !orbit.dateFrom.startsWith("2020-06-11"));
  collections.scenes.orbits.sort((a, b) => new Date(a.dateFrom) - new Date(b.dateFrom));
  return collections;
}
let months = [];
function updateOutput(outputs, collection) {
  months = collection.scenes.map((scene) => scene.date.getUTCMonth() + 1);
  ["B04", "B08", "mask"].forEach((id) => { outputs[id].bands = collection.scenes.length; });
}
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {
    months, days: scenes.orbits.map((orbit) => orbit.dateFrom), ends: scenes.orbits.map((orbit) => orbit.dateTo),
    clouds: scenes.orbits.map((orbit) => orbit.tiles[0].cloudCoverage), factor: inputMetadata.normalizationFactor,
    ä: "ß\\u0000\\ud800",
  };
}
function evaluatePixel(samples, scenes) {
  if (samples.length !== scenes.orbits.length) throw new Error("a sample a scene");
  return {
    B04: samples.map((s) => s.B04), B08: samples.map((s) => s.B08), mask: samples.map((s) => s.dataMask), unasked: [0],
  };
}
"""


def test_several_outputs_with_userdata(ask: Ask, pixels: Stack) -> None:
    answer = ask(MULTI, "B04", "B08", "mask", "userdata")
    chosen = [0, 2]  # oldest first, as the script sorts them
    mask = (pixels.numbers["B04"] > 0) & (pixels.numbers["B08"] > 0)
    for name, expected in (
        ("B04", pixels.reflectance("B04").astype(np.float32)),
        ("B08", pixels.numbers["B08"]),
        ("mask", mask.astype(np.uint8)),
    ):
        np.testing.assert_array_equal(answer[f"{name}.tif"], np.moveaxis(expected[chosen], 0, -1))
        assert answer[f"{name}.tif"].dtype == expected.dtype
    assert answer["userdata.json"] == {
        "months": [6, 6],
        "days": ["2020-06-01T00:00:00Z", "2020-06-21T00:00:00Z"],
        "ends": ["2020-06-01T23:59:59Z", "2020-06-21T23:59:59Z"],
        "clouds": [0, 20],
        "factor": 0.0001,
        "ä": "ß\0\ud800",
    }


def test_a_script_that_is_asked_for_userdata_alone_may_return_nothing(ask: Ask) -> None:
    text = script("", "function updateOutputMetadata(s, i, o) { o.userData = {count: s.tiles.length}; }")
    assert ask(text, "userdata") == {"count": 3}


# The rest goes to the service that the other tests of this folder share, where a script may take 3 s a block.


@pytest.fixture(scope="session")
def headers(config: SHConfig) -> dict[str, str]:
    """A token."""
    return dict(SentinelHubSession(config).session_headers)


@pytest.fixture(scope="session")
def service_pid(config: SHConfig, folder: Path) -> int:
    """The process of the running service."""
    return int(json.loads((folder / "service.json").read_text(encoding="utf-8"))["pid"])


@pytest.mark.parametrize("case", [*CASES.values(), *MORE_CASES.values()], ids=[*CASES, *MORE_CASES])
def test_a_foreign_script_is_answered_while_others_are_served(
    config: SHConfig, headers: dict[str, str], service_pid: int, imagery: Imagery, case: Case
) -> None:
    good = Case(script("return [s.B02];"), "")
    send(config.sh_base_url, headers, good)  # what the first request costs the service is not the script's doing
    found: list[Any] = []
    neighbour = threading.Thread(target=lambda: found.append(send(config.sh_base_url, headers, good)))
    with MemoryWatch(service_pid) as watch:
        neighbour.start()
        answer = send(config.sh_base_url, headers, case)
        neighbour.join()
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (400, 400)
    assert (error["reason"], error["code"]) == ("Bad Request", "RENDERER_EXCEPTION")
    assert error["message"] == f"Failed to evaluate script!\n{error['message'].partition(chr(10))[2]}"
    assert any(text in error["message"] for text in case.said.split(" | "))
    assert found[0].status_code == 200
    assert found[0].content == send(config.sh_base_url, headers, good).content
    assert watch.before > 0
    assert watch.peak < watch.before + GROWTH_BYTES and watch.after < watch.before + GROWTH_BYTES


def test_a_tile_that_is_too_large_is_refused_before_a_file_of_it_is_there(
    world: tuple[Path, Imagery], tmp_path: Path
) -> None:
    request = parse_process_request(body(Case(script("return [1, 1];", output="{id: 'a', bands: 2}"), "", 64, "a")))
    job = Job(request, request.grid, load_collections(world[0]))
    assert ScriptLimits().of_response.output_bytes < ScriptLimits().output_bytes
    render(job, tmp_path, ScriptLimits(output_bytes=2 * 64 * 64))
    (tmp_path / "a.tif").unlink()
    with pytest.raises(EvalscriptError, match=r"the outputs take .* \(4096 pixels, bands a: 2\), the limit is"):
        render(job, tmp_path, ScriptLimits(output_bytes=2 * 64 * 64 - 1))
    assert not list(tmp_path.iterdir())
