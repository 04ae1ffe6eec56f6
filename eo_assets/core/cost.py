"""What a map will cost, how much room and how long it takes, worked out offline, before anything is asked of a service.

Processing units (PU) by Sentinel Hub's published rule: one PU is a request of 512 x 512 pixels, 3 bands and one sample
(date) a pixel, at 8 or 16 bits. Source: docs.sentinel-hub.com/api/latest/api/overview/processing-unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["batch", "process", "async"]
Shape = tuple[int, int]

PIXELS_A_UNIT = 512 * 512
BANDS_A_UNIT = 3
SMALLEST_AREA_SHARE = 0.01
"""A request counts as at least a hundredth of 512 x 512 pixels, however small."""

SMALLEST_PROCESS_UNITS = 0.005
"""What a Process request costs at least."""

DISCOUNTED_FROM_PIXELS = 10_000
"""An asynchronous request of 100 x 100 pixels gets its rate, a batch tile only above that (from documentation)."""

RATES: Mapping[Mode, float] = {"process": 1.0, "async": 2 / 3, "batch": 1 / 3}
SMALLEST_REQUEST: Mapping[Mode, float] = {"process": 0.0, "async": 10.0, "batch": 100.0}
"""What a whole request costs at least: many small batch requests, such as one retry a tile, are dear."""

UNVERIFIED = "formula not verified against an invoice"
"""What every quote says until a contract test's result against the real service is committed."""

SECONDS_A_MILLION: Mapping[str, float] = {
    "tiffs": 0.003,
    "eopatches": 0.016,
    "features": 0.03,
    "reference": 0.4,
    "predictions": 0.00003,
    "maps": 0.08,
}
"""CPU seconds for a million values that a stage makes, pixels x layers (trees x leaves for predictions).

Measured on the demo and on eight noisy tiles of 853 x 853 pixels and 12 dates, as tests/benchmarks/stage_seconds.py
prints them; another machine is faster or slower. A model that only LightGBM itself predicts with takes 20 to 40 times
as long (docs/predictions.md), which is known once it is trained.
"""


@dataclass(frozen=True, slots=True)
class RequestKind:
    """What a request asks for a pixel, and the price depends on: input bands, samples (dates), 32-bit output, mode."""

    bands: int
    samples: int
    float32: bool = False
    mode: Mode = "batch"

    @property
    def layers(self) -> int:
        """Bands x samples, twice that at 32 bits."""
        return self.bands * self.samples * (2 if self.float32 else 1)

    def tile_units(self, shape: Shape) -> float:
        """PU of one tile of (height, width) pixels, without the request's minimum."""
        return _tile_units(shape, self.layers, self.mode)

    def units(self, shapes: Sequence[Shape]) -> float:
        """PU of one request for all tiles (batch, asynchronous), or of one request for each (Process)."""
        return processing_units(shapes, self.bands, self.samples, float32=self.float32, mode=self.mode)


def processing_units(
    tiles: Iterable[Shape], bands: int, samples: int, *, float32: bool = False, mode: Mode = "batch"
) -> float:
    """Estimated PU of ONE batch or asynchronous request for all tiles, or of one Process request for each.

    `tiles` are (height, width) in pixels, buffer included; `bands` counts the evalscript's INPUT bands; `samples` is
    the number of dates that are read, 1 for a mosaic; `float32` says that an output has 32 bits, which doubles the
    price. Nothing to ask for costs nothing. An estimate: the service charges dates that it finds.
    """
    shapes = list(tiles)
    if not shapes:
        return 0.0
    units = sum(_tile_units(shape, bands * samples * (2 if float32 else 1), mode) for shape in shapes)
    return max(units, SMALLEST_REQUEST[mode])


def _tile_units(shape: Shape, layers: int, mode: Mode) -> float:
    pixels = shape[0] * shape[1]
    units = max(pixels / PIXELS_A_UNIT, SMALLEST_AREA_SHARE) * layers / BANDS_A_UNIT
    if mode == "process":
        return max(units, SMALLEST_PROCESS_UNITS)
    return units * RATES[mode] if _discounted(pixels, mode) else units


def _discounted(pixels: int, mode: Mode) -> bool:
    return pixels >= DISCOUNTED_FROM_PIXELS if mode == "async" else pixels > DISCOUNTED_FROM_PIXELS


def raw_bytes(tiles: Iterable[Shape], layers: int, dtype: npt.DTypeLike) -> int:
    """Bytes of `layers` arrays (y, x) a tile before compression: an upper bound for what a stage stores.

    Layers are bands x dates for tiffs and eopatches, features x dates for features, 1 for a reference, prediction or
    map. Real imagery compresses to a third or half of it, noise hardly at all.
    """
    return sum(height * width for height, width in tiles) * layers * np.dtype(dtype).itemsize


def cpu_hours(tiles: Iterable[Shape], layers: int, stage: str) -> float:
    """Hours of one CPU for a stage that makes `layers` values a pixel; waiting for a service is not in it."""
    return sum(height * width for height, width in tiles) * layers / 1e6 * SECONDS_A_MILLION[stage] / 3600
