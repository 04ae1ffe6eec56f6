"""Values to bins: how many of a column's cuts lie below each value.

A grid of equal steps over a column's cuts says between which of them a value must lie, and a short search ends it. The
step of a value is computed as that of a cut: what rounds, rounds both ways alike, so that the grid is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.tables import MOST_CUTS, Columns

STEPS = 2048
"""Steps of a column's grid: few hold more than one or two of at most 255 cuts."""

FEW = 2
"""So many cuts in a step are compared one by one; among more the place is searched by halves."""

Bins = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Grids:
    """Of each column and in the type of the values: the cuts, padded with infinity, and the grid over them.

    `cuts` (column, 2 * MOST_CUTS): a search may look as far behind a column's last cut as it has cuts. `lowest` and
    `scales` (column,) make a value's step; `below` (column, STEPS + 1) is the number of cuts in lower steps, `most`
    (column,) how many cuts a step of the column has at most.
    """

    cuts: NDArray[Any]
    lowest: NDArray[Any]
    scales: NDArray[Any]
    below: NDArray[np.uint8]
    most: NDArray[np.int64]


def grids_of(columns: Columns, dtype: np.dtype[Any]) -> Grids:
    """Grids for values of `dtype`, float32 or float64."""
    number = len(columns.features)
    cuts = np.full((number, 2 * MOST_CUTS), np.inf, dtype=dtype)
    lowest, scales = np.zeros(number, dtype), np.zeros(number, dtype)
    below, most = np.zeros((number, STEPS + 1), np.uint8), np.zeros(number, np.int64)
    for column in range(number):
        own = _rounded_down(columns.of(column), dtype)
        cuts[column, : len(own)] = own
        lowest[column], scales[column] = _scale(own, dtype)
        steps = _steps(own, lowest[column], scales[column])
        below[column] = np.searchsorted(steps, np.arange(STEPS + 1))
        most[column] = np.bincount(steps).max()
    return Grids(cuts, lowest, scales, below, most)


def _rounded_down(cuts: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The highest value of `dtype` not above each cut: values of that type lie on the same sides of it."""
    with np.errstate(over="ignore"):
        near = cuts.astype(dtype)
    return np.where(near.astype(np.float64) > cuts, np.nextafter(near, dtype.type(-np.inf)), near)


def _scale(cuts: NDArray[Any], dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Lowest finite cut and steps a unit; no steps at all where that can't be said in `dtype`."""
    finite = cuts[np.isfinite(cuts)].astype(np.float64)
    if len(finite) < 2:
        return dtype.type(0), dtype.type(0)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = dtype.type(STEPS / (finite[-1] - finite[0]))
    usable = np.isfinite(scale) and scale > np.finfo(dtype).tiny
    return dtype.type(finite[0]), scale if usable else dtype.type(0)


def _steps(values: NDArray[Any], lowest: Any, scale: Any) -> NDArray[np.int64]:
    """As `bin_rows` computes them: NaN, of infinity times no steps, is step 0 as all is."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = (values - lowest) * scale
    return np.where(steps > 0, np.minimum(steps, STEPS), 0).astype(np.int64)


def bin_rows(
    values: NDArray[Any],
    places: NDArray[np.int64],
    offsets: NDArray[np.int64],
    chunk: int,
    last_step: Any,
    cuts: NDArray[Any],
    lowest: NDArray[Any],
    scales: NDArray[Any],
    below: Bins,
    most: NDArray[np.int64],
    nan_bins: Bins,
    bins: Bins,
) -> None:
    """Fill `bins` (column, row): of row r and column c the value is `values[places[r] + offsets[c]]`.

    `chunk` rows at a time, so that what they read of `values` stays in the nearest cache over all columns. `last_step`
    is `STEPS` in the type of the values.
    """
    rows, one = len(places), np.uint64(1)
    column_values, steps = np.empty(chunk, values.dtype), np.empty(chunk, np.int32)
    for first in range(0, rows, chunk):
        count = np.uint64(min(chunk, rows - first))
        here = places[first : first + chunk]
        for column in range(len(offsets)):
            offset, low, scale, nan = offsets[column], lowest[column], scales[column], nan_bins[column]
            own, starts, found = cuts[column], below[column], bins[column, first : first + chunk]
            no_step = low - low
            for row in range(count):
                column_values[row] = values[np.uint64(here[row] + offset)]
            for row in range(count):
                step = (column_values[row] - low) * scale
                step = step if step > no_step else no_step
                steps[row] = np.int32(step if step < last_step else last_step)
            if most[column] <= FEW:
                for row in range(count):
                    value, near = column_values[row], np.uint64(starts[np.uint64(steps[row])])
                    place = np.uint8(near + np.uint64(own[near] < value) + np.uint64(own[near + one] < value))
                    found[row] = place if value == value else nan
            else:
                for row in range(count):
                    value, near = column_values[row], np.uint64(starts[np.uint64(steps[row])])
                    left = np.uint64(most[column])
                    while left > np.uint64(0):
                        half = left >> one
                        higher = np.uint64(own[near + half] < value)
                        near += higher * (half + one)
                        left = half - higher * (one - (left & one))
                    found[row] = np.uint8(near) if value == value else nan
