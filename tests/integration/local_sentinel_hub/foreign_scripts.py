"""Scripts that mean harm, what their author reads, and a watch over the memory of the service that they are sent to."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from .conftest import EPSG, LEFT, TOP

LOOK_S = 0.02


def script(pixel: str, extra: str = "", output: str = "{bands: 1, sampleType: 'UINT16'}") -> str:
    """A script with one band as input."""
    return (
        f'//VERSION=3\nfunction setup() {{ return {{input: [{{bands: ["B02"], units: "DN"}}], output: {output}}}; }}\n'
        f"function evaluatePixel(s) {{ {pixel} }}\n{extra}"
    )


@dataclass(frozen=True)
class Case:
    """A script, what its author reads (one of the texts between bars), and the raster's side in pixels."""

    text: str
    said: str
    side: int = 64
    response: str = "default"


CASES = {
    "endless loop": Case(script("while (true) {}"), "stopped after 3 s in one call: is there an endless loop?"),
    "ArrayBuffer bomb": Case(
        script("const all = []; while (true) all.push(new Uint8Array(1 << 24).fill(1));"),
        "line 3: RangeError: Array buffer allocation failed | the evalscript ran out of memory",
    ),
    "huge string": Case(script("let t = 'x'; while (true) t += t;"), "line 3: RangeError: Invalid string length"),
    "throws": Case(script("throw new Error('no such luck \\ud800');"), "line 3: Error: no such luck \ufffd"),
    "wrong length": Case(script("return [1, 2];"), "Output default requires 1 band(s), but evaluatePixel() returned 2"),
}
MORE_CASES = {
    "huge userData": Case(
        script("return [1];", "function updateOutputMetadata(s, i, o) { o.userData = 'x'.repeat(1e8); }"),
        "outputMetadata.userData is larger than 8388608 characters of JSON; return less",
        response="userdata",
    ),
    "outputs too large": Case(
        script("return [1];", output="{bands: 4096, sampleType: 'FLOAT32'}"),
        "the outputs take 4096 MB (262144 pixels, bands default: 4096), the limit is 256 MB; "
        "ask for fewer outputs, bands or dates, or for smaller tiles",
        side=512,
    ),
}


def body(case: Case) -> dict[str, Any]:
    """The Process request of a case."""
    kind = "application/json" if case.response == "userdata" else "image/tiff"
    return {
        "input": {
            "bounds": {
                "bbox": [LEFT, TOP - 640, LEFT + 640, TOP],
                "properties": {"crs": f"http://www.opengis.net/def/crs/EPSG/0/{EPSG}"},
            },
            "data": [{"type": "sentinel-2-l1c", "dataFilter": {"maxCloudCoverage": 20}}],
        },
        "output": {
            "width": case.side,
            "height": case.side,
            "responses": [{"identifier": case.response, "format": {"type": kind}}],
        },
        "evalscript": case.text,
    }


def send(base_url: str, headers: dict[str, str], case: Case) -> requests.Response:
    """Send a case as a Process request."""
    return requests.post(f"{base_url}/api/v1/process", json=body(case), headers=headers, timeout=120)


@dataclass
class MemoryWatch:
    """Resident memory of a process and of its children in bytes, looked at 50 times a second while the context is open.

    Children that live shorter than a look are not seen.
    """

    pid: int
    before: int = 0
    peak: int = 0
    after: int = 0
    children_peak: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MemoryWatch:
        self.before = self.peak = memory(self.pid, "VmRSS")
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.after = memory(self.pid, "VmRSS")

    def _look(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, memory(self.pid, "VmRSS"))
            self.children_peak = max([self.children_peak, *(memory(child, "VmHWM") for child in children(self.pid))])
            time.sleep(LOOK_S)


def memory(pid: int, key: str) -> int:
    """VmRSS or VmHWM of a process in bytes, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(key)), 0)


def children(pid: int) -> list[int]:
    """The processes that any thread of a process started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text(encoding="ascii").split())
        except OSError:
            continue  # the thread has ended
    return found
