"""Gaps of a composite: periods of a pixel without a clear observation, filled from the clear ones around them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import composite_loops
from eo_assets.core.compiled import run_compiled

SECONDS_A_DAY = 86_400

GapMethod = Literal["linear", "nearest", "none"]


def fill_gaps(
    values: NDArray[np.float32], days: NDArray[np.float64], method: GapMethod, max_days: float | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A filled copy of a composite's values (period, y, x, band), and which of them were filled (period, y, x).

    A period of a pixel is a gap if any of its bands is NaN; all of them are filled together. `days` are the centres of
    the periods, ascending, to the second.

    linear: between the last clear period before and the first after, if at most `max_days` lie between their centres.
    There is no value before the first or after the last clear period.
    nearest: the values of the nearest clear period before or after, the earlier of two as near, if it is at most
    `max_days` away.
    none: gaps stay.
    """
    seconds = _seconds(values, days)
    filled_values, filled = np.array(values, dtype=np.float32, order="C"), np.zeros(values.shape[:3], np.bool_)
    if method != "none":
        loop: Any = composite_loops.fill_linear if method == "linear" else composite_loops.fill_nearest
        limit = np.inf if max_days is None else round(max_days * SECONDS_A_DAY)
        run_compiled(loop, filled_values, seconds, float(limit), filled)
    return filled_values, filled


def _seconds(values: NDArray[np.float32], days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole seconds, in which two equal distances are equal and none exceeds `max_days` by a rounding."""
    seconds = np.round(np.asarray(days, np.float64) * SECONDS_A_DAY)
    if values.ndim != 4 or seconds.shape != values.shape[:1]:
        raise ValueError(
            f"{seconds.shape} days for values {values.shape}: one a period of (period, y, x, band) is wanted"
        )
    if (np.diff(seconds) <= 0).any():
        raise ValueError(f"days {list(days)} are not in order of time")
    return seconds
