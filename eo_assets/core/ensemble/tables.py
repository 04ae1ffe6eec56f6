"""The trees as flat arrays for compiled loops: cuts by column, nodes by tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.model_text import DEFAULT_LEFT, MISSING_NAN, Ensemble, NotExact, Tree

MOST_CUTS = 255
"""Cuts of a column: its bins 0..255 are bytes. A feature with more of them has several columns."""

MOST_LEAVES = 256
"""Leaves of a tree: their numbers are bytes."""

ZERO = float(np.float32(1e-35))
"""LightGBM takes |value| <= ZERO for 0: `kZeroThreshold` in include/LightGBM/meta.h."""

NAN_LEFT, NAN_RIGHT, NAN_ZERO = 0, 1, 2
"""Where a node sends NaN: to a side, or where it sends 0."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is binned: of `features` (column,) the cuts [starts[c], starts[c + 1]) of `cuts` (float64, ascending).

    A value's bin is the number of its column's cuts below it, NaN's is `nan_bins` (column,).
    """

    features: NDArray[np.int64]
    cuts: NDArray[np.float64]
    starts: NDArray[np.int64]
    nan_bins: NDArray[np.uint8]

    def of(self, column: int) -> NDArray[np.float64]:
        """The cuts of one column."""
        return self.cuts[self.starts[column] : self.starts[column + 1]]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of all trees one after another: a row goes right where its bin of `columns` is above `cuts`.

    `left` and `right` count from the tree's first node, which is `roots[tree]`; below 0 they are leaves, -1 the tree's
    first, whose value is `values[leaves[tree]]`. Trees of one leaf have no nodes.
    """

    columns: NDArray[np.uint32]
    cuts: NDArray[np.uint8]
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    values: NDArray[np.float64]
    roots: NDArray[np.int64]
    leaves: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tables:
    """An ensemble, ready to be walked."""

    ensemble: Ensemble
    columns: Columns
    nodes: Nodes


def tables_of(ensemble: Ensemble) -> Tables:
    """Raises NotExact for trees of more than `MOST_LEAVES` leaves."""
    for place, tree in enumerate(ensemble.trees):
        if len(tree.values) > MOST_LEAVES:
            raise NotExact(f"tree {place} has {len(tree.values)} leaves, more than {MOST_LEAVES}")
    features = _joined([tree.features for tree in ensemble.trees], np.int64)
    thresholds = effective(_joined([tree.thresholds for tree in ensemble.trees], np.float64))
    sides = _nan_sides(_joined([tree.decisions for tree in ensemble.trees], np.int64))
    columns, column_of, cut_of = _columns(features, thresholds, sides)
    return Tables(ensemble, columns, _nodes(ensemble.trees, column_of, cut_of))


def effective(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds that send every value as it is where LightGBM's sends it once it took tiny values for 0."""
    moved = np.where((thresholds >= 0) & (thresholds < ZERO), ZERO, thresholds)
    return np.where((moved < 0) & (moved >= -ZERO), np.nextafter(-ZERO, -np.inf), moved)


def _nan_sides(decisions: NDArray[np.int64]) -> NDArray[np.int64]:
    sides = np.where(decisions & DEFAULT_LEFT, NAN_LEFT, NAN_RIGHT)
    return np.where(decisions & MISSING_NAN, sides, NAN_ZERO)


def _columns(
    features: NDArray[np.int64], thresholds: NDArray[np.float64], sides: NDArray[np.int64]
) -> tuple[Columns, NDArray[np.uint32], NDArray[np.uint8]]:
    """The columns, and of every node its column and the number of its cut in it."""
    column_of, cut_of = np.zeros(len(features), np.uint32), np.zeros(len(features), np.uint8)
    found: list[tuple[int, int, NDArray[np.float64]]] = []
    for feature, side in sorted(set(zip(features.tolist(), sides.tolist()))):
        nodes = np.flatnonzero((features == feature) & (sides == side))
        distinct, places = np.unique(thresholds[nodes], return_inverse=True)
        column_of[nodes] = len(found) + places // MOST_CUTS
        cut_of[nodes] = places % MOST_CUTS
        found += [(feature, side, distinct[first : first + MOST_CUTS]) for first in range(0, len(distinct), MOST_CUTS)]
    cuts = [column[2] for column in found]
    nan_bins = [{NAN_LEFT: 0, NAN_RIGHT: len(own), NAN_ZERO: int((own < 0).sum())}[side] for _, side, own in found]
    columns = Columns(
        np.array([column[0] for column in found], dtype=np.int64),
        _joined(cuts, np.float64),
        np.concatenate([[0], np.cumsum([len(own) for own in cuts])]).astype(np.int64),
        np.array(nan_bins, dtype=np.uint8),
    )
    return columns, column_of, cut_of


def _nodes(trees: tuple[Tree, ...], columns: NDArray[np.uint32], cuts: NDArray[np.uint8]) -> Nodes:
    return Nodes(
        columns,
        cuts,
        _joined([tree.left for tree in trees], np.int16),
        _joined([tree.right for tree in trees], np.int16),
        _joined([tree.values for tree in trees], np.float64),
        np.concatenate([[0], np.cumsum([len(tree.features) for tree in trees])]).astype(np.int64),
        np.concatenate([[0], np.cumsum([len(tree.values) for tree in trees])]).astype(np.int64),
    )


def _joined(arrays: Iterable[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([*arrays, np.empty(0, dtype)]).astype(dtype)
