"""Who predicts: the exact evaluator where it equals LightGBM, elsewhere LightGBM itself; and which of them it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.answers import Answers, answers_of
from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.ensemble.model_text import NotExact
from eo_assets.core.ensemble.verification import first_disagreement

if TYPE_CHECKING:
    import lightgbm

EXACT = "exact"


@dataclass(frozen=True)
class Predictor:
    """A model and, where it was found equal, its evaluator. Whoever predicts: the same bits, on one thread.

    LightGBM is loaded when `booster` is asked for: not by an evaluator that has all it needs.
    """

    load: Callable[[], lightgbm.Booster]
    evaluator: Evaluator | None
    reason: str = ""

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """The model as LightGBM has it."""
        return self.load()

    @property
    def told(self) -> str:
        """`exact`, or `lightgbm (why)`."""
        return EXACT if self.evaluator is not None else f"lightgbm ({self.reason})"

    def predict(self, table: NDArray[Any]) -> NDArray[np.float64]:
        """Rows (n, column) of float32 or float64: (n,), or (n, class) of probabilities."""
        if self.evaluator is not None and _fits(self.evaluator, table):
            return self.evaluator.predict(table)
        return np.asarray(self.booster.predict(table, num_threads=1), dtype=np.float64)

    def predict_pixels(self, block: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Chosen pixels (y, x) of features (time, y, x, feature), in the order of `block[:, chosen]`: as `predict`."""
        if self.evaluator is not None and chosen.any():
            return self.evaluator.predict_pixels(block, chosen)
        table = chosen_rows(block, chosen)
        return self.predict(table) if len(table) else np.empty(0)

    def answers(self, samples: NDArray[np.float32] | None = None) -> Answers | None:
        """What to keep beside the model, so that it can be loaded without LightGBM; None where that predicts."""
        return None if self.evaluator is None else answers_of(self.booster, self.evaluator, samples)


def verified_predictor(booster: lightgbm.Booster, rows: NDArray[np.float32] | None = None) -> Predictor:
    """The evaluator, unless the model is none for it, or it differs on `rows` or on rows round the cuts."""
    try:
        evaluator = Evaluator(booster)
    except NotExact as reason:
        return Predictor(lambda: booster, None, str(reason))
    difference = first_disagreement(booster, evaluator, rows)
    return Predictor(lambda: booster, None, difference) if difference else Predictor(lambda: booster, evaluator)


def loaded_predictor(
    text: str, load: Callable[[], lightgbm.Booster], told: str | None, answers: Answers | None
) -> Predictor:
    """Of a model's text whose training `told` who predicts: LightGBM, or the evaluator if its answers are the same.

    A model whose training told nothing, an older one or another's, is compared with LightGBM round all of its cuts.
    """
    if told is not None and told != EXACT:
        return Predictor(load, None, told.removeprefix("lightgbm (").removesuffix(")"))
    if told is None or answers is None:
        return verified_predictor(load())
    try:
        evaluator = Evaluator(text)
    except NotExact as reason:
        return Predictor(load, None, str(reason))
    except (LookupError, ValueError):
        return verified_predictor(load())  # a torn model: LightGBM tells
    difference = answers.first_difference(evaluator)
    return Predictor(load, None, difference) if difference else Predictor(load, evaluator)


def chosen_rows(block: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Chosen pixels (y, x) of features (time, y, x, feature) as rows (n, time * feature)."""
    dates, width = block.shape[0], block.shape[3]
    table = np.empty((int(chosen.sum()), dates * width), dtype=block.dtype)
    for date in range(dates):  # of the block there is one copy, the table
        table[:, date * width : (date + 1) * width] = block[date][chosen]
    return table


def _fits(evaluator: Evaluator, table: NDArray[Any]) -> bool:
    """What LightGBM converts or refuses, it is left to."""
    known = table.ndim == 2 and table.dtype in (np.float32, np.float64)
    return known and len(table) > 0 and table.shape[1] == evaluator.tables.ensemble.columns
