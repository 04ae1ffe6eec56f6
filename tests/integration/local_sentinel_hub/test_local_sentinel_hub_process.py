"""Process requests of the unmodified client: pixel values, mosaicking, formats, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from sentinelhub import DataCollection, MimeType, SentinelHubRequest, SHConfig
from sentinelhub.constants import MosaickingOrder, ResamplingType
from sentinelhub.exceptions import DownloadFailedException

from .conftest import LEFT, ORBIT, SIDE, SIMPLE, TOP, Imagery

Process = Callable[..., Any]


def script(body: str, bands: str = '["B02"]', output: str = "{bands: 1, sampleType: 'UINT16'}", extra: str = "") -> str:
    """A short script with one input and one output."""
    return f"""//VERSION=3
function setup() {{ return {{input: {bands}, output: {output} {extra}}}; }}
function evaluatePixel(s) {{ {body} }}
"""


def test_simple_takes_the_first_scene_with_data_and_returns_the_files_values(
    process: Process, imagery: Imagery
) -> None:
    answer = process(SIMPLE, "B02", "B11", "mask", "userdata")
    for band in ("B02", "B11"):
        expected = np.where(np.arange(SIDE) < SIDE // 2, imagery.at_10_m("late", band), imagery.at_10_m("next", band))
        np.testing.assert_array_equal(answer[f"{band}.tif"], expected)
    assert (answer["mask.tif"] == 1).all()
    assert answer["userdata.json"]["dates"] == ["2020-06-11T10:00:00Z", "2020-06-01T10:05:00Z", "2020-06-01T10:00:00Z"]
    assert answer["userdata.json"]["factor"] == 0.0001


@pytest.mark.parametrize(
    ("order", "first"), [(MosaickingOrder.LEAST_RECENT, "early"), (MosaickingOrder.LEAST_CC, "early"), (None, "next")]
)
def test_mosaicking_order_decides_which_scene_is_on_top(
    process: Process, imagery: Imagery, order: MosaickingOrder | None, first: str
) -> None:
    values = process(SIMPLE, "B02", "mask", mosaicking_order=order)["B02.tif"]
    np.testing.assert_array_equal(values[10:, 32:], imagery.pixels[first, "B02"][10:, 32:])


def test_cloudy_scenes_are_left_out(process: Process, imagery: Imagery) -> None:
    answer = process(SIMPLE, "B02", "mask", "userdata", maxcc=0.2)
    assert answer["userdata.json"]["dates"] == ["2020-06-01T10:00:00Z"]
    np.testing.assert_array_equal(answer["B02.tif"], imagery.pixels["early", "B02"])
    np.testing.assert_array_equal(answer["mask.tif"], np.arange(SIDE)[:, None] >= np.full((1, SIDE), 10))


def test_orbit_gives_one_band_a_day_newest_first(process: Process, imagery: Imagery) -> None:
    answer = process(ORBIT, "B02", "mask", "userdata")
    assert answer["userdata.json"] == {"days": ["2020-06-11T00:00:00Z", "2020-06-01T00:00:00Z"]}
    assert answer["B02.tif"].shape == (SIDE, SIDE, 2)
    np.testing.assert_array_equal(answer["B02.tif"][..., 0], imagery.pixels["next", "B02"])
    np.testing.assert_array_equal(answer["B02.tif"][..., 1], imagery.pixels["late", "B02"])
    np.testing.assert_array_equal(answer["mask.tif"][..., 0], imagery.pixels["next", "B02"] > 0)


def test_orbit_without_a_scene_is_one_band_of_zeros_and_no_dates(process: Process) -> None:
    answer = process(ORBIT, "B02", "userdata", time_interval=("2019-01-01", "2019-02-01"))
    assert answer["userdata.json"] == {"days": []}
    assert answer["B02.tif"].shape == (SIDE, SIDE)
    assert not answer["B02.tif"].any()


def test_scenes_can_be_chosen_by_the_script(process: Process, imagery: Imagery) -> None:
    chosen = ORBIT + "function preProcessScenes(c) { c.scenes.orbits = c.scenes.orbits.slice(1); return c; }"
    answer = process(chosen, "B02", "userdata")
    assert answer["userdata.json"] == {"days": ["2020-06-01T00:00:00Z"]}
    np.testing.assert_array_equal(answer["B02.tif"], imagery.pixels["late", "B02"])


def test_reflectance_is_the_default_unit(process: Process, imagery: Imagery) -> None:
    values = process(script("return [s.B02]", output="{bands: 1, sampleType: 'FLOAT32'}"), maxcc=0.2)
    np.testing.assert_array_equal(values, (imagery.pixels["early", "B02"] * 0.0001).astype(np.float32))


@pytest.mark.parametrize(
    ("sample_type", "value", "expected"),
    [("UINT8", 254.5, 255), ("UINT8", 300, 255), ("UINT8", -3, 0), ("INT8", -0.5, 0), ("INT16", -40000, -32768),
     ("UINT16", "NaN", 0), ("AUTO", 0.5, 128), ("AUTO", 2, 255), ("INT8", -1.6, -2), ("UINT16", "Infinity", 65535)],
)  # fmt: skip
def test_integers_are_rounded_half_up_and_clamped(
    process: Process, sample_type: str, value: object, expected: int
) -> None:
    values = process(script(f"return [{value}]", output=f"{{bands: 1, sampleType: '{sample_type}'}}"), size=(4, 4))
    assert np.unique(values).tolist() == [expected]


def test_pixels_outside_of_every_file_are_zero_and_masked(process: Process, imagery: Imagery) -> None:
    west = (LEFT - 100, TOP - 640, LEFT + 540, TOP)
    answer = process(SIMPLE, "B02", "mask", maxcc=0.2, bounds=west)
    assert not answer["B02.tif"][:, :10].any() and not answer["mask.tif"][:, :10].any()
    np.testing.assert_array_equal(answer["B02.tif"][:, 10:], imagery.pixels["early", "B02"][:, :54])


def test_coarser_requests_are_resampled_as_asked(process: Process, imagery: Imagery) -> None:
    only = script("return [s.B02]", bands='[{bands: ["B02"], units: "DN"}]')
    times = ("2020-06-01T09:59:00Z", "2020-06-01T10:01:00Z")
    south = {"bounds": (LEFT, TOP - 640, LEFT + 640, TOP - 320), "time_interval": times}
    nearest = process(only, size=(32, 16), **south)
    assert np.isin(nearest, imagery.pixels["early", "B02"]).all()
    smooth = process(only, size=(32, 16), downsampling=ResamplingType.BILINEAR, **south)
    blocks = imagery.pixels["early", "B02"][32:].reshape(16, 2, 32, 2).mean((1, 3))
    assert abs(smooth.astype(float) - blocks).mean() < abs(nearest.astype(float) - blocks).mean()


def test_another_crs_sees_the_same_place(config: SHConfig, collection: DataCollection, imagery: Imagery) -> None:
    from sentinelhub import CRS, BBox

    box = BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS("32633")).transform(CRS.WGS84)
    values = SentinelHubRequest(
        evalscript=script("return [s.dataMask]", bands='["B02", "dataMask"]', output="{bands: 1, sampleType: 'UINT8'}"),
        input_data=[SentinelHubRequest.input_data(collection)],
        responses=[SentinelHubRequest.output_response("default", MimeType.TIFF)],
        bbox=box,
        size=(SIDE, SIDE),
        config=config,
    ).get_data()[0]
    assert values[8:-8, 8:-8].all()


def test_a_polygon_masks_what_is_outside(config: SHConfig, collection: DataCollection) -> None:
    from sentinelhub import CRS, Geometry
    from shapely.geometry import Polygon

    triangle = Polygon([(LEFT, TOP), (LEFT + 640, TOP), (LEFT, TOP - 640)])
    values = SentinelHubRequest(
        evalscript=script("return [s.dataMask]", bands='["dataMask"]', output="{bands: 1, sampleType: 'UINT8'}"),
        input_data=[SentinelHubRequest.input_data(collection)],
        responses=[SentinelHubRequest.output_response("default", MimeType.TIFF)],
        geometry=Geometry(triangle, CRS("32633")),
        size=(SIDE, SIDE),
        config=config,
    ).get_data()[0]
    assert values[0, 0] == 1 and values[-1, -1] == 0
    assert values.sum() == pytest.approx(SIDE**2 / 2, rel=0.05)


def test_several_datasources(process: Process, imagery: Imagery) -> None:
    data = [
        {"type": "sentinel-2-l1c", "id": "s2", "dataFilter": {"maxCloudCoverage": 20}},
        {"type": "byoc-share", "id": "share"},
    ]
    fused = """//VERSION=3
