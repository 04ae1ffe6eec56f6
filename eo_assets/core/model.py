"""Training a LightGBM model on a table of samples; what it expects is in `signature.py`."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core import scores
from eo_assets.core.ensemble.answers import Answers
from eo_assets.core.ensemble.predictor import verified_predictor
from eo_assets.core.signature import ModelKind, Signature, first_difference
from eo_assets.errors import ModelError

if TYPE_CHECKING:
    import lightgbm

__all__ = [
    "ModelKind",
    "Samples",
    "Signature",
    "TrainedModel",
    "Training",
    "class_probabilities",
    "first_difference",
    "model_text",
    "train",
]
THREAD_PARAMETERS = frozenset({"n_jobs", "num_threads", "nthread", "nthreads", "num_thread"})
"""Parameters that change how fast a model is trained, not which: never part of a recipe."""

ROWS_AT_A_TIME = 16_384
"""Rows of the table that are copied or predicted at once."""

COMPARED = 4096
"""Samples at most on which the evaluator of a trained model is compared with LightGBM."""

TREE_PARAMETERS = (
    "n_estimators",
    "num_iterations",
    "num_iteration",
    "n_iter",
    "num_tree",
    "num_trees",
    "num_round",
    "num_rounds",
    "nrounds",
    "num_boost_round",
    "max_iter",
)
"""LightGBM's names of the number of trees: https://lightgbm.readthedocs.io/en/stable/Parameters.html#num_iterations"""


@dataclass(frozen=True, slots=True)
class Samples:
    """The table a model is trained on. `features` (n, column) float32, `labels` (n,), `blocks` (n, 3) ground blocks.

    `features` may be a mapped file (`np.load(..., mmap_mode="r")`): its pages are let go as they are read.
    `weights` (n,), above 0, say how much a sample counts in training; None: all alike. Scores count every sample once.
    """

    features: NDArray[np.float32]
    labels: NDArray[Any]
    blocks: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def take(self, chosen: NDArray[np.bool_]) -> Samples:
        """The samples that a mask (n,) chooses."""
        weights = None if self.weights is None else self.weights[chosen]
        return Samples(_rows(self.features, chosen), self.labels[chosen], self.blocks[chosen], weights)


@dataclass(frozen=True, slots=True)
class Training:
    """What is asked for: the kind, LightGBM's parameters, and how samples are set aside for scoring."""

    kind: ModelKind
    parameters: Mapping[str, bool | int | float | str]
    train_fraction: float
    seed: int


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model, the codes of its classes, its scores on both splits beside the trivial predictor's, its importances.

    `evaluator` tells who predicts with it: `exact`, or `lightgbm (why)`; `answers` are LightGBM's, to check it by.
    """

    booster: lightgbm.Booster
    classes: tuple[int, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    importances: Mapping[str, float]
    evaluator: str
    answers: Answers | None


def train(samples: Samples, columns: tuple[str, ...], training: Training) -> TrainedModel:
    """Train on all but the held-out ground blocks and score on those; the random split is trained and scored beside it.

    The model that is kept is the one whose score on whole blocks is told. Raises ModelError for samples or parameters
    that LightGBM can't use.

    Memory: with a mapped table, the rows trained on (`train_fraction` of the table), and beside them LightGBM's sample
    of 200,000 rows in float64, then a byte a value. At 1,000,000 rows x 540 columns that stays under 2.5 times the
    table, mapped pages among it (tests/benchmarks/training_memory.py). The two splits follow one another, so that
    theirs don't add up.
    """
    if len(samples.labels) < 2:
        raise ModelError(f"{len(samples.labels)} samples are too few to train on; raise sampling.number or add labels")
    classes, labels = _encode(samples.labels, training.kind)
    table = Samples(samples.features, labels, samples.blocks, samples.weights)
    held = scores.held_out_blocks(samples.blocks, training.train_fraction, training.seed)
    booster, block_scores = _fit_and_score(table, held, classes, columns, training)
    random = scores.held_out_random(len(labels), training.train_fraction, training.seed)
    _, random_scores = _fit_and_score(table, random, classes, columns, training)
    gain = booster.feature_importance("gain")
    importances = {name: float(value) for name, value in zip(columns, gain / max(1e-300, gain.sum()))}
    metrics = {"held_out_blocks": block_scores, "random_split": random_scores}
    rows = _spread(samples.features)
    predictor = verified_predictor(booster, rows)
    return TrainedModel(booster, classes, metrics, importances, predictor.told, predictor.answers(rows))


def model_text(booster: lightgbm.Booster) -> str:
    """The model as LightGBM's own file, byte for byte the same whatever number of threads it was trained on.

    LightGBM lists the parameters of the training behind the trees, the threads among them: they say nothing of a model.
    """
    return re.sub(r"(?m)^\[num_threads: -?\d+\]$", "[num_threads: 0]", booster.model_to_string())


def class_probabilities(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, class), also for a binary model, which gives the second class's probability alone."""
    return np.stack([1 - raw, raw], axis=1) if raw.ndim == 1 else raw


