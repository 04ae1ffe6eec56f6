"""Panels of pixels in rows with captions, as one PNG: what a series looks like before and after compositing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eo_assets.core.pictures import RAMPS, Colormap

SIDE = 107
"""Pixels of a panel's longer side at most: smaller ones are enlarged pixel by pixel, larger ones shown as they are."""

GAP, CAPTION, FONT = 6, 16, 11
PAPER, NOTHING, INK, QUIET = (251, 251, 249), (138, 144, 148), (29, 35, 38), (92, 103, 109)
"""What lies between the panels, what is shown where nothing is known, and two colours of text."""


@dataclass(frozen=True, slots=True)
class Panel:
    """(y, x, 3) uint8 colours; what `known` (y, x) denies is grey."""

    caption: str
    colours: NDArray[np.uint8]
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lowest and highest value of each of three bands: with one stretch for all panels, panels compare."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> Stretch:
        """From the 1st to the 98th percentile of (..., 3) values, NaN left out."""
        flat = values.reshape(-1, 3)
        flat = flat[np.isfinite(flat).all(axis=1)]
        if not len(flat):
            return cls(np.zeros(3), np.ones(3))
        low, high = np.percentile(flat, [1, 98], axis=0)
        return cls(low, np.maximum(high, low + 1e-6))

    def colours(self, values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Colours of (y, x, 3) values, with a gamma of 1.4 for the shadows; NaN is black."""
        share = (np.nan_to_num(values, nan=-np.inf) - self.low) / (self.high - self.low)
        levels: NDArray[np.uint8] = np.rint(255 * np.clip(share, 0, 1) ** (1 / 1.4)).astype(np.uint8)
        return levels


def ramp_colours(values: NDArray[Any], vmin: float, vmax: float, colormap: Colormap = "viridis") -> NDArray[np.uint8]:
    """Colours of (y, x) values from `vmin` to `vmax`, linear between the ramp's anchors; NaN is the lowest."""
    anchors = np.asarray(RAMPS[colormap], np.float64)
    share = np.clip((np.nan_to_num(values, nan=vmin) - vmin) / max(vmax - vmin, 1e-9), 0, 1) * (len(anchors) - 1)
    channels = [np.interp(share, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    colours: NDArray[np.uint8] = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Panel | None]]]) -> bytes:
    """PNG of rows of equally large panels, each row with its name, each column with its heading; None is left empty."""
    shape = next(panel.colours.shape for _, panels in rows for panel in panels if panel)
    zoom = max(1, SIDE // max(shape[0], shape[1]))
    height, width = shape[0] * zoom, shape[1] * zoom
    image = Image.new("RGB", _size(len(columns), len(rows), height, width), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT)
    for column, heading in enumerate(columns):
        draw.text((GAP + column * (width + GAP), GAP), heading, INK, font)
    for row, (name, panels) in enumerate(rows):
        top = GAP + CAPTION + row * (height + 2 * CAPTION + GAP)
        draw.text((GAP, top), name, INK, font)
        for column, panel in enumerate(panels):
            if panel is not None:
                corner = (GAP + column * (width + GAP), top + CAPTION)
                image.paste(_pixels(panel, zoom), corner)
                draw.text((corner[0], corner[1] + height), panel.caption, QUIET, font)
    file = io.BytesIO()
    image.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _size(columns: int, rows: int, height: int, width: int) -> tuple[int, int]:
    return GAP + columns * (width + GAP), GAP + CAPTION + rows * (height + 2 * CAPTION + GAP)


def _pixels(panel: Panel, zoom: int) -> Image.Image:
    colours = np.where(panel.known[..., np.newaxis], panel.colours, np.asarray(NOTHING, np.uint8))
    return Image.fromarray(colours.repeat(zoom, axis=0).repeat(zoom, axis=1), "RGB")