function setup() {
  return {input: [{datasource: "s2", bands: ["B02"], units: "DN"}, {datasource: "share", bands: ["SHARE"]}],
          output: {bands: 2, sampleType: "FLOAT32"}};
}
function evaluatePixel(samples) { return [samples.s2[0].B02, samples.share[0].SHARE]; }
"""
    values = process(fused, data=data)
    np.testing.assert_array_equal(values[..., 0], imagery.pixels["early", "B02"])
    assert 0 <= values[..., 1].min() <= values[..., 1].max() < 1


@pytest.mark.parametrize(
    ("kind", "bands"), [(MimeType.PNG, 3), (MimeType.PNG, 4), (MimeType.JPG, 3), (MimeType.PNG, 1)]
)
def test_pictures(process: Process, kind: MimeType, bands: int) -> None:
    picture = process(script(f"return new Array({bands}).fill(s.B02)", output=f"{{bands: {bands}}}"), kind=kind)
    assert picture.dtype == np.uint8
    assert picture.shape == ((SIDE, SIDE, bands) if bands > 1 else (SIDE, SIDE))


def test_metadata_alone_is_json(process: Process) -> None:
    assert process(SIMPLE, "userdata", maxcc=0.2)["dates"] == ["2020-06-01T10:00:00Z"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (script("return [x]"), "line 3: ReferenceError: x is not defined"),
        (script("throw new TypeError('no such luck')"), "no such luck"),
        (script("return [1, 2]"), "Output default requires 1 band(s), but evaluatePixel() returned 2"),
        (script("return"), "evaluatePixel() returned nothing"),
        (
            script("return [s.B03]", bands='["B03"]'),
            "Dataset sentinel-2-l1c has no band B03; it has: B02, B11, dataMask",
        ),
        (
            script("return [1]", bands='[{bands: ["B02"], units: "KELVIN"}]'),
            "has no unit KELVIN; it has: REFLECTANCE, DN",
        ),
        (script("return [1]", extra=", mosaicking: 'TILE'"), "mosaicking TILE is not supported"),
        (script("return [1]", output="{bands: 1, sampleType: 'UINT64'}"), "sampleType 'UINT64' is none of"),
        (script("return [1]", output="{id: '../up', bands: 1}"), "output id '../up' is not usable"),
        ("function setup() {}", "the script has no function evaluatePixel()"),
        (script("return [1]").replace("//VERSION=3", ""), "must begin with the line //VERSION=3"),
        ("//VERSION=3\nfunction setup( {", "SyntaxError"),
    ],
)
def test_a_broken_script_is_refused_with_its_own_words(process: Process, text: str, said: str) -> None:
    with pytest.raises(DownloadFailedException) as refusal:
        process(text)
    assert "RENDERER_EXCEPTION" in str(refusal.value)
    assert said in str(refusal.value).replace('\\"', '"')


def test_an_output_that_the_script_lacks_is_refused(process: Process) -> None:
    with pytest.raises(DownloadFailedException, match="Output B08 requested but missing from function setup"):
        process(SIMPLE, "B08")


@pytest.mark.parametrize(
    "hostile",
    [
        "while (true) {}",
        "const all = []; while (true) all.push(new ArrayBuffer(1 << 28));",
        "const all = []; while (true) all.push(new Uint8Array(1 << 26).fill(1));",
        "const all = []; while (true) all.push(new Array(100000).fill(Math.random()));",
        "let text = 'x'; while (true) text += text;",
        "(function f() { return f() + 1; })();",
    ],
)
def test_a_hostile_script_ends_and_the_service_lives(process: Process, imagery: Imagery, hostile: str) -> None:
    with pytest.raises(DownloadFailedException, match="RENDERER_EXCEPTION"):
        process(script(hostile), size=(4, 4))
    values = process(SIMPLE, "B02", "mask", maxcc=0.2)["B02.tif"]
    np.testing.assert_array_equal(values, imagery.pixels["early", "B02"])


def test_scripts_have_no_way_out(process: Process) -> None:
    names = [
        "process",
        "require",
        "fetch",
        "XMLHttpRequest",
        "WebAssembly",
        "SharedArrayBuffer",
        "setTimeout",
        "Deno",
        "module",
    ]
    count = " + ".join(f"(typeof {name} !== 'undefined')" for name in names)
    assert np.unique(process(script(f"return [{count}]"), size=(4, 4))).tolist() == [0]


def test_one_scripts_state_does_not_reach_the_next(process: Process) -> None:
    process(script("globalThis.left = 7; Array.prototype.slice = null; return [1]"), size=(4, 4))
    values = process(script("return [typeof left === 'undefined' ? 1 : 2]"), size=(4, 4))
    assert np.unique(values).tolist() == [1]


def test_sloppy_scripts_run(process: Process) -> None:
    assert np.unique(process(script("undeclared = 3; return [undeclared]"), size=(4, 4))).tolist() == [3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": (2501, 10)}, "2501x10 px is more than the 2500 px a side"),
        ({"data": [{"type": "sentinel-9"}]}, "collection 'sentinel-9' is not served here; there are: byoc-"),
        ({"data": [{"type": "sentinel-2-l1c", "dataFilter": {"mosaickingOrder": "best"}}]}, "mosaickingOrder"),
        ({"bounds": (LEFT, TOP, LEFT + 10, TOP)}, "left < right and bottom < top"),
    ],
)
def test_a_wrong_request_names_the_key_and_the_remedy(process: Process, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DownloadFailedException) as refusal:
        process(SIMPLE, "B02", **changes)
    assert said in str(refusal.value)


def test_errors_have_the_services_shape(config: SHConfig) -> None:
    from sentinelhub import SentinelHubSession

    headers = SentinelHubSession(config).session_headers
    answer = requests.post(f"{config.sh_base_url}/api/v1/process", json={"input": {}}, headers=headers, timeout=10)
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["code"]) == (400, 400, "COMMON_BAD_PAYLOAD")
    assert error["errors"][0]["parameter"] == "input.data"
    assert requests.post(f"{config.sh_base_url}/api/v1/process", json={}, timeout=10).status_code == 401
    missing = requests.get(f"{config.sh_base_url}/api/v1/nothing", headers=headers, timeout=10)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "COMMON_NOT_FOUND")
