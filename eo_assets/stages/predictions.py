"""Stage 6, predictions: the model's answer for every valid pixel of a tile, streamed by blocks of rows."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import time_axis
from eo_assets.core.ensemble.answers import read_answers
from eo_assets.core.ensemble.patches import pixels_with_values
from eo_assets.core.ensemble.predictor import Predictor, loaded_predictor
from eo_assets.core.model import Signature, class_probabilities, first_difference
from eo_assets.core.periods import Period
from eo_assets.core.tile import Tile
from eo_assets.errors import ModelError, TileError
from eo_assets.project import Predictions
from eo_assets.stages.features import FEATURES, OBSERVATIONS
from eo_assets.stages.quicklooks import Thumbnail, write_values
from eo_assets.stages.stage import StageResult, TileInputs
from resources.eopatch_files import (
    DATA,
    DATA_TIMELESS,
    MASK,
    MASK_TIMELESS,
    ROWS,
    block_width,
    blocks,
    create_array,
    open_array,
    read_timestamps,
    row_blocks,
    write_header,
)

if TYPE_CHECKING:
    import lightgbm

MODEL_FILE, SIGNATURE_FILE, METRICS_FILE = "model.txt", "signature.json", "metrics.json"

ANSWERS_FILE = "answers.npz"
"""What LightGBM predicts for some rows: a worker compares the evaluator with it, and loads no LightGBM."""

EVALUATOR = "evaluator"
"""The key under which a model's metrics and a tile's numbers tell who predicts: `exact`, or `lightgbm (why)`."""

MOST_OBSERVATIONS = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True)
class PredictionsStage:
    """`<name>` (y, x, 1): a regression's value, or the original code of the most probable class.

    A classifier also writes `<name>_PROBABILITY` (y, x, 1), the probability of that class, and on request
    `<name>_PROBABILITIES` (y, x, class) of all. Pixels without any valid date hold nodata and are never computed. Of
    composites it hands on `mask_timeless/OBSERVATIONS` (y, x, 1) uint16, the clear observations of all periods.
    """

    predictions: Predictions
    feature_names: tuple[str, ...]
    expected_dates: int
    signature: Signature
    periods: tuple[Period, ...] = ()

    name: ClassVar[str] = "predictions"
    inputs: ClassVar[tuple[str, ...]] = ("features",)
    shared_inputs: ClassVar[tuple[str, ...]] = ("model",)
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = False
    source: ClassVar[bool] = False
    cpus: ClassVar[float] = 1.0

    def memory_bytes(self, tile: Tile) -> int:
        """One block as stored and as a table, and the model."""
        width = block_width(self.expected_dates, tile.shape[1])
        return (400 << 20) + 9 * self.expected_dates * ROWS * width * len(self.feature_names)

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """The predictions section, the order of the features and what else a model must fit."""
        said = self.predictions.model_dump(mode="json", exclude={"nodata"})
        return {
            "predictions": said,
            "nodata": repr(self.predictions.nodata),
            "features": list(self.feature_names),
            "signature": self.signature.as_json(),
        }

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Predict block by block. Features that are not what the model was trained on are a ModelError."""
        predictor, signature = load_predictor(str(inputs["model"]))
        features = open_array(inputs["features"], DATA, FEATURES)
        dates = time_axis.labels(read_timestamps(inputs["features"]), self.periods)
        columns = time_axis.columns(dates, self.feature_names)
        self._check_fit(signature, columns, tile)
        write_header(output, tile)
        writer = _Writer(output, tile, self.predictions, signature.classes)
        for rows, across in blocks(features.shape):
            block = np.asarray(features[:, rows, across])
            valid = pixels_with_values(block)
            writer.write(rows, across, predictor.predict_pixels(block, valid), valid)
            del block  # before the next one is read
        if self.periods:
            hand_on_observations(inputs["features"], output, tile)
        return writer.finish(predictor.told)

    def _check_fit(self, model: Signature, columns: tuple[str, ...], tile: Tile) -> None:
        expected = replace(self.signature, columns=model.columns, classes=model.classes)
        difference = model.difference(expected)
        if difference is not None:
            raise ModelError(
                f"{tile.name}: the model does not fit this project: {difference}; train it anew: --only model"
            )
        _check_columns(model, columns, tile)


