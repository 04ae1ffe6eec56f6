"""Features of a tile: normalised difference indices and bands, date by date, from digital numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Which columns are made of a stack of bands: positions on its last axis, in the order of the columns.

    `names` are the names of the columns of one date: first the indices, then the bands that are kept as they are.
    """

    names: tuple[str, ...]
    indices: tuple[tuple[int, int], ...]
    bands: tuple[int, ...]


def feature_stack(
    digital_numbers: NDArray[Any], factor: float, valid: NDArray[np.bool_] | None, plan: FeaturePlan
) -> NDArray[np.float32]:
    """Indices and bands of a block, float32 with NaN where nothing is known.

    `digital_numbers` is (time, y, x, band); a value is a digital number times `factor`. `valid` is (time, y, x) or None
    for all valid. Returns (time, y, x, feature). Reflectance and index are float64 until the last cast, so the result
    does not depend on how the bands are stored. An index whose bands add up to zero is NaN.
    """
    stack = np.empty((*digital_numbers.shape[:-1], len(plan.names)), dtype=np.float32)
    for date, numbers in enumerate(digital_numbers):  # float64 of one date at a time
        _fill(stack[date], numbers, factor, plan)
        if valid is not None:
            stack[date][~valid[date]] = np.nan
    return stack


def _fill(columns: NDArray[np.float32], digital_numbers: NDArray[Any], factor: float, plan: FeaturePlan) -> None:
    """The columns (y, x, feature) of one date."""
    needed = sorted({band for pair in plan.indices for band in pair} | set(plan.bands))
    values = {band: digital_numbers[..., band].astype(np.float64) * factor for band in needed}
    for column, (first, second) in enumerate(plan.indices):
        columns[..., column] = normalized_difference(values[first], values[second])
    for column, band in enumerate(plan.bands, start=len(plan.indices)):
        columns[..., column] = values[band]


def normalized_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(first - second) / (first + second), NaN where the sum is zero. NDVI is this of near infrared and red."""
    total = first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total == 0, np.nan, (first - second) / total)
