"""The loops over pixels of features: plain Python, run as machine code by `compiled.run_compiled`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


def columns(
    numbers: NDArray[Any],
    factor: float,
    masked: bool,
    valid: NDArray[np.bool_],
    firsts: Positions,
    seconds: Positions,
    bands: Positions,
    stack: NDArray[np.float32],
    complete: Positions,
) -> None:
    """Fill `stack` (time, y, x, feature): indices of `firsts` and `seconds`, then `bands`, of numbers times `factor`.

    `valid` (time, y, x) is looked at if `masked`. `complete` (1,) is how many pixels of all dates have every column.
    Nothing is checked: `features.feature_stack` has. Positions are unsigned, which spares a look for negative ones.
    """
    count = 0
    for time in range(np.uint64(numbers.shape[0])):
        for y in range(np.uint64(numbers.shape[1])):
            for x in range(np.uint64(numbers.shape[2])):
                if masked and not valid[time, y, x]:
                    for column in range(stack.shape[3]):
                        stack[time, y, x, column] = np.nan
                    continue
                whole = True
                column = 0
                for first, second in zip(firsts, seconds):
                    upper = np.float64(numbers[time, y, x, first]) * factor
                    lower = np.float64(numbers[time, y, x, second]) * factor
                    total = upper + lower
                    index = np.float32(np.nan if total == 0 else (upper - lower) / total)
                    stack[time, y, x, column] = index
                    whole &= index == index
                    column += 1
                for band in bands:
                    value = np.float32(np.float64(numbers[time, y, x, band]) * factor)
                    stack[time, y, x, column] = value
                    whole &= value == value
                    column += 1
                count += whole
    complete[0] = count


def mark_whole(block: NDArray[np.float32], found: NDArray[np.bool_]) -> None:
    """Set `found` (y, x) where some date of `block` (time, y, x, feature) has no NaN; a found pixel is left at once."""
    for time in range(np.uint64(block.shape[0])):
        for y in range(np.uint64(block.shape[1])):
            for x in range(np.uint64(block.shape[2])):
                if found[y, x]:
                    continue
                whole = True
                for column in range(np.uint64(block.shape[3])):
                    value = block[time, y, x, column]
                    whole &= value == value
                found[y, x] = whole
