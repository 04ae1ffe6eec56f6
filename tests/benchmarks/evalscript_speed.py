"""Pixels a second of a script of 13 bands and of one over twelve dates: python -m tests.benchmarks.evalscript_speed

A second of CPU time of the script's process, so that what else the machine does counts little. Medians of five runs,
each after a block that warms V8 up; no file is read or written. Linux only.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resources.local_sentinel_hub.evalscript import InputArray, ScriptProcess, ScriptSource

REPEATS, BLOCKS = 5, 8
BANDS = tuple(f"B{number:02d}" for number in range(1, 14))
SIMPLE = f"""//VERSION=3
function setup() {{
  return {{input: [{{bands: {list(BANDS)}, units: "DN"}}], output: {{bands: 13, sampleType: "UINT16"}}}};
}}
function evaluatePixel(s) {{
  return [{", ".join(f"s.{band}" for band in BANDS)}];
}}
"""
ORBIT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B01", "B02"], units: "DN"}], output: {bands: 1, sampleType: "FLOAT32"},
          mosaicking: "ORBIT"};
}
function evaluatePixel(samples) {
  let best = -1;
  for (const s of samples) best = Math.max(best, index(s.B01, s.B02));
  return [best];
}
"""
DATES = 12


def measure(text: str, bands: tuple[str, ...], samples: int, pixels: int) -> Callable[[], float]:
    """A function that evaluates a block of `pixels` and returns the pixels a second."""
    scenes = tuple({"dateFrom": f"2020-01-{day + 1:02d}T00:00:00Z"} for day in range(samples))

    def once() -> float:
        with ScriptProcess(text) as process:
            plan = process.begin([ScriptSource(None, "2020-01-01", "2020-02-01", scenes)], {})
            inputs = [InputArray(0, band, np.dtype(np.uint16), samples, None) for band in bands]
            arrays, _ = process.allocate(pixels, [samples], inputs, plan.outputs)
            random = np.random.default_rng(1)
            for array in arrays:
                array[:] = random.integers(1, 10_000, array.shape, dtype=np.uint16)
            process.run(pixels)
            started = _cpu_s(process)
            for _ in range(BLOCKS):
                process.run(pixels)
            return BLOCKS * pixels / (_cpu_s(process) - started)

    return once


def _cpu_s(process: ScriptProcess) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a line a script."""
    for name, once in (
        ("13 bands, SIMPLE", measure(SIMPLE, BANDS, 1, 400_000)),
        (f"2 bands, {DATES} dates, ORBIT", measure(ORBIT, BANDS[:2], DATES, 100_000)),
    ):
        speeds = sorted(once() for _ in range(REPEATS))
        median, least, most = statistics.median(speeds), speeds[0], speeds[-1]
        print(f"{name:26s} {median / 1e6:6.2f} M px/s (from {least / 1e6:.2f} to {most / 1e6:.2f})", flush=True)


if __name__ == "__main__":
    main()
