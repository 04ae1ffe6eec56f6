"""Random samples of a tile: blocks of pixels, drawn from a seed and the tile's name alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.tile import Tile


def generator(seed: int, tile_name: str) -> np.random.Generator:
    """A tile's own random generator: the same whichever other tiles run, on any machine."""
    digest = hashlib.sha256(f"{seed}/{tile_name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def cell_window(tile: Tile) -> tuple[slice, slice]:
    """(rows, columns) of the tile's cell, without its buffer: a buffer pixel is another tile's to sample."""
    y, x = tile.buffer_px
    return slice(y, tile.shape[0] - y), slice(x, tile.shape[1] - x)


def eligible_blocks(sampleable: NDArray[np.bool_], block: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a block (y, x pixels) may start: at every upper left corner whose block holds a sampleable pixel.

    `sampleable` is (y, x) and no block leaves it: give the cell alone. The result is (y, x) too, shortened by the block
    less one.
    """
    height, width = sampleable.shape[0] - block[0] + 1, sampleable.shape[1] - block[1] + 1
    if height <= 0 or width <= 0:
        return np.zeros((0, 0), dtype=bool)
    sums = np.pad(sampleable, ((1, 0), (1, 0))).astype(np.int64).cumsum(0).cumsum(1)
    y, x = block
    counts = sums[y:, x:] - sums[:-y, x:] - sums[y:, :-x] + sums[:-y, :-x]
    return np.asarray(counts[:height, :width] > 0)


def draw_blocks(
    eligible: NDArray[np.bool_], number: int | None, fraction: float | None, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Upper left corners (n, 2) as (row, column), without repetition, in row order.

    Exactly `number`, or all that are eligible if there are fewer; or the rounded `fraction` of the eligible ones.
    """
    corners = np.flatnonzero(eligible)
    wanted = round(fraction * len(corners)) if fraction is not None else number or 0
    chosen = np.sort(rng.choice(corners, size=min(wanted, len(corners)), replace=False))
    width = max(1, eligible.shape[1])
    return np.stack([chosen // width, chosen % width], axis=1).astype(np.int32)


def block_pixels(corners: NDArray[np.int32], block: tuple[int, int]) -> NDArray[np.int32]:
    """The pixels of the blocks, (n * y, x, 2) as (row, column): blocks stand below one another, as in eo-learn."""
    rows, columns = np.meshgrid(np.arange(block[0]), np.arange(block[1]), indexing="ij")
    offsets = np.stack([rows, columns], axis=-1)
    pixels = corners[:, None, None, :] + offsets[None]
    return pixels.reshape(-1, block[1], 2).astype(np.int32)


def sample_counts(pixels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(y, x, 1): how many times each pixel was sampled, at most 255."""
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (pixels[..., 0], pixels[..., 1]), 1)
    return np.minimum(counts, 255).astype(np.uint8)[..., None]


def ground_blocks(pixels: NDArray[np.int32], tile: Tile, block_px: int) -> NDArray[np.int64]:
    """The ground block of each pixel, (n, 3) as (EPSG, block row, block column) for pixels (n, 2).

    Blocks of `block_px` pixels lie on one lattice a CRS, anchored at its origin, so a piece of ground is in the same
    block whichever tile shows it.
    """
    size = block_px * tile.resolution
    x = tile.bounds.left + (pixels[:, 1] + 0.5) * tile.resolution
    y = tile.bounds.top - (pixels[:, 0] + 0.5) * tile.resolution
    epsg = np.full(len(pixels), tile.epsg)
    return np.stack([epsg, np.floor(y / size), np.floor(x / size)], axis=1).astype(np.int64)


def labelled(reference: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where a reference says anything: neither nodata nor NaN. Nodata is not 0 unless the project says so."""
    values = np.asarray(reference)
    known = values != nodata
    return np.asarray(known & ~np.isnan(values) if values.dtype.kind == "f" else known)
