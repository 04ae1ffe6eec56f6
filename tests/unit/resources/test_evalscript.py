"""What scripts declare, and what becomes of those that misbehave. V8 runs for real, in its child process."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from eo_assets.core.evalscript import ScriptInput, ScriptOutput
from eo_assets.errors import EvalscriptError
from resources.local_sentinel_hub.evalscript import InputArray, ScriptProcess, ScriptSource, inspect_script
from resources.local_sentinel_hub.script_child import ScriptLimits
from resources.local_sentinel_hub.script_setup import parse_setup

BRIEF, PATIENT = ScriptLimits(call_s=1.0), ScriptLimits(call_s=300.0)


def script(setup: str, pixel: str = "return [1];", extra: str = "") -> str:
    return f"//VERSION=3\nfunction setup() {{ return {setup}; }}\nfunction evaluatePixel(s) {{ {pixel} }}\n{extra}"


def test_setup_is_found_by_running_it() -> None:
    text = script(
        """{input: [{bands: ["B02", "B03"], units: "DN"}], mosaicking: "ORBIT",
            output: ["A", "B"].map((id, i) => ({id, bands: i + 1, sampleType: "UINT16", nodataValue: 7}))}"""
    )
    found = inspect_script(text)
    assert found.inputs == (ScriptInput(None, ("B02", "B03"), ("DN", "DN")),)
    assert found.outputs == (ScriptOutput("A", 1, "UINT16", 7), ScriptOutput("B", 2, "UINT16", 7))
    assert found.mosaicking == "ORBIT"
    assert not found.fusion


@pytest.mark.parametrize(
    ("setup", "inputs"),
    [
        ('{input: ["B02"], output: {bands: 1}}', (ScriptInput(None, ("B02",), (None,)),)),
        ('{input: {bands: ["B02"]}, output: {bands: 1}}', (ScriptInput(None, ("B02",), (None,)),)),
        (
            '{input: [{datasource: "a", bands: ["X"]}, {datasource: "b", bands: ["Y"], units: ["DN"]}], output: 1}',
            (ScriptInput("a", ("X",), (None,)), ScriptInput("b", ("Y",), ("DN",))),
        ),
    ],
)
def test_the_forms_of_an_input(setup: str, inputs: tuple[ScriptInput, ...]) -> None:
    found = inspect_script(script(setup))
    assert found.inputs == inputs
    assert found.outputs == (ScriptOutput("default", 1, "AUTO"),)
    assert found.mosaicking == "SIMPLE"


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("{output: {bands: 1}}", "declares no input bands"),
        ('{input: ["B02"]}', "declares no output"),
        ('{input: ["B02"], output: {bands: 0}}', "bands must be a whole number from 1"),
        ('{input: ["B02"], output: {bands: 1e9}}', "bands must be a whole number"),
        ('{input: ["B02"], output: [{id: "A", bands: 1}, {id: "A", bands: 1}]}', "declares an output twice: A, A"),
        ('{input: ["B02"], output: {bands: 1}, mosaicking: "WEEK"}', "'WEEK' is none of SIMPLE, ORBIT, TILE"),
        ('{input: ["B02"], output: {bands: 1}, mosaicking: {}}', "is none of SIMPLE, ORBIT, TILE"),
        ('{input: [{bands: ["A", "B"], units: ["DN", "DN", "DN"]}], output: {bands: 1}}', "gives 3 units for 2 bands"),
        ('{input: [{bands: ["A"], datasource: "a"}, {bands: ["B"]}], output: {bands: 1}}', "for some inputs only"),
        ("7", "setup() must return an object"),
    ],
)
def test_what_breaks_a_rule_is_said(setup: str, said: str) -> None:
    with pytest.raises(EvalscriptError) as refusal:
        inspect_script(script(setup))
    assert said in str(refusal.value)


KEYS = st.sampled_from(["inputs", "outputs", "bands", "units", "id", "sampleType", "mosaicking", "datasource"])
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(KEYS, value, max_size=4),
    max_leaves=12,
)


@given(ANSWERS)
@settings(max_examples=200, deadline=None)
def test_no_answer_of_a_script_surprises_the_parser(answer: object) -> None:
    # The last four are what ScriptProcess turns into the first.
    with suppress(EvalscriptError, KeyError, TypeError, ValueError, AttributeError):
        parse_setup("//VERSION=3", answer)


@pytest.mark.parametrize(
    ("body", "limits", "said"),
    [
        ("while (true) {}", BRIEF, "stopped after 1 s in one call: is there an endless loop"),
        # All the time there is for those that end by something else: a busy machine fills memory slowly.
        ("throw new Error('enough')", PATIENT, "line 2: Error: enough"),
        ("const all = []; while (true) all.push(new Uint8Array(1 << 26).fill(1))", PATIENT, "memory|allocation failed"),
    ],
    ids=["time", "exception", "memory"],
)
def test_overrunning_a_limit_ends_the_script(body: str, limits: ScriptLimits, said: str) -> None:
    with pytest.raises(EvalscriptError, match=said):
        inspect_script(f"//VERSION=3\n{body}", limits)


def test_resident_memory_is_watched() -> None:
    tight = ScriptLimits(call_s=300.0, rss_bytes=200 << 20)
    with pytest.raises(EvalscriptError, match=r"used more than 200 MB of memory|ran out of memory"):
        inspect_script("//VERSION=3\nconst a = []; while (true) a.push(new Uint8Array(1 << 20).fill(1))", tight)


def test_the_child_has_no_environment_and_no_descriptor_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "do-not-tell")
    with ScriptProcess(script('{input: ["B"], output: {bands: 1}}')) as process:
        pid = process._child._process.pid
        proc = Path(f"/proc/{pid}")
        if not proc.is_dir():
            pytest.fail("this test reads /proc, which Linux has")
        assert b"do-not-tell" not in (proc / "environ").read_bytes()
        limits = {line[:26].strip(): line[26:].split()[0] for line in (proc / "limits").read_text().splitlines()[1:]}
        assert limits["Max open files"] == limits["Max file size"] == limits["Max core file size"] == "0"


def test_the_child_does_not_outlive_its_context() -> None:
    with ScriptProcess(script('{input: ["B"], output: {bands: 1}}')) as process:
        pid = process._child._process.pid
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)
    pytest.fail("the child is still there")


def test_blocks_pass_through_shared_memory_unchanged() -> None:
    text = script(
        '{input: [{bands: ["A", "B"]}], output: [{id: "sum", bands: 1, sampleType: "FLOAT32"}, '
        '{id: "pair", bands: 2, sampleType: "INT16"}]}',
        "return {sum: [s.A + s.B], pair: [s.B, -s.A]};",
    )
    with ScriptProcess(text) as process:
        plan = process.begin([ScriptSource(None, "", "", ())], {})
        inputs = [
            InputArray(0, "A", np.dtype(np.uint16), 1, None),
            InputArray(0, "B", np.dtype(np.float32), 1, 0.5),
        ]
        arrays, results = process.allocate(1001, [1], inputs, plan.outputs)
        for shift in (0, 7):
            a, b = np.arange(1001) + shift, np.linspace(-5, 5, 1001, dtype=np.float32)
            arrays[0][0, :1001], arrays[1][0, :1001] = a, b
            process.run(1001)
            assert_array_equal(results[0][0, :1001], (a + b.astype(np.float64) * 0.5).astype(np.float32))
            assert_array_equal(results[1][0, :1001], np.floor(b.astype(np.float64) * 0.5 + 0.5))
            assert_array_equal(results[1][1, :1001], -a)


def test_samples_of_orbits_are_in_the_order_the_script_chose() -> None:
    text = script(
        '{input: ["A"], output: {bands: 1, sampleType: "UINT16"}, mosaicking: "ORBIT"}',
        "return s.map(x => x.A);",
        """
