"""Values of a stage to values of a file: rounding, dtype and nodata, with nothing wrapped, clipped or swallowed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eo_assets.errors import ProjectError, TileError

Rounding = Literal["nearest", "truncate"]


def finish(
    values: npt.NDArray[Any], *, rounding: Rounding, dtype: npt.DTypeLike, source_nodata: float | None, nodata: float
) -> npt.NDArray[Any]:
    """Cast to a map's dtype: array of the same shape, `nodata` where the source is `source_nodata` (NaN or a value).

    `rounding` matters when floats become integers: `nearest` (halves to even) or `truncate` (towards zero, as eo-grow
    exports). `source_nodata=None` means that every value is valid.

    Raises ProjectError if `nodata` is no value of `dtype`, TileError if a valid value is NaN, is out of the dtype's
    range, or becomes the nodata code: a map that says "no data" where there is data is worse than none.
    """
    target = np.dtype(dtype)
    _check_nodata(nodata, target)
    holes = holds(values, source_nodata)
    if target.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values) if rounding == "nearest" else np.trunc(values)
    valid = values if not holes.any() else values[~holes]
    if valid.size:
        _check_range(valid, target)
    # Holes get a safe value before the cast: casting NaN to an integer is undefined.
    result = np.where(holes, values.dtype.type(0), values).astype(target)
    _check_free(result, holes, nodata)
    result[holes] = nodata
    return result


def holds(values: npt.NDArray[Any], code: float | None) -> npt.NDArray[np.bool_]:
    """Where values hold a nodata code, in their own precision; None: nowhere."""
    if code is None:
        return np.zeros(values.shape, dtype=np.bool_)
    if np.isnan(code):
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=np.bool_)
    if values.dtype.kind == "f":
        # A nodata code such as -9999.9 was stored in the array's own precision.
        return np.asarray(values == values.dtype.type(code))
    info = np.iinfo(values.dtype)
    if code != int(code) or not info.min <= code <= info.max:
        return np.zeros(values.shape, dtype=np.bool_)
    return np.asarray(values == values.dtype.type(int(code)))


def _check_nodata(nodata: float, target: np.dtype[Any]) -> None:
    if target.kind == "f":
        return
    info = np.iinfo(target)
    if not np.isfinite(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
        raise ProjectError(
            f"nodata {nodata:g} is no value of {target}, whose range is {info.min} to {info.max}. "
            "Choose a nodata within it, or another dtype."
        )


def _check_range(valid: npt.NDArray[Any], target: np.dtype[Any]) -> None:
    """Python numbers are compared, exactly: float32 can't tell 2**31 - 1 from 2**31."""
    low, high = valid.min().item(), valid.max().item()
    if low != low:
        raise TileError(
            "A value to be written is NaN and not marked as nodata. Predict with nodata NaN, or mask it before."
        )
    if target.kind == "f":
        limit = float(np.finfo(target).max)
        bottom, top = -limit, limit
    else:
        bottom, top = np.iinfo(target).min, np.iinfo(target).max
    if low < bottom or high > top:
        raise TileError(
            f"Values {low:g} to {high:g} do not fit {target}, whose range is {bottom} to {top}. "
            "Set predictions.clip within it, or choose a wider maps.dtype."
        )


def _check_free(result: npt.NDArray[Any], holes: npt.NDArray[np.bool_], nodata: float) -> None:
    taken = int(np.count_nonzero(holds(result, nodata) & ~holes))
    if taken:
        raise TileError(
            f"{taken} valid pixels have the value {nodata:g}, which is the map's nodata code. Choose a nodata outside "
            "the range of the values, or set predictions.clip so that no value reaches it."
        )
