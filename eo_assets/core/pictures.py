"""Small pictures of arrays, as PNG bytes: what a person sees of a tile in the UI and in the report.

Every picture is at most `side` pixels wide and high, by taking every n-th pixel: nothing is averaged, so that a class
stays a class and a hole stays a hole. Read arrays with the step of `stride` to save the reading; a picture of an array
that is small enough already takes all of it. Nodata is transparent. PNGs have a palette and come to 5-30 KB.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Colour = tuple[int, int, int]
Colormap = Literal["viridis", "brbg"]

SIDE = 192
"""Pixels: what the Dagster UI shows of an inline picture without scrolling."""

NODATA = 0
"""The palette's transparent entry."""

TRUE_COLOURS = 96
"""Colours of a true colour picture: more can't be told apart at this size, and noise would triple the bytes."""

RAMPS: Mapping[Colormap, tuple[Colour, ...]] = {
    # Both can be read by colour-blind people. Anchors at equal distances, linear between them.
    # viridis: matplotlib (CC0). brbg: ColorBrewer 2.0 by Cynthia Brewer (Apache 2.0).
    "viridis": (
        (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137), (53, 183, 121),
        (109, 205, 89), (180, 222, 44), (253, 231, 37),
    ),
    "brbg": (
        (84, 48, 5), (140, 81, 10), (191, 129, 45), (223, 194, 125), (246, 232, 195), (245, 245, 245), (199, 234, 229),
        (128, 205, 193), (53, 151, 143), (1, 102, 94), (0, 60, 48),
    ),
}  # fmt: skip

CLASSES: tuple[Colour, ...] = (
    # Okabe and Ito (2008), then lighter and darker kin for more than eight classes.
    (0, 158, 115), (230, 159, 0), (86, 180, 233), (213, 94, 0), (240, 228, 66), (0, 114, 178), (204, 121, 167),
    (90, 90, 90), (136, 204, 238), (17, 119, 51), (221, 204, 119), (136, 34, 85),
)  # fmt: skip


def stride(shape: tuple[int, int], side: int = SIDE) -> int:
    """The step at which an array (y, x) of this shape fits into `side` pixels both ways."""
    return max(1, -(-max(shape) // side))


def true_colour(
    reflectance: npt.NDArray[np.floating[Any]], valid: npt.NDArray[np.bool_] | None = None, *, side: int = SIDE
) -> bytes:
    """PNG of (y, x, 3) reflectance, red, green, blue; NaN, or what `valid` (y, x) denies, is transparent.

    Stretched so that a scene of any brightness can be read: each band from its 1st to its 98th percentile, which takes
    the haze off top-of-atmosphere blue and leaves clouds white, with a gamma of 1.4 for the shadows.
    """
    step = stride(reflectance.shape[:2], side)
    rgb = reflectance[::step, ::step].astype(np.float32)
    shown: npt.NDArray[np.bool_] = np.all(np.isfinite(rgb), axis=2)
    if valid is not None:
        shown &= valid[::step, ::step]
    if not shown.any():
        return _png(np.full(shown.shape, NODATA, np.uint8), [(0, 0, 0)])
    low, high = np.percentile(rgb[shown], [1, 98], axis=0)
    span = np.maximum(high - low, 1e-6)
    scaled = np.clip((np.where(shown[..., np.newaxis], rgb, low) - low) / span, 0, 1) ** (1 / 1.4)
    # Dithering would double the bytes; at this size it is not missed.
    image = Image.fromarray(np.rint(scaled * 255).astype(np.uint8), "RGB").quantize(
        TRUE_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    palette = np.array(image.getpalette(), np.uint8).reshape(-1, 3)[:TRUE_COLOURS]
    indices = np.where(shown, np.asarray(image) + 1, NODATA).astype(np.uint8)
    return _png(indices, [(0, 0, 0), *(tuple(colour) for colour in palette.tolist())])


def scalar_picture(
    values: npt.NDArray[Any],
    nodata: float | None = None,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    colormap: Colormap = "viridis",
    side: int = SIDE,
) -> bytes:
    """PNG of (y, x) values, NaN and `nodata` transparent, coloured from `vmin` to `vmax`.

    Give both where tiles are to be compared; the default is the 1st to 99th percentile of what is shown.
    """
    step = stride((values.shape[0], values.shape[1]), side)
    small = values[::step, ::step].astype(np.float64)
    shown = np.isfinite(small) if nodata is None else np.isfinite(small) & (values[::step, ::step] != nodata)
    from_values = _spread(small[shown])
    low, high = from_values[0] if vmin is None else vmin, from_values[1] if vmax is None else vmax
    share = (np.where(shown, small, low) - low) / (high - low if high > low else 1.0)
    indices = np.where(shown, 1 + np.rint(np.clip(share, 0, 1) * 254), NODATA).astype(np.uint8)
    return _png(indices, [(0, 0, 0), *_ramp(RAMPS[colormap], 255)])


def index_picture(
    values: npt.NDArray[np.floating[Any]],
    vmin: float = -1.0,
    vmax: float = 1.0,
    colormap: Colormap = "brbg",
    *,
    side: int = SIDE,
) -> bytes:
    """PNG of a (y, x) index such as NDVI, NaN transparent. The scale is fixed, so that tiles and dates compare."""
    return scalar_picture(values, vmin=vmin, vmax=vmax, colormap=colormap, side=side)


def class_picture(
    codes: npt.NDArray[np.integer[Any]],
    nodata: int | None = None,
    *,
    classes: Sequence[int] | None = None,
    side: int = SIDE,
) -> bytes:
    """PNG of (y, x) class codes, `nodata` and codes that are not in `classes` transparent.

    The n-th of `classes` has the n-th colour on every tile; without `classes` it is the n-th code that occurs here.
    Colours repeat after twelve.
    """
    step = stride((codes.shape[0], codes.shape[1]), side)
    small = codes[::step, ::step]
    known = [int(code) for code in (np.unique(small) if classes is None else classes) if code != nodata]
    indices = np.full(small.shape, NODATA, np.uint8)
    for number, code in enumerate(known):
        indices[small == code] = 1 + number % len(CLASSES)
    return _png(indices, [(0, 0, 0), *CLASSES])


def _spread(valid: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 1st and 99th percentile; the whole range where those are one value, as in a map that is nearly all zero."""
    if not valid.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(valid, [1, 99]))
    return (low, high) if high > low else (float(valid.min()), float(valid.max()))


def _ramp(anchors: Sequence[Colour], length: int) -> list[Colour]:
    """`length` colours, linear between anchors."""
    positions = np.linspace(0, len(anchors) - 1, length)
    channels = np.array(anchors, np.float64).T
    ramp = np.rint([np.interp(positions, np.arange(len(anchors)), channel) for channel in channels]).astype(int)
    return [(int(red), int(green), int(blue)) for red, green, blue in ramp.T]


def _png(indices: npt.NDArray[np.uint8], palette: Sequence[tuple[int, ...]]) -> bytes:
    """A palette PNG of (y, x) indices, whose entry `NODATA` is transparent."""
    image = Image.fromarray(indices, "L")
    image.putpalette([channel for colour in palette for channel in colour])
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, transparency=NODATA)
    return file.getvalue()
