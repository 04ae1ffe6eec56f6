"""CPU seconds and memory of composites of a block of rows, beside numpy's nanmedian and eo-grow's tasks.

    [EOGROW_PYTHON=/path/to/python] python -m tests.benchmarks.composite_speed

A block is 64 rows of 854 pixels, 12 bands, 60% of them clear, uint16; of it twelve periods are made. Medians of three
runs in one process; loops are compiled before. eo-grow's tasks are loaded from their file in the environment of
EOGROW_PYTHON and run on eo-learn's EOPatch, bands and index as float32. Memory is the peak above the input.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import statistics
import subprocess
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from eo_assets.core.composite import Method, composite
from eo_assets.core.gaps import fill_gaps
from eo_assets.core.periods import frames_of, periods_of

SHAPE, PERIODS, REPEATS = (64, 854, 12), 12, 3
Frames = tuple[tuple[int, ...], ...]
Runs = Mapping[str, Callable[[], Any]]
YEAR = dt.date(2021, 1, 1), dt.date(2021, 12, 31)


def block(times: int) -> tuple[np.ndarray, np.ndarray, list[dt.datetime]]:
    """Digital numbers, mask and sensing times."""
    rng = np.random.default_rng(times)
    land = rng.integers(200, 3000, SHAPE)
    numbers = np.stack([(land + rng.normal(0, 200, SHAPE)).clip(0).astype(np.uint16) for _ in range(times)])
    step = dt.timedelta(days=365) / times
    return numbers, rng.random(numbers.shape[:3]) < 0.6, [dt.datetime(2021, 1, 1, 10) + step * i for i in range(times)]


def nanmedian(numbers: np.ndarray, clear: np.ndarray, frames: Frames) -> np.ndarray:
    """What numpy has for it."""
    masked = (np.where(clear[list(of), ..., None], numbers[list(of)].astype(np.float32), np.nan) for of in frames)
    return np.stack([np.nanmedian(values, axis=0) for values in masked])


def eogrow_tasks(python: str) -> ModuleType:
    """eo-grow's module of mosaicking tasks, from the environment of its interpreter: it needs eo-learn alone."""
    code = "import eogrow.tasks.features as module; print(module.__file__)"
    file = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    spec = importlib.util.spec_from_file_location("eogrow_features", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def eogrow_runs(module: ModuleType, numbers: np.ndarray, clear: np.ndarray, times: Any) -> Runs:
    """eo-grow's median and max-NDVI mosaicking of the block; the index is ready before."""
    from eolearn.core import EOPatch, FeatureType
    from sentinelhub import CRS, BBox

    bands, index, mask = (FeatureType.DATA, "BANDS"), (FeatureType.DATA, "INDEX"), (FeatureType.MASK, "VALID")
    patch = EOPatch(bbox=BBox((0, 0, 1, 1), CRS.WGS84), timestamps=times)
    patch[bands], patch[mask] = numbers.astype(np.float32), clear[..., None]
    near, red = patch[bands][..., 7:8], patch[bands][..., 3:4]
    patch[index] = (near - red) / (near + red)
    dates = (*YEAR, PERIODS)
    return {
        "eo-grow median": lambda: module.MedianMosaickingTask(bands, dates, valid_mask=mask).execute(patch),
        "eo-grow max NDVI": lambda: module.MaxNDVIMosaickingTask(bands, dates, index, valid_mask=mask).execute(patch),
    }


def cpu_seconds(run: Callable[[], Any]) -> float:
    """The median of some runs."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def peak_mb(run: Callable[[], Any]) -> float:
    """The most memory that one run asked for, its result included."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def our_runs(numbers: np.ndarray, clear: np.ndarray, frames: Frames) -> Runs:
    """All methods and the filling of gaps, compiled by a first run; and numpy's median."""
    methods: tuple[Method, ...] = ("median", "mean", "max_index", "geomedian")
    gappy, days = composite(numbers, clear, frames, "median")[0], np.arange(PERIODS) * 30.0

    def run(method: Method) -> Any:
        return composite(numbers, clear, frames, method, (7, 3) if method == "max_index" else None)

    runs: dict[str, Callable[[], Any]] = {method: partial(run, method) for method in methods}
    runs["fill linear"] = lambda: fill_gaps(gappy, days, "linear")
    for once in runs.values():
        once()
    return runs | {"numpy nanmedian": lambda: nanmedian(numbers, clear, frames)}


def main() -> None:
    """Print a line a number of acquisitions and way."""
    warnings.simplefilter("ignore")
    python = os.environ.get("EOGROW_PYTHON")
    module = eogrow_tasks(python) if python else None
    print(f"{'acquisitions':>12s} {'input MB':>9s}  {'way':18s} {'CPU s':>7s} {'peak MB':>8s}  of our median")
    for number in (12, 36, 72, 144):
        numbers, clear, times = block(number)
        runs = dict(our_runs(numbers, clear, frames_of(periods_of(YEAR, PERIODS), times)))
        runs |= eogrow_runs(module, numbers, clear, times) if module else {}
        ours = cpu_seconds(runs["median"])
        for name, run in runs.items():
            seconds, peak = cpu_seconds(run), peak_mb(run)
            measured = f"{seconds:7.3f} {peak:8.0f}  {seconds / ours:6.1f}"
            print(f"{number:12d} {numbers.nbytes / 1e6:9.0f}  {name:18s} {measured}", flush=True)


if __name__ == "__main__":
    main()
