"""The geometric median of a pixel's observations, by Geoscience Australia's `geomad`.

It is the point in the space of the bands whose distances to all observations add up to the least (Roberts, Mueller,
McIntyre 2017, doi 10.1109/TGRS.2017.2723896): unlike a median band by band it keeps the relations between the bands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import composite_loops
from eo_assets.core.compiled import run_compiled

STEP = 1e-6
"""The search ends when a step is shorter than this, as a share of the pixel's greatest value: 0.004 of 4096 DN."""

MAX_STEPS = 1000


def geomedian(
    numbers: NDArray[Any],
    clear: NDArray[np.bool_],
    frames: NDArray[np.int64],
    values: NDArray[np.float32],
    counts: NDArray[np.uint16],
) -> None:
    """Fill `values` (y, x, band) and `counts` (y, x) from one period's frames of `numbers` (time, y, x, band).

    Of one observation it is that one, of two the point midway: the mean, whatever the search would start from.
    """
    run_compiled(composite_loops.mean, numbers, clear, frames, values, counts)
    for y in range(numbers.shape[1]):
        several = counts[y] > 2
        if several.any():
            observations = numbers[frames, y][:, several].astype(np.float64)
            observations[~clear[frames, y][:, several]] = np.nan
            values[y, several] = _of_pixels(observations)


def _of_pixels(observations: NDArray[np.float64]) -> NDArray[np.float64]:
    """The geomedians (pixel, band) of (time, pixel, band), NaN where not clear.

    Each pixel is handed over as a row of its own, since geomad begins its search in a row where the one before ended: a
    value would depend on its neighbour's. Powers of two bring values under 1, exactly, so that one step length fits
    digital numbers and reflectances alike.
    """
    from geomad import nangeomedian_pcm

    _, exponents = np.frexp(np.nanmax(np.abs(observations), axis=(0, 2)))
    scale = np.ldexp(1.0, exponents)[:, None]
    series = np.ascontiguousarray((observations / scale).transpose(1, 2, 0)[:, None], dtype=np.float32)
    found = nangeomedian_pcm(series, eps=STEP, maxiters=MAX_STEPS, num_threads=1, nocheck=True)
    return np.asarray(found[:, 0] * scale)
