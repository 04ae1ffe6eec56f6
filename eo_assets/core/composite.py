"""Composites: one value a period, pixel and band, made of the clear observations that the period holds.

An observation is one pixel of one acquisition with all its bands; it is used whole or not at all. What is not clear is
never read into a result, whatever its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import composite_loops
from eo_assets.core.compiled import run_compiled
from eo_assets.core.geomedian import geomedian

Method = Literal["median", "mean", "max_index", "geomedian"]

MAX_FRAMES = np.iinfo(np.uint16).max
"""The most acquisitions of one period that can be counted."""


def composite(
    numbers: NDArray[Any],
    clear: NDArray[np.bool_] | None,
    frames: Sequence[Sequence[int]],
    method: Method,
    index: tuple[int, int] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Values (period, y, x, band) float32 and counts of clear observations (period, y, x) uint16.

    `numbers` (time, y, x, band) are uint16 digital numbers or floats; `clear` (time, y, x), without it all are clear;
    `frames` are the positions of each period's acquisitions. In floats an observation with a band that is not finite
    is not clear. A value is NaN, in all bands, exactly where the count is zero.

    median: of each band by itself; of an even number the mean of the two in the middle.
    mean: of each band by itself.
    max_index: the observation whose normalised difference of the bands `index` = (first, second) is the highest, the
    earliest in `frames` of equal ones. An observation without an index, its two bands adding up to zero, is not
    counted: a period of a pixel that has no other is NaN, as eo-grow's is.
    geomedian: the point nearest to all observations in the space of the bands; see `core.geomedian`.

    Working memory is that of one row of one period, and for floats a boolean a pixel and acquisition.
    """
    _check(numbers, clear, frames, method, index)
    usable = _usable(numbers, clear)
    shape = (len(frames), *numbers.shape[1:])
    values, counts = np.empty(shape, np.float32), np.empty(shape[:3], np.uint16)
    for period, positions in enumerate(frames):
        arrays = numbers, usable, np.asarray(positions, np.int64), values[period], counts[period]
        if method == "geomedian":
            geomedian(*arrays)
        elif method == "max_index":
            run_compiled(composite_loops.max_index, *arrays, *(index or ()))
        else:
            run_compiled(composite_loops.median if method == "median" else composite_loops.mean, *arrays)
    return values, counts


def _usable(numbers: NDArray[Any], clear: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which observations are clear, (time, y, x): those of the mask, and in floats those with finite bands alone."""
    usable = np.ones(numbers.shape[:3], np.bool_) if clear is None else np.ascontiguousarray(clear)
    if not np.issubdtype(numbers.dtype, np.floating):
        return usable
    return (
        np.stack([frame & np.isfinite(of).all(axis=-1) for frame, of in zip(usable, numbers)])
        if len(usable)
        else usable
    )


def _check(
    numbers: NDArray[Any],
    clear: NDArray[np.bool_] | None,
    frames: Sequence[Sequence[int]],
    method: Method,
    index: tuple[int, int] | None,
) -> None:
    """Compiled loops look up what they are told to, so every position is checked before them."""
    if numbers.ndim != 4:
        raise ValueError(f"numbers of shape {numbers.shape} are not (time, y, x, band)")
    if clear is not None and (clear.shape != numbers.shape[:3] or clear.dtype != np.bool_):
        raise ValueError(
            f"clear is {clear.dtype} {clear.shape}, for numbers {numbers.shape}: bool (time, y, x) is wanted"
        )
    positions = [position for period in frames for position in period]
    if any(not 0 <= position < len(numbers) for position in positions):
        raise ValueError(f"frames name acquisition {max(positions, key=abs)} of {len(numbers)}")
    if any(len(period) > MAX_FRAMES for period in frames):
        raise ValueError(
            f"a period holds more than {MAX_FRAMES} acquisitions, which can't be counted: make more periods"
        )
    if (method == "max_index") != (index is not None):
        raise ValueError(f"method {method} with index {index}: max_index, and no other, needs the two bands of one")
    if index is not None and any(not 0 <= band < numbers.shape[3] for band in index):
        raise ValueError(f"index {index} names a band that numbers {numbers.shape} do not have")
