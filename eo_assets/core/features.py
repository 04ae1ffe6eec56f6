"""Features of a tile: normalised difference indices and bands, date by date, from digital numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import feature_loops
from eo_assets.core.compiled import run_compiled


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Which columns are made of a stack of bands: positions on its last axis, in the order of the columns.

    `names` are the names of the columns of one date: first the indices, then the bands that are kept as they are.
    """

    names: tuple[str, ...]
    indices: tuple[tuple[int, int], ...]
    bands: tuple[int, ...]

    def __post_init__(self) -> None:
        """Compiled code checks no bounds: a column without a name would be written into foreign memory."""
        if len(self.names) != len(self.indices) + len(self.bands):
            raise ValueError(f"{len(self.names)} names for {len(self.indices)} indices and {len(self.bands)} bands")


def feature_stack(
    digital_numbers: NDArray[Any], factor: float, valid: NDArray[np.bool_] | None, plan: FeaturePlan
) -> NDArray[np.float32]:
    """Indices and bands of a block, float32 with NaN where nothing is known.

    `digital_numbers` is (time, y, x, band); a value is a digital number times `factor`. `valid` is (time, y, x) or None
    for all valid. Returns (time, y, x, feature). Reflectance and index are float64 until the last cast, so the result
    does not depend on how the bands are stored. An index whose bands add up to zero is NaN.
    """
    return feature_block(digital_numbers, factor, valid, plan)[0]


def feature_block(
    digital_numbers: NDArray[Any], factor: float, valid: NDArray[np.bool_] | None, plan: FeaturePlan
) -> tuple[NDArray[np.float32], int]:
    """`feature_stack`, and how many pixels of all its dates have every feature."""
    stack = np.empty((*digital_numbers.shape[:-1], len(plan.names)), dtype=np.float32)
    if not stack.size:
        return stack, 0
    highest = max((*plan.bands, *(band for pair in plan.indices for band in pair)))
    if highest >= digital_numbers.shape[3]:
        raise ValueError(f"band {highest} of {digital_numbers.shape[3]}")
    if valid is not None and valid.shape != digital_numbers.shape[:3]:
        raise ValueError(f"a mask of {valid.shape} for digital numbers of {digital_numbers.shape}")
    positions = (np.array(places, dtype=np.uint64) for places in (*_pairs(plan), plan.bands))
    seen = np.ones((1, 1, 1), dtype=np.bool_) if valid is None else np.ascontiguousarray(valid)
    complete = np.zeros(1, dtype=np.int64)
    numbers = np.ascontiguousarray(digital_numbers)
    run_compiled(feature_loops.columns, numbers, factor, valid is not None, seen, *positions, stack, complete)
    return stack, int(complete[0])


def whole_pixels(block: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(y, x), True where some date of a block (time, y, x, feature) has all features: none of them NaN."""
    found = np.zeros(block.shape[1:3], dtype=np.bool_)
    run_compiled(feature_loops.mark_whole, np.ascontiguousarray(block), found)
    return found


def _pairs(plan: FeaturePlan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and second bands of all indices."""
    return tuple(first for first, _ in plan.indices), tuple(second for _, second in plan.indices)
