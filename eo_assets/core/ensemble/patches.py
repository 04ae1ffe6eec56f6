"""Which pixels are predicted, and in which order: neighbours together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.compiled import run_compiled

EDGE = 8
"""Pixels along the side of a patch: 64 pixels are one group of rows."""

BLOCK = 64
"""Pixels along the side of a block of patches."""


def pixels_with_values(block: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels (y, x) of features (time, y, x, feature) that have a value, no NaN, of any date."""
    found = np.zeros(block.shape[1:3], dtype=np.bool_)
    run_compiled(mark_values, block, found)
    return found


def mark_values(block: NDArray[np.float32], found: NDArray[np.bool_]) -> None:
    """Loop of `pixels_with_values`: set `found` (y, x) where there is a value."""
    for date in range(block.shape[0]):
        for y in range(block.shape[1]):
            for x in range(block.shape[2]):
                feature = 0
                while not found[y, x] and feature < block.shape[3]:
                    found[y, x] = block[date, y, x, feature] == block[date, y, x, feature]
                    feature += 1


def in_patches(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places (y * width + x) of the chosen pixels (y, x), patch by patch of 8 x 8, block by block of 64 x 64."""
    height, width = chosen.shape
    tall, wide = -(-height // BLOCK), -(-width // BLOCK)
    places = np.full((tall * BLOCK, wide * BLOCK), -1, dtype=np.int64)
    places[:height, :width] = np.where(chosen, np.arange(height * width).reshape(height, width), -1)
    sides = BLOCK // EDGE
    ordered = places.reshape(tall, sides, EDGE, wide, sides, EDGE).transpose(0, 3, 1, 4, 2, 5).reshape(-1)
    return ordered[ordered >= 0]
