"""The loops over pixels of composites and of gaps: plain Python, run as machine code by `compiled.run_compiled`.

Each stands alone, since compiled code calls no Python function. None of them checks its arrays: an index out of bounds
would be read from foreign memory, so whoever calls them has checked the shapes. All arrays are (time, y, x, band).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Counts = NDArray[np.uint16]
Positions = NDArray[np.int64]


def median(numbers: NDArray[Any], clear: Bools, frames: Positions, values: Floats, counts: Counts) -> None:
    """Fill `values` (y, x, band) and `counts` (y, x) from one period's frames: the median of each band by itself.

    All bands of a pixel are sorted at once, each observation carried up through the lower half of those before it: what
    is above the middle is never looked at again, and the inner loop over the bands has no branch.
    """
    bands = numbers.shape[3]
    lower_half = np.zeros((len(frames) // 2 + 1, bands), numbers.dtype)
    carried = np.zeros(bands, numbers.dtype)
    for y in range(numbers.shape[1]):
        for x in range(numbers.shape[2]):
            count = 0
            for frame in frames:
                count += clear[frame, y, x]
            counts[y, x] = count
            if count == 0:
                for band in range(bands):
                    values[y, x, band] = np.nan
                continue
            kept, wanted = 0, count // 2 + 1
            for frame in frames:
                if not clear[frame, y, x]:
                    continue
                for band in range(bands):
                    carried[band] = numbers[frame, y, x, band]
                for place in range(kept):
                    for band in range(bands):
                        low, high = lower_half[place, band], carried[band]
                        lower_half[place, band] = min(low, high)
                        carried[band] = max(low, high)
                if kept < wanted:
                    for band in range(bands):
                        lower_half[kept, band] = carried[band]
                    kept += 1
            for band in range(bands):
                low, high = lower_half[(count - 1) // 2, band], lower_half[count // 2, band]
                values[y, x, band] = (np.float64(low) + np.float64(high)) / 2


def mean(numbers: NDArray[Any], clear: Bools, frames: Positions, values: Floats, counts: Counts) -> None:
    """Fill `values` (y, x, band) and `counts` (y, x) from one period's frames: the mean, added up in float64."""
    bands = numbers.shape[3]
    total = np.zeros(bands, np.float64)
    for y in range(numbers.shape[1]):
        for x in range(numbers.shape[2]):
            count = 0
            total[:] = 0
            for frame in frames:
                if clear[frame, y, x]:
                    count += 1
                    for band in range(bands):
                        total[band] += numbers[frame, y, x, band]
            counts[y, x] = count
            for band in range(bands):
                values[y, x, band] = total[band] / count if count else np.nan


def max_index(
    numbers: NDArray[Any],
    clear: Bools,
    frames: Positions,
    values: Floats,
    counts: Counts,
    first: int,
    second: int,
) -> None:
    """Fill `values` (y, x, band) and `counts` (y, x) from one period's frames: the observation of highest index.

    The index is (first - second) / (first + second) in float64, so equal ratios of digital numbers are equal indices.
    """
    for y in range(numbers.shape[1]):
        for x in range(numbers.shape[2]):
            count, best, highest = 0, 0, 0.0
            for frame in frames:
                one, other = np.float64(numbers[frame, y, x, first]), np.float64(numbers[frame, y, x, second])
                if not clear[frame, y, x] or one + other == 0:
                    continue
                index = (one - other) / (one + other)
                if count == 0 or index > highest:
                    best, highest = frame, index
                count += 1
            counts[y, x] = count
            for band in range(numbers.shape[3]):
                values[y, x, band] = numbers[best, y, x, band] if count else np.nan


def fill_linear(values: Floats, seconds: NDArray[np.float64], max_seconds: float, filled: Bools) -> None:
    """Fill gaps of `values` (period, y, x, band) in place between the clear periods around them, and mark them."""
    periods, height, width, bands = values.shape
    for y in range(height):
        for x in range(width):
            before = periods
            for after in range(periods):
                if np.isnan(values[after, y, x]).any():
                    continue
                if before < after and seconds[after] - seconds[before] <= max_seconds:
                    for gap in range(before + 1, after):
                        share = (seconds[gap] - seconds[before]) / (seconds[after] - seconds[before])
                        filled[gap, y, x] = True
                        for band in range(bands):
                            start = np.float64(values[before, y, x, band])
                            values[gap, y, x, band] = start + share * (values[after, y, x, band] - start)
                before = after


def fill_nearest(values: Floats, seconds: NDArray[np.float64], max_seconds: float, filled: Bools) -> None:
    """Fill gaps of `values` (period, y, x, band) in place from the nearest clear period, and mark them."""
    periods, height, width, _ = values.shape
    known = np.zeros(periods, np.bool_)
    for y in range(height):
        for x in range(width):
            for period in range(periods):
                known[period] = not np.isnan(values[period, y, x]).any()
            for gap in range(periods):
                nearest, distance = -1, max_seconds
                for period in range(periods):
                    away = abs(seconds[period] - seconds[gap])
                    if known[period] and (away < distance or (nearest < 0 and away <= distance)):
                        nearest, distance = period, away
                if nearest >= 0 and not known[gap]:
                    filled[gap, y, x] = True
                    values[gap, y, x] = values[nearest, y, x]