class _Writer:
    """Turns raw predictions into the arrays of the output."""

    def __init__(self, folder: Path, tile: Tile, settings: Predictions, classes: tuple[int, ...]) -> None:
        self._folder, self._settings, self._classes, self._tile = folder, settings, classes, tile
        self._values = create_array(folder, DATA_TIMELESS, settings.name, (*tile.shape, 1), settings.dtype)
        self._probability = self._extra("PROBABILITY", 1) if classes else None
        self._all = self._extra("PROBABILITIES", len(classes)) if classes and settings.all_probabilities else None
        self._picture, self._valid, self._sum = Thumbnail(tile.shape), 0, 0.0

    def write(self, rows: slice, across: slice, raw: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        values = raw
        if self._classes and len(raw):
            probabilities = class_probabilities(raw)
            best = probabilities.argmax(axis=1)
            values = np.asarray(self._classes, dtype=np.float64)[best]
            self._scatter(self._probability, (rows, across), valid, probabilities.max(axis=1)[:, None])
            self._scatter(self._all, (rows, across), valid, probabilities)
        elif self._classes:
            self._scatter(self._probability, (rows, across), valid, np.empty((0, 1)))
            self._scatter(self._all, (rows, across), valid, np.empty((0, len(self._classes))))
        if self._settings.clip is not None:
            values = np.clip(values, *self._settings.clip)
        block = self._cast(values, valid)
        self._values[rows, across] = block[..., None]
        self._picture.add(rows, block, across)
        self._valid, self._sum = self._valid + int(valid.sum()), self._sum + float(values.sum())

    def finish(self, evaluator: str) -> StageResult:
        write_values(
            self._folder,
            self._picture.values(),
            self._settings.nodata,
            limits=self._settings.clip,
            classes=bool(self._classes),
        )
        pixels = self._tile.shape[0] * self._tile.shape[1]
        numbers = {
            "valid_share": round(self._valid / pixels, 4),
            "mean": round(self._sum / max(1, self._valid), 4),
            EVALUATOR: evaluator,
        }
        return StageResult(numbers, empty=None if self._valid else "no pixel is valid")

    def _extra(self, suffix: str, bands: int) -> Any:
        name = f"{self._settings.name}_{suffix}"
        return create_array(self._folder, DATA_TIMELESS, name, (*self._tile.shape, bands), "float32")

    def _scatter(
        self, array: Any, place: tuple[slice, slice], valid: NDArray[np.bool_], values: NDArray[np.float64]
    ) -> None:
        if array is not None:
            block = np.full((*valid.shape, values.shape[1]), np.nan, dtype=np.float32)
            block[valid] = values
            array[place] = block

    def _cast(self, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[Any]:
        """Whole types are rounded to the nearest; a value that does not fit is an error, never wrapped."""
        dtype = np.dtype(self._settings.dtype)
        block = np.full(valid.shape, self._settings.nodata, dtype=dtype)
        if dtype.kind in "iu":
            values, limits = np.rint(values), np.iinfo(dtype)
            if len(values) and not (limits.min <= values.min() and values.max() <= limits.max):
                raise TileError(
                    f"predictions of {self._tile.name}: {values.min()}..{values.max()} do not fit predictions.dtype "
                    f"{dtype}; give predictions.clip, or a wider type"
                )
        cast = values.astype(dtype)
        if (cast == block.dtype.type(self._settings.nodata)).any():
            raise TileError(
                f"predictions of {self._tile.name}: a valid pixel has the value of predictions.nodata "
                f"({self._settings.nodata:g}); choose a nodata outside predictions.clip"
            )
        block[valid] = cast
        return block


def hand_on_observations(features: Path, output: Path, tile: Tile) -> None:
    """The clear observations of each pixel over all periods, so that a map needs the predictions alone."""
    counts = open_array(features, MASK, OBSERVATIONS)
    totals = create_array(output, MASK_TIMELESS, OBSERVATIONS, (*tile.shape, 1), "uint16")
    for rows in row_blocks(tile.shape[0]):
        totals[rows] = np.minimum(counts[:, rows].sum(axis=0, dtype=np.int64), MOST_OBSERVATIONS).astype(np.uint16)


@functools.lru_cache(maxsize=2)
def load_predictor(folder: str) -> tuple[Predictor, Signature]:
    """The committed model, and its signature; folders are immutable, so a worker reads each once."""
    place = Path(folder)
    try:
        signature = Signature.from_json(json.loads((place / SIGNATURE_FILE).read_text()))
        text = (place / MODEL_FILE).read_text()
    except (OSError, ValueError, ModelError) as error:
        raise _unreadable(place, error) from None
    metrics, answers = place / METRICS_FILE, place / ANSWERS_FILE
    told = _told(metrics)
    known = read_answers(answers.read_bytes()) if answers.is_file() else None
    return loaded_predictor(text, lambda: load_booster(place), told, known), signature


def _told(metrics: Path) -> str | None:
    """Who predicts, as training has found; None if it told nothing, or its file is torn: then it is found out anew."""
    try:
        said = json.loads(metrics.read_text())
    except (OSError, ValueError):
        return None
    told = said.get(EVALUATOR) if isinstance(said, dict) else None
    return told if isinstance(told, str) else None


def load_booster(folder: Path) -> lightgbm.Booster:
    """A committed model as LightGBM has it. A ModelError if it can't be loaded."""
    import lightgbm

    try:
        return lightgbm.Booster(model_file=str(folder / MODEL_FILE))
    except (OSError, lightgbm.basic.LightGBMError) as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"{folder / MODEL_FILE} can't be loaded: {error}; train again: --only model")


def _check_columns(signature: Signature, columns: tuple[str, ...], tile: Tile) -> None:
    position = first_difference(signature.columns, columns)
    if position is None:
        return
    expected, found = ((*names, "none")[position] for names in (signature.columns, columns))
    raise ModelError(
        f"{tile.name}: its features are not the model's columns: column {position} is {found}, the model was trained "
        f"on {expected}; with features.composite: none every tile needs the dates of the training tiles"
    )
