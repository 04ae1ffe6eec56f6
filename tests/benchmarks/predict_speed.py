r"""Rows per CPU second of the exact evaluator beside LightGBM, treelite and lleaves, on one thread each, in one run.

    [TREELITE_PYTHON=...] [LLEAVES_PYTHON=...] python -m tests.benchmarks.predict_speed

The model: 400 trees of 200 leaves, 180 columns (12 dates of 12 bands and 3 normalised differences), trained once on
9,600 pixels and kept in build/predict_speed/. The data: 320 x 320 pixels of float32 features, of reflectances or of
digital numbers, in the order of the tile or in none. Ours starts from the features and so counts binning. Every round
takes LightGBM and ours one after another; told are medians of rounds, and of the rounds' ratios. The others run by the
interpreter of an environment of their own:

    python3.11 -m venv build/evaluators/lleaves && build/evaluators/lleaves/bin/pip install \
        lleaves pandas "llvmlite<0.44"

Machine code for a smaller machine: NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= before the command.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from scipy.ndimage import gaussian_filter

from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.ensemble.predictor import chosen_rows

FOLDER = Path("build/predict_speed")
EDGE, DATES, BANDS, ROUNDS, LIGHTGBM_ROWS = 320, 12, 12, 5, 4096
DIFFERENCES = ((7, 3), (2, 7), (10, 7))
SURFACES = np.array(
    [
        [400, 350, 300, 200, 150, 120, 110, 100, 90, 80, 40, 30],
        [300, 250, 500, 300, 900, 2200, 2800, 3000, 3200, 3300, 1600, 800],
        [900, 1100, 1500, 2000, 2300, 2500, 2700, 2800, 2900, 3000, 3600, 3200],
        [1300, 1400, 1500, 1700, 1800, 1900, 2000, 2100, 2200, 2300, 2600, 2500],
    ]
)
"""Digital numbers of water, plants, soil and buildings."""


def digital_numbers(noise: float) -> np.ndarray:
    """(time, y, x, band) uint16: surfaces that blend into one another, seasons, weather, and a share of noise."""
    random = np.random.default_rng(1)
    fields = np.stack(
        [
            sum(gaussian_filter(random.normal(size=(EDGE, EDGE)), s, mode="wrap") * s for s in (3, 12, 40))
            for _ in range(4)
        ]
    )
    shares = np.exp(3 * fields / fields.std())
    shares /= shares.sum(axis=0)
    land = np.einsum("kyx,kb->yxb", shares, SURFACES)
    numbers = np.empty((DATES, EDGE, EDGE, BANDS), np.uint16)
    for date in range(DATES):
        season = 1 + 0.25 * np.sin(2 * np.pi * (date / DATES + random.random(BANDS) / 4))
        weather = 1 + 0.05 * gaussian_filter(random.normal(size=(EDGE, EDGE)), 8, mode="wrap")[..., None] * 8
        pixels = 1 + noise * random.normal(size=(EDGE, EDGE, BANDS))
        numbers[date] = np.clip(land * season * weather * pixels, 1, 12_000)
    return numbers


def features_of(numbers: np.ndarray, factor: float) -> np.ndarray:
    """(time, y, x, feature) float32: the bands times a factor, and normalised differences."""
    bands = (numbers * factor).astype(np.float32)
    indices = [(bands[..., a] - bands[..., b]) / (bands[..., a] + bands[..., b]) for a, b in DIFFERENCES]
    return np.concatenate([bands, np.stack(indices, axis=-1)], axis=-1)


def model_of(name: str, features: np.ndarray) -> lightgbm.Booster:
    """The model of these features, trained the first time."""
    file = FOLDER / f"{name}.txt"
    if not file.exists():
        random = np.random.default_rng(2)
        rows = chosen_rows(features, np.ones(features.shape[1:3], np.bool_))
        rows = rows[random.choice(len(rows), 9600, replace=False)]
        ndvi = rows[:, 12::15]
        labels = (
            60 * ndvi.max(axis=1) + 40 * np.sin(9 * ndvi[:, 3] + 5 * ndvi[:, 8]) + random.normal(size=len(rows)) * 4
        )
        said = {"num_leaves": 200, "min_data_in_leaf": 5, "learning_rate": 0.05, "verbosity": -1, "num_threads": 1}
        lightgbm.train(said, lightgbm.Dataset(rows, labels), num_boost_round=400).save_model(file)
    return lightgbm.Booster(model_file=str(file))


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Of this process, and what was made."""
    start = time.process_time()
    made = run()
    return time.process_time() - start, made


