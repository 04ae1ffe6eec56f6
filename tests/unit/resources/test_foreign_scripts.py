"""Scripts that mean harm, or do it by accident: each ends with a message for its author, and nothing else happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eo_assets.errors import EvalscriptError
from resources.local_sentinel_hub import evalscript_worker
from resources.local_sentinel_hub.evalscript import InputArray, ScriptProcess, ScriptSource
from resources.local_sentinel_hub.script_child import ScriptLimits

# A loop is ended by the clock; what ends by itself gets all the time there is, because a busy machine is slow.
BRIEF, PATIENT = ScriptLimits(call_s=1.0), ScriptLimits(call_s=300.0)
STOPPED = "the evalscript was stopped after 1 s in one call: is there an endless loop?"
SIMPLE, ORBIT = '{input: ["A"], output: {bands: 1}}', '{input: ["A"], output: {bands: 1}, mosaicking: "ORBIT"}'
UINT8 = '{input: ["A"], output: {bands: 1, sampleType: "UINT8"}}'
PIXELS = 1000


def script(pixel: str = "return [1];", extra: str = "", setup: str = SIMPLE, head: str = "function") -> str:
    return f"//VERSION=3\nfunction setup() {{ return {setup}; }}\n{head} evaluatePixel(s) {{ {pixel} }}\n{extra}"


def userdata(value: str) -> str:
    return script(extra=f"function updateOutputMetadata(s, i, o) {{ {value} }}")


def run(text: str, limits: ScriptLimits = PATIENT) -> tuple[list[int], str]:
    """Everything that a request does with a script: the distinct values of its output, and the user data as JSON."""
    scenes = tuple({"dateFrom": day, "dateTo": day, "tiles": []} for day in "abc")
    with ScriptProcess(text, limits) as process:
        plan = process.begin([ScriptSource(None, "2020-01-01", "2020-02-01", scenes)], {})
        samples = len(plan.keep[0]) if process.setup.mosaicking == "ORBIT" else 1
        inputs = [InputArray(0, "A", np.dtype(np.uint16), samples, None)]
        arrays, results = process.allocate(PIXELS, [samples], inputs, plan.outputs)
        arrays[0][:] = 5
        process.run(PIXELS)
        return np.unique(results[0][:, :PIXELS]).tolist(), process.finish()


LOOPS = {
    "while it is read": script(extra="while (true) {}"),
    "setup": script(setup="(() => { while (true) {} })()"),
    "evaluatePixel": script("while (true) {}"),
    "preProcessScenes": script(setup=ORBIT, extra="function preProcessScenes() { while (true) {} }"),
    "updateOutput": script(setup=ORBIT, extra="function updateOutput() { while (true) {} }"),
    "updateOutputMetadata": userdata("while (true) {}"),
    "a microtask": script("Promise.resolve().then(() => { while (true) {} }); return [1];"),
    "microtasks without end": script(extra="(function again() { Promise.resolve().then(again); })();"),
    "a regular expression": script("return [/^(a+)+$/.test('a'.repeat(40) + 'b') ? 1 : 0];"),
    "toJSON": userdata("o.userData = {toJSON() { while (true) {} }};"),
    "a getter of userData": userdata("Object.defineProperty(o, 'userData', {get() { while (true) {} }});"),
    "a proxy as result": script("return new Proxy([1], {get() { while (true) {} }});"),
    "valueOf of a result": script("return [{valueOf() { while (true) {} }}];"),
    "toString of what is thrown": script("throw {toString() { while (true) {} }};"),
    "the message of what is thrown": script(
        "const e = new Error(); Object.defineProperty(e, 'message', {get() { while (true) {} }}); throw e;"
    ),
    "every object's then": script(
        extra="Object.defineProperty(Object.prototype, 'then', {get() { while (true) {} }});"
    ),
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_an_endless_loop_is_stopped_wherever_it_is(text: str) -> None:
    with pytest.raises(EvalscriptError, match=re.escape(STOPPED)):
        run(text, BRIEF)


# At the very brink V8 may miss the memory for its own needs: then the process ends.
ALLOCATION = "line 3: RangeError: Array buffer allocation failed|the evalscript ran out of memory"
FORM = r"setup\(\) must return an object with input and output"
# text of the script, and what its author reads
REFUSED = {
    "one huge ArrayBuffer": (script("return [new ArrayBuffer(8e9).byteLength];"), ALLOCATION),
    "many ArrayBuffers": (script("const a = []; while (true) a.push(new ArrayBuffer(1 << 20));"), ALLOCATION),
    "a buffer that grows": (
        script("const b = new ArrayBuffer(8, {maxByteLength: 4e9}); b.resize(4e9); new Uint8Array(b).fill(1);"),
        "Out of memory|Invalid array buffer max length|allocation failed|ran out of memory|more than 1024 MB",
    ),
    "a string that doubles": (script("let t = 'x'; while (true) t += t;"), "line 3: RangeError: Invalid string length"),
    "many strings": (
        script("const a = []; while (true) a.push('x'.repeat(1e6) + a.length);"),
        "used up its JavaScript heap; keep less data between pixels|ran out of memory",
    ),
    "many objects": (
        script("const a = []; while (true) a.push({x: 1, y: [2]});"),
        "used up its JavaScript heap; keep less data between pixels|ran out of memory",
    ),
    "deep recursion": (script("return (function f() { return f() + 1; })();"), "line 3: RangeError: Maximum call"),
    "deep nesting": (script(extra="var a = " + "(" * 200_000 + "1" + ")" * 200_000), "RangeError: Maximum call stack"),
    "1 GB of userData": (
        userdata("o.userData = Array(100).fill('x'.repeat(1e7));"),
        "outputMetadata.userData can't be written as JSON: RangeError: Invalid string length|ran out of memory",
    ),
    "40 MB of userData": (
        userdata("o.userData = 'x'.repeat(4e7);"),
        "outputMetadata.userData is larger than 8388608 characters of JSON; return less",
    ),
    "userData with cycles": (
        userdata("o.userData = {}; o.userData.me = o.userData;"),
        "outputMetadata.userData can't be written as JSON: TypeError: Converting circular structure to JSON",
    ),
    "userData of BigInt": (userdata("o.userData = 1n;"), "userData can't be written as JSON: TypeError: Do not know"),
    "throws": (script("throw new TypeError('no such luck');"), "line 3: TypeError: no such luck"),
    "throws null": (script("throw null;"), "line 3: null"),
    "throws undefined": (script("throw undefined;"), "line 3: undefined"),
    "throws a symbol": (script("throw Symbol('a');"), "line 3: <string conversion failed>"),
    "throws an object": (script("throw {code: 7};"), r"line 3: \[object Object\]"),
    "throws what has no text": (script("throw {toString() { throw 1; }};"), "line 3: <string conversion failed>"),
    "throws half a surrogate": (script("throw new Error('a\\ud800b\\u0000c');"), "line 3: Error: a\ufffdb"),
    "throws under its own name": (script("throw new Error('x:1: y');", "//# sourceURL=a.js"), "line 3: Error: x:1: y"),
    "valueOf throws": (script("return [{valueOf() { throw new Error('no value'); }}];"), "line 3: Error: no value"),
    "BigInt as result": (
        script("return [1n];", setup=UINT8),
        "what the script returned can't be used: TypeError: Cannot convert a BigInt value to a number",
    ),
    "symbol as result": (script("return [Symbol()];", setup=UINT8), "can't be used: TypeError: Cannot convert a Sym"),
    "wrong length": (script("return [1, 2];"), r"Output default requires 1 band\(s\), but .* returned 2"),
    "negative length": (script("return {default: {length: -1}};"), r"requires 1 band\(s\), but .* returned -1"),
    "async evaluatePixel": (script(head="async function"), r"evaluatePixel\(\) returned a Promise; it can't be async"),
    "generator": (script("yield [1];", head="function*"), r"evaluatePixel\(\) returned an iterator; it can't be a gen"),
    "async setup": (script().replace("function setup", "async function setup"), r"setup\(\) returned a Promise"),
    "NUL as code": (script(extra="\0"), "line 4: SyntaxError: Invalid or unexpected token"),
    "half a surrogate as code": (script(extra="'\ud800'"), "it holds half of a surrogate pair; save it as UTF-8"),
    "a band without a text": (script(setup='{input: ["\\ud800"], output: {bands: 1}}'), "input bands by name, not"),
    "a band of 1 MB": (script(setup='{input: ["x".repeat(1e6)], output: {bands: 1}}'), "input bands by name, not"),
    "a setup of 5 MB": (script(setup='{input: ["x".repeat(5e6)], output: {bands: 1}}'), "is larger than 1048576 char"),
    "a thousand outputs": (
        script(setup='{input: ["A"], output: [...Array(1000).keys()].map(i => ({id: "o" + i, bands: 1}))}'),
        "declares 1000 outputs, the limit is 256",
    ),
    "one scene many times": (
        script(
            setup=ORBIT, extra="function preProcessScenes(c) { c.scenes.orbits.push(c.scenes.orbits[0]); return c; }"
        ),
        "return each scene that it was given at most once",
    ),
    "a million scenes": (
        script(
            setup=ORBIT,
            extra="function preProcessScenes(c) { c.scenes.orbits = Array(1e6).fill(c.scenes.orbits[0]); return c; }",
        ),
        "chose is larger than 1048576 characters",
    ),
    "a position that is none": (
        script(setup=ORBIT, extra="function preProcessScenes(c) { c.scenes.orbits[0].__idx = true; return c; }"),
        "scenes that it was given, not new ones",
    ),
    "answers made useless": (script(extra="Array.prototype.map = () => 7;"), FORM),
    "another push": (script(extra="Array.prototype.push = () => 7;"), "SyntaxError: .* is not valid JSON"),
    "toJSON for all": (script(extra="Object.prototype.toJSON = () => 5;"), FORM),
    "its name for the driver": (script("return __evalscript_driver__.run(1);"), "__evalscript_driver__ is not defined"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_the_author_reads_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(EvalscriptError, match=said) as refusal:
        run(text)
    message = str(refusal.value)
    assert len(message) < 1100 and message.isprintable()


@pytest.mark.parametrize("thrown", ["'x'.repeat(1e7)", "new Error('x'.repeat(1e7))"])
def test_a_message_of_10_mb_is_cut(thrown: str) -> None:
    with pytest.raises(EvalscriptError, match=r"line 3: (Error: )?x{900,1000} \.\.\.$"):
        run(script(f"throw {thrown};"))


def test_cpu_time_is_limited_and_named() -> None:
    with pytest.raises(EvalscriptError, match="used more than 2 s of CPU time; ask for fewer pixels or dates"):
        run(script("while (true) {}"), ScriptLimits(call_s=300.0, cpu_s=2))


HARMLESS = {
    "not a number": (script("return [NaN];"), [0]),
    "infinity": (script("return [Infinity];"), [255]),
    "number as text": (script("return ['7'];", setup=UINT8), [7]),
    "proxy": (script("return new Proxy([7], {});", setup=UINT8), [7]),
    "NUL in a text": (script(extra="const a = 'a\0b';"), [255]),
    "20 MB of comment": (script(extra="//" + "x" * 20_000_000), [255]),
    "20 MB of code": (script(extra="const a = [" + "1," * 10_000_000 + "];"), [255]),
    "last value of 500 MB": (script(extra="'a'.repeat(5e8);"), [255]),
    "last value a promise": (script(extra="new Promise(() => {});"), [255]),
    "import": (script("import('/etc/passwd').catch(() => {}); return [7];", setup=UINT8), [7]),
    "the driver's old name": (script(extra="const __evalscript_driver__ = {run() {}};"), [255]),
    "no built-ins left": (script(extra="JSON = Promise = eval = Function = Array = Uint8Array = null;"), [255]),
    "another Function": (script(extra="Function = Function.prototype.constructor = () => () => {};"), [255]),
    "getters for all": (script(extra="Object.defineProperty(Object.prototype, 'length', {get: () => 7});"), [255]),
    "toJSON for texts": (script(extra="String.prototype.toJSON = () => 7;"), [255]),
    "no way to wait": (
        script(
            "return [[typeof Atomics, typeof SharedArrayBuffer, typeof WebAssembly, typeof setTimeout, "
            "typeof __timer_manager].every(t => t === 'undefined') ? 7 : 8];",
            setup=UINT8,
        ),
        [7],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "values"), HARMLESS.values(), ids=HARMLESS)
def test_what_is_odd_but_no_fault_runs(text: str, values: list[int]) -> None:
    assert run(text)[0] == values


LEAKS = {
    "caller": "const f = arguments.callee.caller; if (f) found.push(f);",
    "stack trace": """
        const before = Error.prepareStackTrace;
        Error.prepareStackTrace = (e, sites) => sites.slice(1).map(site => [site.getFunction(), site.getThis()]);
        for (const [f, self] of new Error().stack) if (f || (self && self !== globalThis)) found.push(f || self);
        Error.prepareStackTrace = before;""",
    "caller of a getter": """
        return [{valueOf: function () { const f = arguments.callee.caller; if (f) found.push(f); return 1; }}];
    """,
}


@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS)
def test_the_code_that_runs_a_script_is_out_of_its_reach(body: str) -> None:
    text = script(
        f"{body} return [1];",
        "const found = [];\nfunction updateOutputMetadata(s, i, o) { o.userData = found.map(String); }",
    )
    assert run(text) == ([255], "[]")


def test_memory_of_pixels_can_not_be_freed_by_the_script() -> None:
    """With ArrayBuffers, transfer() freed memory that the worker went on reading."""
    steal = """