def _encode(labels: NDArray[Any], kind: ModelKind) -> tuple[tuple[int, ...], NDArray[Any]]:
    """LightGBM wants classes as 0..n-1; the original codes are kept beside it."""
    if kind == "lightgbm_regressor":
        return (), labels.astype(np.float64)
    codes, encoded = np.unique(labels, return_inverse=True)
    fractions = codes[codes != np.rint(codes)]
    if len(fractions):
        raise ModelError(
            f"the reference holds {fractions[0]}, which is no class code: a classifier needs whole numbers; "
            "use model.kind: lightgbm_regressor, or a reference of classes"
        )
    if len(codes) < 2:
        raise ModelError(f"the samples have one class only ({codes.tolist()}); a classifier needs two or more")
    return tuple(int(code) for code in codes), encoded


def _fit_and_score(
    samples: Samples, held: NDArray[np.bool_], classes: tuple[int, ...], columns: tuple[str, ...], training: Training
) -> tuple[lightgbm.Booster, dict[str, Any]]:
    booster = _fit(samples.take(~held), len(classes), columns, training)
    counts = {"training_samples": int((~held).sum()), "scored_samples": int(held.sum())}
    if not held.any():
        return booster, counts
    predicted, truth = _predict_held(booster, samples.features, held), samples.labels[held]
    if classes:
        majority = np.full(len(truth), np.bincount(samples.labels[~held]).argmax())
        best = class_probabilities(predicted).argmax(axis=1)
        model, trivial = (scores.classification_scores(truth, guess) for guess in (best, majority))
    else:
        mean = np.full(len(truth), samples.labels[~held].mean())
        model, trivial = (scores.regression_scores(truth, guess) for guess in (predicted, mean))
    return booster, {**counts, "model": model, "trivial": trivial}


def _spread(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most `COMPARED` rows from all over the table."""
    return np.asarray(table[:: -(-len(table) // COMPARED)])


def _rows(table: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The rows that a mask (n,) chooses, copied piece by piece."""
    rows = np.empty((int(np.count_nonzero(chosen)), table.shape[1]), dtype=table.dtype)
    done = 0
    for piece in _pieces(table, chosen):
        rows[done : done + len(piece)] = piece
        done += len(piece)
    return rows


def _predict_held(
    booster: lightgbm.Booster, table: NDArray[np.float32], held: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """LightGBM's predictions of the rows that a mask (n,) chooses: a row's does not depend on the others."""
    return np.concatenate([booster.predict(piece, num_threads=1) for piece in _pieces(table, held) if len(piece)])


def _pieces(table: NDArray[np.float32], chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(table), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        yield table[rows][chosen[rows]]
        if isinstance(table.base, mmap.mmap):
            # Read once: what stays mapped would count as this process's memory, all of the file in the end.
            table.base.madvise(mmap.MADV_DONTNEED)


def _fit(samples: Samples, classes: int, columns: tuple[str, ...], training: Training) -> lightgbm.Booster:
    parameters = {
        "objective": "regression" if not classes else "binary" if classes == 2 else "multiclass",
        **({"num_class": classes} if classes > 2 else {}),
        "seed": training.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        **training.parameters,
    }
    trees = [int(parameters.pop(name)) for name in TREE_PARAMETERS if name in parameters]
    import lightgbm

    data = lightgbm.Dataset(
        samples.features,
        samples.labels,
        weight=samples.weights,
        feature_name=list(columns),
        params={"verbosity": -1},
    )
    try:
        return lightgbm.train(parameters, data, num_boost_round=trees[0] if trees else 100)
    except lightgbm.basic.LightGBMError as error:
        raise ModelError(f"LightGBM refused model.parameters {dict(training.parameters)}: {error}") from None
