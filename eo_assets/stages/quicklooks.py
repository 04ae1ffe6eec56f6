"""Small pictures of what a stage wrote, beside its arrays as `quicklook.png`. Every n-th pixel is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import pictures

QUICKLOOK, OBSERVATIONS_PICTURE = "quicklook.png", "observations.png"
SIDE = 192
"""Pixels of the longer side: a picture of some 10-25 KB, small enough to be inlined in an event."""

NO_CLASS = -1
"""Stands for no data in a picture of classes, whose own nodata may be NaN."""

RGB = (("B04", "B03", "B02"), ("b4", "b3", "b2"), ("red", "green", "blue"), ("b5", "b4", "b3"))
"""Bands shown as red, green and blue where a stack has them: the last are Landsat 5's, short-wave infrared, near
infrared and red, in which plants are green, bare ground is pink and clouds are white."""


class Thumbnail:
    """Every n-th pixel of an array that passes by in blocks."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.step = max(1, math.ceil(max(shape) / SIDE))
        self._shape = tuple(-(-side // self.step) for side in shape)
        self._values: NDArray[Any] | None = None

    def add(self, rows: slice, block: NDArray[Any], columns: slice = slice(0, None)) -> None:
        """Take what is needed of a block (rows, columns, band)."""
        top, left = (-(-axis.start // self.step) for axis in (rows, columns))
        taken = block[top * self.step - rows.start :: self.step, left * self.step - columns.start :: self.step]
        if self._values is None:
            self._values = np.zeros((*self._shape, *block.shape[2:]), block.dtype)
        self._values[top : top + taken.shape[0], left : left + taken.shape[1]] = taken

    def values(self) -> NDArray[Any]:
        """(y, x, band), thinned."""
        assert self._values is not None
        return self._values


def write_true_colour(folder: Path, values: NDArray[Any], bands: Sequence[str]) -> None:
    """Three bands of (y, x, band) values in reflectance in colour, where the stack has them; zero is no data."""
    for names in RGB:
        if all(name in bands for name in names):
            rgb = values[..., [bands.index(name) for name in names]]
            _write(folder, pictures.true_colour(rgb, np.asarray(rgb.any(axis=-1)), side=SIDE))
            return


def write_feature(folder: Path, values: NDArray[Any], *, is_index: bool) -> None:
    """The last date of the first feature, (y, x) with NaN as no data."""
    if is_index:
        _write(folder, pictures.index_picture(values, -1.0, 1.0, side=SIDE))
    else:
        _write(folder, pictures.scalar_picture(values, float("nan"), side=SIDE))


def write_observations(folder: Path, counts: NDArray[Any]) -> None:
    """How many clear observations a pixel has, (y, x), from none to the most."""
    png = pictures.scalar_picture(counts.astype(np.float32), float("nan"), vmin=0, vmax=max(1, counts.max()), side=SIDE)
    (folder / OBSERVATIONS_PICTURE).write_bytes(png)


def write_values(
    folder: Path,
    values: NDArray[Any],
    nodata: float,
    *,
    limits: tuple[float, float] | None = None,
    classes: bool = False,
    side: int = SIDE,
) -> None:
    """A reference, prediction or map, (y, x). With `limits` pictures of neighbouring tiles have the same colours."""
    if classes:
        unknown = np.isnan(values) if math.isnan(nodata) else values == nodata
        codes = np.where(unknown, NO_CLASS, values).astype(np.int64)
        _write(folder, pictures.class_picture(codes, NO_CLASS, side=side))
        return
    low, high = limits or (None, None)
    _write(folder, pictures.scalar_picture(values, nodata, vmin=low, vmax=high, side=side))


def _write(folder: Path, png: bytes) -> None:
    (folder / QUICKLOOK).write_bytes(png)
