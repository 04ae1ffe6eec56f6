"""Checks of the values that rasters hold: nodata that fits its type, and predictions that fit the map."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from eo_assets.project import Byoc, Maps, Model, Predictions, Reference
from eo_assets.project_outputs import RESERVED
from eo_assets.project_problems import Finding


def check_reference_nodata(reference: Reference) -> Iterator[Finding]:
    """Nodata has to be a value of the reference's type."""
    yield from _check_nodata("reference", reference.nodata, reference.dtype)


def check_predictions_nodata(predictions: Predictions) -> Iterator[Finding]:
    """Nodata has to be a value of the predictions' type, and no prediction."""
    yield from _check_nodata("predictions", predictions.nodata, predictions.dtype)
    yield from _check_nodata_outside_clip("predictions", predictions.nodata, predictions)


def check_maps_nodata(maps: Maps) -> Iterator[Finding]:
    """Nodata has to be a value of the maps' type."""
    yield from _check_nodata("maps", maps.nodata, maps.dtype)


def check_band_name(predictions: Predictions, byoc: Byoc) -> Iterator[Finding]:
    """The published band is called like the predictions unless told otherwise, and evalscripts have to say it."""
    if byoc.band_name is None and predictions.name in RESERVED:
        what = "also the name of the published band, and a word that evalscripts reserve"
        yield Finding(("predictions", "name"), predictions.name, what, "choose another one, or set byoc.band_name")


def check_clip(predictions: Predictions) -> Iterator[Finding]:
    """A clip goes from a lower to a higher value, within the type that stores it."""
    if predictions.clip is None:
        return
    key, (low, high) = ("predictions", "clip"), predictions.clip
    if not (math.isfinite(low) and math.isfinite(high)):
        yield Finding(key, predictions.clip, "not two numbers", "give the lowest and the highest value")
    elif low >= high:
        yield Finding(key, predictions.clip, "the lower limit is not below the upper one", "write it as [low, high]")
    else:
        yield from _check_clip_fits(predictions, predictions.dtype, "predictions.dtype")


def check_clip_in_map(predictions: Predictions, maps: Maps) -> Iterator[Finding]:
    """A map has to hold every prediction, and tell it from nodata."""
    if predictions.clip is None or not predictions.clip[0] < predictions.clip[1]:
        return
    if maps.dtype != predictions.dtype:
        yield from _check_clip_fits(predictions, maps.dtype, "maps.dtype")
    yield from _check_nodata_outside_clip("maps", maps.nodata, predictions)


def check_unbounded(model: Model, predictions: Predictions, maps: Maps) -> Iterator[Finding]:
    """A regressor's predictions have no limits, a whole-number type has."""
    if model.kind != "lightgbm_regressor" or predictions.clip is not None:
        return
    for name, dtype in (("predictions.dtype", predictions.dtype), ("maps.dtype", maps.dtype)):
        if np.dtype(dtype).kind != "f":
            what = f"required, since {name} {dtype} can't hold every prediction of a regressor"
            yield Finding(("predictions", "clip"), None, what, "give [low, high]")
            return


def check_classifier(model: Model, predictions: Predictions) -> Iterator[Finding]:
    """Class codes are not clipped, and only classes have probabilities."""
    if model.kind == "lightgbm_classifier" and predictions.clip is not None:
        yield Finding(("predictions", "clip"), predictions.clip, "would change the codes of classes", "remove it")
    if model.kind != "lightgbm_classifier" and predictions.all_probabilities:
        remedy = "remove it, or use model.kind: lightgbm_classifier"
        yield Finding(("predictions", "all_probabilities"), True, f"a {model.kind} has no probabilities", remedy)


def _limits(dtype: str) -> tuple[float, float]:
    """The lowest and highest value of a type."""
    kind = np.dtype(dtype)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    return float(limits.min), float(limits.max)


def _range(dtype: str) -> str:
    low, high = _limits(dtype)
    return f"{low:.0f} to {high:.0f}" if np.dtype(dtype).kind != "f" else f"{low:.3g} to {high:.3g}"


def _check_nodata(section: str, nodata: float, dtype: str) -> Iterator[Finding]:
    low, high = _limits(dtype)
    if np.dtype(dtype).kind == "f":
        fits = not math.isfinite(nodata) or (low <= nodata <= high and float(np.dtype(dtype).type(nodata)) == nodata)
        remedy = "use .nan, or a whole number"
    else:
        fits = math.isfinite(nodata) and low <= nodata <= high and nodata == round(nodata)
        remedy = f"use a whole number from {_range(dtype)}, or another dtype"
    if not fits:
        yield Finding((section, "nodata"), nodata, f"{section}.dtype {dtype} can't hold it", remedy)


def _check_clip_fits(predictions: Predictions, dtype: str, name: str) -> Iterator[Finding]:
    assert predictions.clip is not None
    low, high = _limits(dtype)
    if predictions.clip[0] < low or predictions.clip[1] > high:
        what = f"{name} {dtype} holds {_range(dtype)}"
        yield Finding(("predictions", "clip"), predictions.clip, what, "clip within that, or choose a larger dtype")


def _check_nodata_outside_clip(section: str, nodata: float, predictions: Predictions) -> Iterator[Finding]:
    if predictions.clip is not None and predictions.clip[0] <= nodata <= predictions.clip[1]:
        low, high = predictions.clip
        what = f"a valid prediction, since predictions.clip is {low:g} to {high:g}"
        yield Finding((section, "nodata"), nodata, what, "choose a value outside of the clip")
