"""The evaluator beside LightGBM, on values that would show a difference, before it is used.

Two comparisons cover one another. Predictions are LightGBM's own, but reach only those nodes that some row comes to.
Decisions are compared at every node, with LightGBM's rule as this module says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.ensemble.model_text import DEFAULT_LEFT, MISSING_NAN
from eo_assets.core.ensemble.tables import ZERO

if TYPE_CHECKING:
    import lightgbm

SPECIAL = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-35, -1e-35, 1e-36, -1e-36, 1e-40, -1e-45, 5e-324, 3e38, -1e308)
"""Values that are treated in ways of their own: missing, infinite, denormal, taken for 0, and beyond float32."""


RULES_AT_ONCE = 256
"""Decisions of a column that are compared together."""


def first_disagreement(
    booster: lightgbm.Booster, evaluator: Evaluator, rows: NDArray[np.float32] | None = None, most: int | None = None
) -> str | None:
    """How the evaluator's predictions differ from LightGBM's, or None: equal in every bit.

    Compared are `rows` (n, column), and a table with every cut of the model, the values next to it in float32 and in
    float64, and `SPECIAL`; its rows are otherwise `rows`, so that they reach all parts of the trees. With `most`, that
    many rows of it, and no node by itself.
    """
    if most is None and (wrong := first_wrong_decision(evaluator)):
        return wrong
    adversarial = values_round_cuts(evaluator, rows)[:most]
    with np.errstate(over="ignore"):
        tables: dict[str, NDArray[Any]] = {"float64": adversarial, "float32": adversarial.astype(np.float32)}
    if rows is not None and len(rows):
        tables["samples"] = np.asarray(rows)
    for name, table in tables.items():
        expected = np.asarray(booster.predict(table, num_threads=1), dtype=np.float64)
        if found := difference(evaluator.predict(table), expected):
            return f"{found} ({name})"
    return None


def difference(found: NDArray[np.float64], expected: NDArray[np.float64]) -> str | None:
    """How predictions differ from LightGBM's, or None: equal in every bit."""
    if found.shape != expected.shape:
        return f"{found.shape} are not {expected.shape} values"
    unequal = found.view(np.int64) != expected.view(np.int64)
    if not unequal.any():
        return None
    place = int(np.flatnonzero(unequal.reshape(len(found), -1).any(axis=1))[0])
    return f"{int(unequal.sum())} values differ, the first in row {place} of {len(found)}"


def first_wrong_decision(evaluator: Evaluator) -> str | None:
    """The first node that sends a value round any cut of its feature to another side than LightGBM, or None."""
    nodes, trees = evaluator.tables.nodes, evaluator.tables.ensemble.trees
    said = [np.concatenate([[], *(getattr(tree, name) for tree in trees)]) for name in ("thresholds", "decisions")]
    rules = np.unique(np.stack([nodes.columns, nodes.cuts, *said], axis=1), axis=0)
    table = _critical_table(evaluator)
    with np.errstate(over="ignore"):
        single = table.astype(np.float32)
    for values in (table, single):
        bins = evaluator.bins(values)
        for some in _by_column(rules):
            column = int(some[0, 0])
            own = values[:, evaluator.tables.columns.features[column]].astype(np.float64)
            cuts, thresholds, decisions = some[:, 1:, None].transpose(1, 0, 2)
            wrong = (bins[column] > cuts) != goes_right(own, thresholds, decisions.astype(np.int64))
            if wrong.any():
                rule, place = np.argwhere(wrong)[0]
                threshold = float(thresholds[rule, 0])
                return f"{own[place]!r} ({values.dtype}) goes the wrong way at the threshold {threshold!r}"
    return None


def _by_column(rules: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The rules of one column after the other, so many at a time that a table of them and its values stays small."""
    ends = np.flatnonzero(np.diff(rules[:, 0])) + 1
    for of_column in np.split(rules, ends):
        for start in range(0, len(of_column), RULES_AT_ONCE):
            yield of_column[start : start + RULES_AT_ONCE]


def goes_right(
    values: NDArray[np.float64], threshold: NDArray[np.float64] | float, decision: NDArray[np.int64] | int
) -> NDArray[np.bool_]:
    """LightGBM's rule for values that it was given: `Tree::NumericalDecision` in include/LightGBM/tree.h."""
    missing = np.isnan(values)
    taken = np.where(missing | (np.abs(values) <= ZERO), 0.0, values)
    told = missing & (np.bitwise_and(decision, MISSING_NAN) != 0)
    return np.where(told, np.bitwise_and(decision, DEFAULT_LEFT) == 0, taken > threshold)


def values_round_cuts(evaluator: Evaluator, rows: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
    """(n, column) float64: every column takes each of its cuts, their neighbours and `SPECIAL` in some row.

    Half of the other values are those of `rows`, in their order over and over, as many as there are; the rest are more
    of the column's own.
    """
    columns, random = evaluator.tables.ensemble.columns, np.random.default_rng(1)
    own = [_critical(evaluator, column) for column in range(columns)]
    length = max(512, *(len(values) for values in own))
    table = np.empty((2 * length, columns))
    for column, values in enumerate(own):
        table[:, column] = np.resize(random.permutation(values), 2 * length)
    if rows is not None and len(rows):
        kept = random.random(table.shape) < 0.9
        kept[:length] = random.random((length, columns)) < 0.5
        table = np.where(kept, np.resize(rows, table.shape), table)
        for column, values in enumerate(own):
            places = random.permutation(length)[: len(values)]
            table[places, column] = values
    return random.permutation(table)


def _critical_table(evaluator: Evaluator) -> NDArray[np.float64]:
    """(n, column): all critical values of each column."""
    own = [_critical(evaluator, column) for column in range(evaluator.tables.ensemble.columns)]
    length = max(len(values) for values in own)
    return np.stack([np.resize(values, length) for values in own], axis=1)


def _critical(evaluator: Evaluator, column: int) -> NDArray[np.float64]:
    features = evaluator.tables.columns.features
    cuts = [evaluator.tables.columns.of(int(place)) for place in np.flatnonzero(features == column)]
    exact = np.concatenate([*cuts, SPECIAL])
    with np.errstate(over="ignore"):
        single = exact.astype(np.float32)
    near = [np.nextafter(values, values.dtype.type(side)) for values in (exact, single) for side in (-np.inf, np.inf)]
    return np.concatenate([exact, single, *near]).astype(np.float64)
