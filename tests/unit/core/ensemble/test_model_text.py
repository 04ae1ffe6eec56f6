"""What is read of a model's text, and that compiled loops are never handed a tree that is none."""

from __future__ import annotations

import re

import numpy as np
import pytest

from eo_assets.core.ensemble.model_text import NotExact, parse
from tests.unit.core.ensemble.models import booster_of, table_of


@pytest.fixture(scope="module")
def text() -> str:
    return booster_of(table_of(1, 500, 3), 1, num_leaves=4, trees=2).model_to_string()


def test_trees_are_read_whole(text: str) -> None:
    ensemble = parse(text)
    assert (ensemble.columns, ensemble.outputs, len(ensemble.trees)) == (3, 1, 2)
    for tree in ensemble.trees:
        assert len(tree.values) == 4 and len(tree.thresholds) == 3
        assert tree.thresholds.dtype == tree.values.dtype == np.float64


def test_a_threshold_may_be_infinite() -> None:
    table = table_of(2, 500, 1, missing=0.5)
    booster = booster_of(table, 2, num_leaves=2, trees=1)
    assert np.isinf(parse(booster.model_to_string()).trees[0].thresholds).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left_child", "0 1 2"),
        ("left_child", "-9 1 2"),
        ("right_child", "1 2 -4"),
        ("right_child", "1"),
        ("split_feature", "0 1 3"),
        ("split_feature", "0 -1 1"),
        ("threshold", "1 2"),
        ("decision_type", "2 2 2 2"),
        ("leaf_value", "1 2 3"),
    ],
)
def test_a_tree_that_is_none_is_left_to_lightgbm(text: str, name: str, value: str) -> None:
    with pytest.raises(NotExact, match="tree 0 is not whole"):
        parse(re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", text, count=1))


def test_a_model_without_trees(text: str) -> None:
    with pytest.raises(NotExact, match="it has no trees"):
        parse(text.split("\nTree=")[0] + "\nend of trees\n")
