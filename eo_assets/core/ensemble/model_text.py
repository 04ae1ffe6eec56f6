"""The trees of a LightGBM model, from its own text: the one form in which no number is rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.outputs import Output, output_of

CATEGORICAL, DEFAULT_LEFT, MISSING_ZERO, MISSING_NAN = 1, 2, 4, 8
"""Bits of a node's `decision_type`: https://github.com/microsoft/LightGBM/blob/master/include/LightGBM/tree.h"""


class NotExact(Exception):
    """The model asks for something that the evaluator does not do; its text is the reason. LightGBM itself does it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree. Children >= 0 are nodes, the others leaves: -1 is leaf 0. A tree of one leaf has no nodes.

    `features`, `thresholds` (float64), `left`, `right` and `decisions` (bits as above) are (node,); `values` (leaf,).
    """

    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    decisions: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The trees in the order in which LightGBM adds them up: tree i belongs to output i % `outputs`."""

    columns: int
    outputs: int
    trees: tuple[Tree, ...]
    output: Output


def parse(text: str) -> Ensemble:
    """Read `Booster.model_to_string()`. Raises NotExact for categorical splits, linear trees, averages and the like."""
    head, *sections = text.split("\nend of trees", 1)[0].split("\nTree=")
    said = _fields(head)
    if "average_output" in head.splitlines():
        raise NotExact("its trees are averaged (boosting: rf)")
    outputs, columns = int(said["num_tree_per_iteration"]), int(said["max_feature_idx"]) + 1
    trees = tuple(_tree(_fields(section), place, columns) for place, section in enumerate(sections))
    if not trees:
        raise NotExact("it has no trees")
    output = output_of(said.get("objective", ""), outputs)
    if output is None:
        raise NotExact(f"its objective is {said['objective']!r}")
    return Ensemble(columns, outputs, trees, output)


def _fields(section: str) -> Mapping[str, str]:
    return dict(_pairs(section))


def _pairs(section: str) -> Iterator[tuple[str, str]]:
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name, value


def _tree(said: Mapping[str, str], place: int, columns: int) -> Tree:
    if said.get("num_cat", "0") != "0":
        raise NotExact(f"tree {place} splits by category")
    if said.get("is_linear", "0") != "0":
        raise NotExact(f"tree {place} is linear in its leaves")
    values = _numbers(said["leaf_value"])
    if int(said["num_leaves"]) == 1:
        whole, none = np.empty(0, dtype=np.int64), np.empty(0)
        return Tree(whole, none, whole, whole, whole, values[:1])
    decisions = _whole(said["decision_type"])
    if (decisions & CATEGORICAL).any():
        raise NotExact(f"tree {place} splits by category")
    if (decisions & MISSING_ZERO).any():
        raise NotExact(f"tree {place} takes zero as missing")
    features, left, right = (_whole(said[name]) for name in ("split_feature", "left_child", "right_child"))
    tree = Tree(features, _numbers(said["threshold"]), decisions, left, right, values)
    if not _whole_tree(tree, columns):
        raise NotExact(f"tree {place} is not whole")
    return tree


def _whole_tree(tree: Tree, columns: int) -> bool:
    """Whether every node and leaf hangs once, below its parent's number: compiled loops look at nothing twice."""
    nodes = len(tree.values) - 1
    parts = (tree.features, tree.thresholds, tree.decisions, tree.left, tree.right)
    if any(len(part) != nodes for part in parts) or not ((tree.features >= 0) & (tree.features < columns)).all():
        return False
    children = np.sort(np.concatenate([tree.left, tree.right]))
    once = np.concatenate([np.arange(-nodes - 1, 0), np.arange(1, nodes)])
    both = np.stack([tree.left, tree.right])
    return np.array_equal(children, once) and bool(((both < 0) | (both > np.arange(nodes))).all())


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array([float(number) for number in text.split()])


def _whole(text: str) -> NDArray[np.int64]:
    return np.array([int(number) for number in text.split()], dtype=np.int64)