function preProcessScenes(c) { c.scenes.orbits.reverse(); c.scenes.orbits.pop(); return c; }
function updateOutput(o, c) { o.default.bands = c.scenes.orbits.length; }
function updateOutputMetadata(scenes, i, o) { o.userData = scenes.orbits.map(x => x.dateFrom); }
""",
    )
    scenes = tuple({"dateFrom": day, "dateTo": day, "tiles": []} for day in "abc")
    with ScriptProcess(text) as process:
        plan = process.begin([ScriptSource(None, "2020-01-01", "2020-02-01", scenes)], {})
        assert plan.keep == ((2, 1),)
        assert plan.outputs[0].bands == 2
        arrays, results = process.allocate(8, [2], [InputArray(0, "A", np.dtype(np.uint16), 2, None)], plan.outputs)
        arrays[0][:] = [[3] * 8, [2] * 8]
        process.run(8)
        assert results[0].tolist() == [[3] * 8, [2] * 8]
        assert process.finish() == '["c","b"]'


def test_scenes_that_the_script_made_up_are_refused() -> None:
    text = script(
        '{input: ["A"], output: {bands: 1}, mosaicking: "ORBIT"}',
        extra="function preProcessScenes(c) { c.scenes.orbits = [{__idx: 9}]; return c; }",
    )
    with ScriptProcess(text) as process, pytest.raises(EvalscriptError, match="scenes that it was given"):
        process.begin([ScriptSource(None, "2020-01-01", "2020-02-01", ({"dateFrom": "a"},))], {})


def test_a_script_that_breaks_javascript_harms_only_itself() -> None:
    with pytest.raises(EvalscriptError):
        inspect_script(script('{input: ["A"], output: {bands: 1}}', extra="Array.prototype.map = () => 7;"))
    assert inspect_script(script('{input: ["A"], output: {bands: 1}}')).outputs[0].bands == 1


def test_a_single_output_may_be_returned_as_an_array_whatever_its_id() -> None:
    with ScriptProcess(script('{input: ["A"], output: {id: "B", bands: 1, sampleType: "UINT8"}}')) as process:
        plan = process.begin([ScriptSource(None, "", "", ())], {})
        _, results = process.allocate(8, [1], [InputArray(0, "A", np.dtype(np.uint16), 1, None)], plan.outputs)
        process.run(8)
        assert results[0].tolist() == [[1] * 8]