def compare(name: str, booster: lightgbm.Booster, rows: np.ndarray, run: Callable[[], np.ndarray]) -> dict[str, Any]:
    """Ours and LightGBM's rows per CPU second; LightGBM is timed on some of the rows, and equality told on all."""
    rates, ratios = [], []
    expected = booster.predict(rows, num_threads=1)
    for turn in range(ROUNDS):
        first = turn * (len(rows) - LIGHTGBM_ROWS) // max(1, ROUNDS - 1)
        some = np.ascontiguousarray(rows[first : first + LIGHTGBM_ROWS])
        theirs = LIGHTGBM_ROWS / cpu_seconds(lambda some=some: booster.predict(some, num_threads=1))[0]
        seconds, found = cpu_seconds(run)
        rates.append((len(rows) / seconds, theirs))
        ratios.append(len(rows) / seconds / theirs)
    equal = bool(np.array_equal(found.view(np.int64), expected.view(np.int64)))
    ours, lightgbms = (statistics.median(rate) for rate in zip(*rates))
    told = {
        "ours": round(ours),
        "lightgbm": round(lightgbms),
        "ratio": round(statistics.median(ratios), 1),
        "equal": equal,
    }
    print(
        f"{name:24} {ours:10,.0f} {lightgbms:9,.0f} {told['ratio']:6.1f}x  {'equal' if equal else 'NOT EQUAL'}",
        flush=True,
    )
    return told


def others(booster_file: Path, rows: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """treelite and lleaves, where there are environments for them, on the same rows."""
    told = {}
    for name in ("treelite", "lleaves"):
        python = os.environ.get(f"{name.upper()}_PYTHON")
        if python is None:
            print(f"{name:24} not run: {name.upper()}_PYTHON is not set")
            continue
        np.save(FOLDER / "rows.npy", rows)
        script = Path(__file__).with_name("other_evaluators.py")
        subprocess.run([python, script, name, booster_file, FOLDER], check=True)
        said = json.loads((FOLDER / f"{name}.json").read_text())
        found = np.load(FOLDER / f"{name}.npy").reshape(-1)
        equal = bool(np.array_equal(found, expected))
        told[name] = {**said, "equal": equal, "largest_difference": float(np.abs(found - expected).max())}
        print(
            f"{name:24} {said['rows_per_cpu_second']:10,.0f}   {'equal' if equal else 'not equal'}, largest difference "
            f"{told[name]['largest_difference']:.3g}, compiled in {said['compile_cpu_seconds']:.0f} CPU seconds"
        )
    return told


def starts() -> dict[str, Any]:
    """CPU seconds of the first prediction of a process: without a cache of machine code, and with one."""
    code = (
        "import time, lightgbm, numpy as np\n"
        "from eo_assets.core.ensemble.evaluator import Evaluator\n"
        f"evaluator = Evaluator(lightgbm.Booster(model_file={str(FOLDER / 'reflectance.txt')!r}))\n"
        "rows = np.zeros((64, 180), np.float32)\n"
        "start = time.process_time(); evaluator.predict(rows); print(time.process_time() - start)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        where = {**os.environ, "NUMBA_CACHE_DIR": folder}
        took = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code], env=where, capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(2)
        ]
    print(f"first prediction of a process: {took[0]:.2f} CPU seconds with no cache, {took[1]:.2f} with one")
    return {"cold_cpu_seconds": took[0], "warm_cpu_seconds": took[1]}


def of_tile(name: str, noise: float, factor: float, model: str) -> tuple[dict[str, Any], lightgbm.Booster, np.ndarray]:
    """The comparison on all pixels of a tile; its model and its features."""
    block = features_of(digital_numbers(noise), factor)
    everything = np.ones(block.shape[1:3], np.bool_)
    booster = model_of(model, block)
    evaluator, rows = Evaluator(booster), chosen_rows(block, everything)
    evaluator.predict(rows[:64])
    return compare(name, booster, rows, lambda: evaluator.predict_pixels(block, everything)), booster, block


def of_rows(booster: lightgbm.Booster, block: np.ndarray) -> dict[str, Any]:
    """The comparisons on parts of a tile, in other orders and another type, and the others' on some rows."""
    valid = gaussian_filter(np.random.default_rng(3).normal(size=block.shape[1:3]), 5) > 0
    evaluator, rows = Evaluator(booster), chosen_rows(block, np.ones_like(valid))
    cloudy, shuffled = chosen_rows(block, valid), np.random.default_rng(4).permutation(rows)
    double = rows.astype(np.float64)
    evaluator.predict(double[:64])
    return {
        "half": compare("half of it invalid", booster, cloudy, lambda: evaluator.predict_pixels(block, valid)),
        "table": compare("as rows of a table", booster, rows, lambda: evaluator.predict(rows)),
        "random": compare("as rows in no order", booster, shuffled, lambda: evaluator.predict(shuffled)),
        "float64": compare("as rows of float64", booster, double, lambda: evaluator.predict(double)),
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"{'rows per CPU second':24} {'ours':>10} {'lightgbm':>9}")
    told: dict[str, Any] = {}
    told["reflectance"], booster, block = of_tile("reflectance", 0.01, 1e-4, "reflectance")
    told |= of_rows(booster, block)
    told["noisy"], *_ = of_tile("noisier reflectance", 0.05, 1e-4, "reflectance")
    told["digital_numbers"], *_ = of_tile("digital numbers", 0.01, 1.0, "digital_numbers")
    told["start"] = starts()
    some = chosen_rows(block, np.ones(block.shape[1:3], np.bool_))[: 2 * LIGHTGBM_ROWS]
    told |= others(FOLDER / "reflectance.txt", some, booster.predict(some, num_threads=1))
    (FOLDER / "predict_speed.json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
