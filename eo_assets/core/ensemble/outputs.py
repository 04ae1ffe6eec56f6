"""From raw scores to what `Booster.predict` gives: each in LightGBM's own order of operations, in float64.

The loops are plain Python, run as machine code by `compiled.run_compiled`: there `exp` is the C library's, as it is in
LightGBM.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Output:
    """A loop that changes scores (output, row) in place, None for scores as they are, and its parameter."""

    loop: Callable[..., None] | None
    sigmoid: float = 1.0


def sigmoids(scores: Scores, sigmoid: float) -> None:
    """Each score by itself."""
    for output in range(scores.shape[0]):
        for row in range(scores.shape[1]):
            scores[output, row] = 1.0 / (1.0 + math.exp(-sigmoid * scores[output, row]))


def softmax(scores: Scores, sigmoid: float) -> None:
    """The outputs of a row add up to 1; `sigmoid` is not used."""
    for row in range(scores.shape[1]):
        highest = scores[0, row]
        for output in range(1, scores.shape[0]):
            highest = max(highest, scores[output, row])
        total = 0.0
        for output in range(scores.shape[0]):
            scores[output, row] = math.exp(scores[output, row] - highest)
            total += scores[output, row]
        for output in range(scores.shape[0]):
            scores[output, row] /= total


UNCHANGED = frozenset(
    {"", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom"}
)


def output_of(objective: str, outputs: int) -> Output | None:
    """What an objective, as the model's text tells it ("binary sigmoid:1"), makes of scores; None: not known here."""
    name, *said = objective.split() or [""]
    options: dict[str, Any] = dict(option.partition(":")[::2] for option in said)
    if name in UNCHANGED and "sqrt" not in options:
        return Output(None)
    if name == "binary" and outputs == 1:
        return Output(sigmoids, float(options["sigmoid"]))
    if name == "multiclass":
        return Output(softmax)
    if name == "multiclassova":
        return Output(sigmoids, float(options["sigmoid"]))
    return None
