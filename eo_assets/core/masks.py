"""Valid pixels out of quality values: by class, by probability, grown by a disc. Arrays are (time, y, x), or (y, x)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.mask_classes import CLASSES, NO_DATA, Scheme, class_value

Values = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ByValue:
    """Which values are valid, and which of the others spread to their neighbours when a mask is dilated.

    None stands for all that are not in the other one. A value in neither of the two is invalid and stays where it is:
    what was not seen says nothing about what lies beside it.
    """

    valid: Collection[int] | None
    spreading: Collection[int] | None

    def split(self, values: Values) -> tuple[Mask, Mask]:
        """Which pixels are valid, and which spread. NaN is no value that anybody listed."""
        if self.spreading is None:
            valid = one_of(values, self.valid or ())
            return valid, ~valid
        spreading = one_of(values, self.spreading)
        if self.valid is None:
            return ~spreading & ~_nan(values), spreading
        return one_of(values, self.valid), spreading


@dataclass(frozen=True, slots=True)
class NotZero:
    """A bare cast: every value but 0 is valid, and 0 spreads."""

    def split(self, values: Values) -> tuple[Mask, Mask]:
        """Which pixels are valid, and which spread."""
        valid = values != 0
        return valid, ~valid


@dataclass(frozen=True, slots=True)
class Below:
    """A probability: valid from 0 to below the threshold. From there on it spreads.

    Negative values and NaN are no probabilities: invalid, and they stay where they are.
    """

    threshold: float

    def split(self, values: Values) -> tuple[Mask, Mask]:
        """Which pixels are valid, and which spread."""
        return (values >= 0) & (values < self.threshold), values >= self.threshold


Rule = ByValue | NotZero | Below


def valid_classes(entries: Sequence[int | str], scheme: Scheme | None) -> ByValue:
    """The listed values are valid, no others. With a scheme only its other classes spread, and never no data."""
    listed = [class_value(entry, scheme) for entry in entries]
    return ByValue(listed, None if scheme is None else _seen(scheme, listed))


def invalid_classes(entries: Sequence[int | str], scheme: Scheme | None) -> ByValue:
    """The listed values are invalid and spread.

    With a scheme its other classes are valid, but never no data, nor a value that the scheme doesn't have. Without one
    nothing is known but the list: every other value is valid.
    """
    listed = [class_value(entry, scheme) for entry in entries]
    return ByValue(None if scheme is None else _seen(scheme, listed), listed)


def valid_pixels(values: Values, rule: Rule, dilate_px: int = 0) -> Mask:
    """Which pixels are valid: by their own value, and with nothing that spreads within `dilate_px` of their frame."""
    valid, spreading = rule.split(values)
    if dilate_px:
        valid &= ~dilated(spreading, dilate_px)
    return valid


def dilated(area: Mask, radius: int) -> Mask:
    """Every pixel within `radius` of an area by a disc (dx^2 + dy^2 <= radius^2); each frame by itself.

    The same as a binary dilation with scikit-image's disk, which s2cloudless uses, at a few passes a pixel of radius
    instead of one for each pixel of the disc: rows of the disc widen from its rim to its middle.
    """
    found, wide, reach = area.copy(), area.copy(), 0
    for down in range(radius, -1, -1):
        half = math.isqrt(radius * radius - down * down)
        for step in range(reach + 1, half + 1):
            wide[..., step:] |= area[..., :-step]
            wide[..., :-step] |= area[..., step:]
        reach = half
        if down:
            found[..., down:, :] |= wide[..., :-down, :]
            found[..., :-down, :] |= wide[..., down:, :]
    found |= wide
    return found


def kept_frames(valid_pixels: Iterable[int], pixels: int, threshold: float) -> tuple[int, ...]:
    """The positions of frames whose valid share is above the threshold; at the threshold a frame is dropped.

    `valid_pixels` are counts by frame, of `pixels` each. As in eo-grow's ValidDataFractionPredicate, in float64.
    """
    return tuple(frame for frame, valid in enumerate(valid_pixels) if pixels and valid / pixels > threshold)


def one_of(values: Values, listed: Iterable[int]) -> Mask:
    """Is a value among a few? A comparison each: `numpy.isin` would take eight bytes a pixel on the way."""
    found = np.zeros(values.shape, dtype=np.bool_)
    for value in listed:
        found |= values == value
    return found


def _nan(values: Values) -> Mask:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=np.bool_)


def _seen(scheme: Scheme, listed: Collection[int]) -> list[int]:
    """The values of a scheme that tell what was seen, without those listed."""
    return [value for name, value in CLASSES[scheme].items() if name != NO_DATA and value not in listed]