const stolen = [], map = Array.prototype.map;
Array.prototype.map = function (f) { const r = map.call(this, f); stolen.push(...r); return r; };
function updateOutputMetadata(s, i, o) {
  const arrays = stolen.filter(x => ArrayBuffer.isView(x));
  o.userData = {stolen: arrays.length, kind: String(arrays[0].buffer),
                moved: arrays.filter(x => x.buffer.transfer).length,
                growable: arrays.filter(x => x.buffer.growable).length};
}"""
    values, found = run(script("return [1];", steal))
    assert values == [255]
    assert json.loads(found) == {"stolen": 2, "kind": "[object SharedArrayBuffer]", "moved": 0, "growable": 0}


@pytest.mark.parametrize(
    ("value", "text"),
    [("'\\ud800'", r'"\ud800"'), ("[NaN, Infinity]", "[null,null]"), ("() => 1", "null"), ("undefined", "null")],
)
def test_user_data_is_valid_json_whatever_it_was(value: str, text: str) -> None:
    assert run(userdata(f"o.userData = {value};"))[1] == text


def test_user_data_of_a_hundred_thousand_levels_passes_unparsed() -> None:
    text = run(userdata("let x = []; for (let i = 0; i < 1e5; i++) x = [x]; o.userData = x;"))[1]
    assert text == "[" * 100_001 + "]" * 100_001


def test_an_answer_that_the_parent_did_not_expect_is_refused() -> None:
    deep = "let x = []; for (let i = 0; i < 1e5; i++) x = [x];"
    with pytest.raises(EvalscriptError, match="no JSON of a few levels"):
        run(script(setup=f"(() => {{ {deep} return {{input: [{{bands: [x]}}], output: 1}}; }})()"))


def test_the_process_has_no_environment_and_only_descriptors_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "do-not-tell")
    with Path(__file__).open() as kept_open:
        os.set_inheritable(kept_open.fileno(), True)
        with ScriptProcess(script()) as process:
            proc = Path(f"/proc/{process.pid}")
            assert (proc / "environ").read_bytes() == b""
            assert (proc / "cwd").readlink() == Path("/")
            assert "NoNewPrivs:\t1" in (proc / "status").read_text()
            places = [str(entry.readlink()) for entry in (proc / "fd").iterdir()]
            sockets = {place[8:-1] for place in places if place.startswith("socket:")}
            # stdin and stdout, the block of pixels, and what Python's event loop wakes itself with.
            kinds = sorted(place.partition("[")[0] for place in places)
            block = "/memfd:evalscript-block (deleted)"
            assert kinds == ["/dev/null", block, "anon_inode:", "pipe:", "pipe:", "socket:", "socket:"]
            unix = Path("/proc/net/unix").read_text().split()
            assert sockets <= set(unix)


INSIDE = """
import os, runpy, socket, sys
worker = runpy.run_path(sys.argv[1], run_name="worker")
worker["_drop_rights"](3600, 1 << 30)
def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__ + " " + str(error.errno)
    return "done"
print(dict(os.environ))
print(tried(lambda: open("/etc/passwd")), tried(lambda: open("/proc/self/environ")), tried(socket.socket))
print(tried(os.pipe), tried(lambda: os.memfd_create("a")), tried(lambda: os.open('/', os.O_PATH)))
"""


def test_inside_of_the_process_no_file_or_socket_can_be_opened() -> None:
    """Not even by code of the process itself, after it gave up its rights as it does before each script."""
    command = [sys.executable, "-I", "-c", INSIDE, evalscript_worker.__file__]
    found = subprocess.run(command, capture_output=True, text=True, env={}, timeout=120, check=True).stdout.split("\n")
    assert found[0] in ("{}", "{'LC_CTYPE': 'C.UTF-8'}")  # what Python itself sets
    assert found[1] == found[2] == "OSError 24 OSError 24 OSError 24"  # EMFILE: no descriptor is free
