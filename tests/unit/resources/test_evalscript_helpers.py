"""The helpers that scripts find beside them give what the service's documentation says they give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resources.local_sentinel_hub.evalscript import ScriptProcess, ScriptSource

MAX = 1.7976931348623157e308


def evaluate(*expressions: str, before: str = "") -> list[Any]:
    """The values of JavaScript expressions in a script."""
    text = f"""//VERSION=3
{before}
function setup() {{ return {{input: ["A"], output: {{bands: 1}}}}; }}
function evaluatePixel() {{}}
function updateOutputMetadata(s, i, o) {{ o.userData = [{", ".join(expressions)}]; }}
"""
    with ScriptProcess(text) as process:
        process.begin([ScriptSource(None, "", "", ())], {})
        found: list[Any] = json.loads(process.finish())
        return found


# Expression and result as documentation.dataspace.copernicus.eu has them (APIs/SentinelHub/Evalscript/Functions.html).
RAMP = "[[200, 0xFF0000], [300, 0x0000FF]]"
DOCUMENTED: dict[str, Any] = {
    f"new ColorMapVisualizer({RAMP}).process(199)": [1, 0, 0],
    f"new ColorMapVisualizer({RAMP}).process(200)": [1, 0, 0],
    f"new ColorMapVisualizer({RAMP}).process(299)": [1, 0, 0],
    f"new ColorMapVisualizer({RAMP}).process(300)": [0, 0, 1],
    "ColorMapVisualizer.createDefaultColorMap().process(0.15)": [1, 1, 0.2],
    f"new ColorRampVisualizer({RAMP}).process(199)": [1, 0, 0],
    f"new ColorRampVisualizer({RAMP}).process(250)": [0.4980392156862745, 0, 0.4980392156862745],
    "new ColorRampVisualizer([[200, [1,0,0]], [300, [0,0,1]]]).process(250)": [
        0.4980392156862745,
        0,
        0.4980392156862745,
    ],
    f"new ColorRampVisualizer({RAMP}).process(299)": [0.00784313725490196, 0, 0.9882352941176471],
    f"new ColorRampVisualizer({RAMP}).process(300)": [0, 0, 1],
    f"new ColorRampVisualizer({RAMP}).inverse().process(200)": [0, 0, 1],
    f"new ColorRampVisualizer({RAMP}, 0, 1).process(0.5)": [0.4980392156862745, 0, 0.4980392156862745],
    "ColorRampVisualizer.createRedTemperature(0, 1).process(0.0)": [0, 0, 0],
    "ColorRampVisualizer.createRedTemperature(0, 1).process(0.3)": [1, 0.43137254901960786, 0],
    "ColorRampVisualizer.createRedTemperature(0, 1).process(0.5)": [1, 0.5137254901960784, 0],
    "ColorRampVisualizer.createRedTemperature(0, 1).process(0.8)": [1, 0.8, 0.5764705882352941],
    "ColorRampVisualizer.createWhiteGreen(0, 1).process(0.3)": [0, 0.4, 0],
    "ColorRampVisualizer.createWhiteGreen(0, 1).process(0.5)": [0.3333333333333333, 0.6, 0],
    "ColorRampVisualizer.createWhiteGreen(0, 1).process(0.8)": [
        0.7490196078431373,
        0.8509803921568627,
        0.4980392156862745,
    ],
    "ColorRampVisualizer.createWhiteGreen().process(1.0)": [1, 1, 1],
    "ColorRampVisualizer.createBlueRed(0, 1).process(0.0)": [0, 0, 0.5019607843137255],
    "ColorRampVisualizer.createBlueRed(0, 1).process(0.3)": [0, 0.6980392156862745, 1],
    "ColorRampVisualizer.createBlueRed(0, 1).process(0.5)": [0.4980392156862745, 1, 0.4980392156862745],
    "ColorRampVisualizer.createBlueRed(0, 1).process(0.8)": [1, 0.2980392156862745, 0],
    "ColorRampVisualizer.createOceanColor(0, 10).process(20)": [105 / 255, 0, 0],
    "ColorGradientVisualizer.createRedTemperature(0, 1).process(0.3)": [0.43137254901960786, 0, 0],
    "ColorGradientVisualizer.createRedTemperature(0, 1).process(0.5)": [0.7176470588235294, 0.047058823529411764, 0],
    "ColorGradientVisualizer.createRedTemperature(0, 1).process(0.8)": [1, 0.6196078431372549, 0.2],
    "ColorGradientVisualizer.createWhiteGreen(0, 1).process(0.3)": [0, 0.2980392156862745, 0],
    "ColorGradientVisualizer.createWhiteGreen(0, 1).process(0.5)": [0.16862745098039217, 0.5019607843137255, 0],
    "ColorGradientVisualizer.createBlueRed(0, 1).process(0.3)": [0, 0.7019607843137254, 1],
    "ColorGradientVisualizer.createBlueRed(0, 1).process(0.5)": [0.5019607843137255, 1, 0.5019607843137255],
    "new HighlightCompressVisualizer(0.1, 0.4).process(0)": 0,
    "new HighlightCompressVisualizer(0.1, 0.4).process(0.25)": pytest.approx(0.5),
    "new HighlightCompressVisualizer(0.1, 0.4).process(0.376)": pytest.approx(0.92),
    "new HighlightCompressVisualizer(0.1, 0.4).process(0.4)": pytest.approx(0.9259, abs=1e-4),
    "new HighlightCompressVisualizer(0.1, 0.4).process(0.7)": pytest.approx(1),
    "new HighlightCompressVisualizer(0.1, 0.4).process(1.1)": 1,
    "new HighlightCompressVisualizer(0, 2).processList([1, 5])": [0.5, 1],
    "new HighlightCompressVisualizerSingle().process(0.5)": [0.5],
    "new DefaultVisualizer(0, 0.5).process(0.25)": 0.5,
    "int2rgb(255)": [0, 0, 255],
    "int2rgb(256)": [0, 1, 0],
    "int2rgb(65537)": [1, 0, 1],
    "rgb2int([0, 0, 255])": 255,
    "rgb2int([1, 0, 1])": 65537,
    "normalizeRGB([255, 0, 51])": [1, 0, 0.2],
    "combine([100, 0, 0], [0, 100, 0], 1)": [100, 0, 0],
    "combine([100, 0, 0], [0, 100, 0], 0)": [0, 100, 0],
    "combine([100, 0, 0], [0, 100, 0], 0.5)": [50, 50, 0],
    "index(0.6, 0.4)": pytest.approx(0.2),
    "index(0.5, -0.5)": 0,
    "inverse(2.0)": 0.5,
    "inverse(0)": MAX,
    "valueMap(5, [1, 3, 5, 7, 10], [100, 300, 500, 700, 900])": 500,
    "valueMap(1, [1, 3, 5, 7, 10], [100, 300, 500, 700, 900])": 100,
    "valueMap(2, [1, 3, 5, 7, 10], [100, 300, 500, 700, 900])": 300,
    "valueMap(12, [1, 3, 5, 7, 10], [100, 300, 500, 700, 900])": 900,
    "valueMap(50)": 50,
    "valueInterpolate(0, [-10, -5, 0, 5, 10], [-1000, -50, 0, 50, 1000])": 0,
    "valueInterpolate(-10, [-10, -5, 0, 5, 10], [-1000, -50, 0, 50, 1000])": -1000,
    "valueInterpolate(9, [-10, -5, 0, 5, 10], [-1000, -50, 0, 50, 1000])": 810,
    "valueInterpolate(50)": 50,
    "valueInterpolate(0.1, [0, 0.2], [[0, 0, 0], [0.1, 0.2, 0.5]])": [0.05, 0.1, 0.25],
    "colorBlend(3, [0, 1], [[0, 0], [1, 0.5]])": [1, 0.5],
    "JAVA_DOUBLE_MAX_VAL": MAX,
    "blueRed[0]": [1, 0x80],
}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return dict(zip(DOCUMENTED, evaluate(*DOCUMENTED), strict=True))


@pytest.mark.parametrize("expression", DOCUMENTED)
def test_helpers_give_the_documented_results(results: dict[str, Any], expression: str) -> None:
    assert results[expression] == DOCUMENTED[expression]


def test_a_script_may_take_the_name_of_a_helper() -> None:
    own = "const index = 5; let console = 6; class ColorRampVisualizer {}\nfunction inverse() { return 7; }"
    assert evaluate("index", "console", "inverse()", before=own) == [5, 6, 7]


def test_a_helper_hands_out_copies_of_its_colours() -> None:
    before = "const colours = [[1, 2], [3, 4]]; colorBlend(-1, [0, 1], colours)[0] = 9;"
    assert evaluate("colours[0][0]", before=before) == [1]
