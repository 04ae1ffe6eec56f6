"""That the kernels of a tile are still fast: CPU seconds beside those of a reference in the same run, `make guard`.

Each reference is a pinned, plain way to the same result: what machine this is, and what else it does, weighs on both.
Fails where a ratio is below the least. When they were measured last they were 3.5 to 5, 52 to 58, and
31 to 36.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.features import FeaturePlan, feature_block

ROUNDS = 7
DATES, ROWS, WIDTH, BANDS = 12, 64, 853, 12
FACTOR = 0.0001
INDICES = ((7, 3), (2, 7), (10, 7))
NAMES = ("NDVI", "NDWI", "NDBI", *(f"b{band}" for band in range(BANDS)))
PLAN = FeaturePlan(NAMES, INDICES, tuple(range(BANDS)))


@dataclass(frozen=True, slots=True)
class Guarded:
    """A kernel, the reference for it, and the least ratio of their CPU seconds.

    The reference does `share` of the work.
    """

    name: str
    kernel: Callable[[], object]
    reference: Callable[[], object]
    least: float
    share: float = 1


def guarded() -> Iterator[Guarded]:
    """What is guarded, on made-up data."""
    numbers = smooth(np.random.default_rng(1))
    columns, _ = feature_block(numbers, FACTOR, None, PLAN)
    yield Guarded("features", lambda: feature_block(numbers, FACTOR, None, PLAN), lambda: plain_features(numbers), 2.5)
    booster, block = trained(columns), columns[:, :, :256]
    evaluator, everywhere = Evaluator(booster), np.ones(block.shape[1:3], np.bool_)
    table = np.ascontiguousarray(block.transpose(1, 2, 0, 3)).reshape(ROWS * 256, -1)
    mixed, some = np.random.default_rng(2).permutation(table), table[::16]

    def lightgbm_predicts() -> object:
        return booster.predict(some, num_threads=1)

    share = len(some) / len(table)
    yield Guarded("pixels", lambda: evaluator.predict_pixels(block, everywhere), lightgbm_predicts, 25, share)
    yield Guarded("mixed rows", lambda: evaluator.predict(mixed), lightgbm_predicts, 15, share)


def smooth(random: np.random.Generator) -> NDArray[np.uint16]:
    """Digital numbers (time, y, x, band) of fields of 16 pixels, with noise."""
    fields = random.integers(500, 5000, (DATES, ROWS // 16, WIDTH // 16 + 1, BANDS))
    large = fields.repeat(16, axis=1).repeat(16, axis=2)[:, :, :WIDTH]
    return (large + random.integers(0, 60, large.shape)).astype(np.uint16)


def plain_features(numbers: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The reference of features: whole arrays in numpy, float64 until the last cast."""
    values = numbers.astype(np.float64) * FACTOR
    with np.errstate(invalid="ignore", divide="ignore"):
        indices = [(values[..., a] - values[..., b]) / (values[..., a] + values[..., b]) for a, b in PLAN.indices]
    return np.concatenate([np.stack(indices, axis=-1), values], axis=-1).astype(np.float32)


def trained(columns: NDArray[np.float32]) -> lightgbm.Booster:
    """400 trees of 200 leaves."""
    table = columns.transpose(1, 2, 0, 3).reshape(ROWS * WIDTH, -1)[::16]
    labels = np.nan_to_num(table) @ np.random.default_rng(3).normal(size=table.shape[1])
    said = {"num_leaves": 200, "verbosity": -1, "num_threads": 1, "seed": 1, "max_bin": 63}
    return lightgbm.train(said, lightgbm.Dataset(table, labels), num_boost_round=400)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this process, of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    """Print every ratio; 1 if one is too low."""
    slow = 0
    for found in guarded():
        found.kernel()  # compiles
        rounds = [(cpu_seconds(found.reference), cpu_seconds(found.kernel)) for _ in range(ROUNDS)]
        ratio = statistics.median(reference / found.share / kernel for reference, kernel in rounds)
        verdict = "ok" if ratio >= found.least else "TOO SLOW"
        slow += ratio < found.least
        print(f"{found.name:12s} reference / kernel {ratio:6.1f}  at least {found.least:4.1f}  {verdict}")
    return min(slow, 1)


if __name__ == "__main__":
    sys.exit(main())
