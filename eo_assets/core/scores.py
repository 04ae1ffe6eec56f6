"""Scores of a model on samples that it has not seen, and the trivial predictor's beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = dict[str, float]


def regression_scores(truth: NDArray[Any], predicted: NDArray[Any]) -> Scores:
    """R2 (1 - residual over total sum of squares), RMSE and MAE in the units of the reference."""
    residual = truth.astype(np.float64) - predicted
    total = float(((truth - truth.mean(dtype=np.float64)) ** 2).sum())
    r2 = 1 - float((residual**2).sum()) / total if total > 0 else float("nan")
    return {"r2": r2, "rmse": float(np.sqrt((residual**2).mean())), "mae": float(np.abs(residual).mean())}


def classification_scores(truth: NDArray[Any], predicted: NDArray[Any]) -> Scores:
    """Accuracy, and F1 as the mean over the classes that occur in the truth or the prediction."""
    classes = np.union1d(truth, predicted)
    f1 = [_f1(truth == code, predicted == code) for code in classes]
    return {"accuracy": float((truth == predicted).mean()), "f1": float(np.mean(f1))}


def _f1(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    hits = int((truth & predicted).sum())
    return 2 * hits / max(1, int(truth.sum() + predicted.sum()))


def held_out_blocks(blocks: NDArray[np.int64], train_fraction: float, seed: int) -> NDArray[np.bool_]:
    """(n,) True for samples kept for scoring: whole ground blocks, so that no block is in both sets.

    `blocks` is (n, 3). At least one block is on each side if there are two.
    """
    unique, inverse = np.unique(blocks, axis=0, return_inverse=True)
    held = max(1, round((1 - train_fraction) * len(unique))) if len(unique) > 1 else 0
    order = np.random.default_rng(seed).permutation(len(unique))
    return np.isin(inverse.ravel(), order[: min(held, len(unique) - 1)])


def held_out_random(count: int, train_fraction: float, seed: int) -> NDArray[np.bool_]:
    """(n,) True for samples kept for scoring: single samples at random, as eo-grow splits."""
    held = np.zeros(count, dtype=bool)
    held[np.random.default_rng(seed).permutation(count)[: round((1 - train_fraction) * count)]] = True
    return held
