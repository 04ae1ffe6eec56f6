"""The evaluator equals `Booster.predict` bit for bit, on random models and on the values that would tell them apart."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.ensemble.model_text import NotExact
from eo_assets.core.ensemble.verification import values_round_cuts
from tests.unit.core.ensemble.models import booster_of, table_of


def assert_equal(booster: lightgbm.Booster, evaluator: Evaluator, table: np.ndarray) -> None:
    expected = booster.predict(table, num_threads=1)
    found = evaluator.predict(table)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


def assert_same_model(booster: lightgbm.Booster, table: np.ndarray) -> None:
    evaluator = Evaluator(booster)
    assert_equal(booster, evaluator, table)
    adversarial = values_round_cuts(evaluator, table)
    assert_equal(booster, evaluator, adversarial)
    with np.errstate(over="ignore"):
        assert_equal(booster, evaluator, adversarial.astype(np.float32))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["regression", "binary", "multiclass", "multiclassova"]),
    leaves=st.integers(2, 256),
    depth=st.sampled_from([-1, -1, 1, 3, 63]),
    columns=st.integers(1, 9),
    missing=st.sampled_from([0.0, 0.3]),
    use_missing=st.booleans(),
    whole=st.booleans(),
    bins=st.sampled_from([2, 15, 255, 512]),
)
def test_random_models(
    seed: int, kind: str, leaves: int, depth: int, columns: int, missing: float, use_missing: bool, whole: bool,
    bins: int,
) -> None:  # fmt: skip
    table = table_of(seed, 900, columns, missing, whole)
    booster = booster_of(
        table, seed, kind, num_leaves=leaves, max_depth=depth, use_missing=use_missing, max_bin=bins, trees=5
    )
    assert_same_model(booster, table)


def test_more_rows_than_are_taken_at_once() -> None:
    table = table_of(1, 35_000, 6, missing=0.1)
    booster = booster_of(table, 1, num_leaves=255, trees=20)
    evaluator = Evaluator(booster)
    at_once = evaluator.rows_at_once
    assert 2 * at_once < len(table)
    for rows in (1, 63, 64, 65, at_once, at_once + 1, len(table)):
        assert_equal(booster, evaluator, table[:rows])
    assert_equal(booster, evaluator, np.asfortranarray(table)[::2])


def test_a_feature_with_more_cuts_than_a_column_holds() -> None:
    table = table_of(2, 5000, 1)
    booster = booster_of(table, 2, num_leaves=256, max_bin=2000, trees=60)
    assert len(Evaluator(booster).tables.columns.features) > 2
    assert_same_model(booster, table)


def test_a_chain_as_deep_as_it_has_leaves() -> None:
    table = np.arange(300, dtype=np.float32)[:, None]
    data = lightgbm.Dataset(table, 1.2 ** table[:, 0], params={"min_data_in_bin": 1, "max_bin": 400, "verbosity": -1})
    said = {"num_leaves": 256, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0, "verbosity": -1, "num_threads": 1}
    assert_same_model(lightgbm.train(said, data, num_boost_round=3), table)


def test_many_classes() -> None:
    table = table_of(3, 3000, 4)
    random = np.random.default_rng(3)
    said = {"objective": "multiclass", "num_class": 60, "num_leaves": 9, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(said, lightgbm.Dataset(table, random.integers(0, 60, 3000)), num_boost_round=2)
    assert_same_model(booster, table)


def test_trees_of_one_leaf() -> None:
    table = table_of(4, 500, 3)
    said = {"verbosity": -1, "num_threads": 1}
    constant = lightgbm.train(said, lightgbm.Dataset(table, np.full(500, 7.5)), num_boost_round=3)
    assert_same_model(constant, table)
    stumps = booster_of(table, 4, num_leaves=2, trees=30, min_gain_to_split=1e5)
    assert_same_model(stumps, table)


def test_scores_far_from_zero_where_probabilities_saturate() -> None:
    table = table_of(5, 2000, 4)
    said = {"num_leaves": 31, "learning_rate": 200, "trees": 2, "min_sum_hessian_in_leaf": 1e-3}
    for kind in ("binary", "multiclass", "multiclassova"):
        assert_same_model(booster_of(table, 5, kind, **said), table)


def test_a_model_stopped_early_predicts_its_best_trees() -> None:
    table = table_of(6, 2000, 4)
    booster = booster_of(table, 6, trees=12)
    booster.best_iteration = 5
    assert len(Evaluator(booster).tables.ensemble.trees) == 5
    assert_same_model(booster, table)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"zero_as_missing": True}, "takes zero as missing"),
        ({"linear_tree": True}, "is linear in its leaves"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "its trees are averaged"),
        ({"num_leaves": 300}, "has 300 leaves, more than 256"),
        ({"kind": "poisson"}, "its objective is 'poisson'"),
        ({"kind": "cross_entropy"}, "its objective is 'cross_entropy'"),
        ({"reg_sqrt": True}, "its objective is 'regression sqrt'"),
    ],
)
def test_what_it_does_not_do_is_told(parameters: dict, reason: str) -> None:
    with pytest.raises(NotExact, match=reason):
        Evaluator(booster_of(table_of(7, 2000, 4), 7, **parameters))


def test_categories_are_not_done() -> None:
    table = np.random.default_rng(8).integers(0, 9, (500, 2)).astype(np.float32)
    said = {"verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(table, np.sin(table.sum(axis=1) * 5), categorical_feature=[0], params={"verbosity": -1})
    with pytest.raises(NotExact, match="splits by category"):
        Evaluator(lightgbm.train(said, data, num_boost_round=3))


def test_dart_and_goss_are_sums_like_any_other() -> None:
    table = table_of(9, 2000, 4)
    assert_same_model(booster_of(table, 9, boosting="dart", drop_rate=0.9, trees=20), table)
    assert_same_model(booster_of(table, 9, data_sample_strategy="goss"), table)


@settings(deadline=None, max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 140), st.integers(1, 4)),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_chosen_pixels_of_a_block(shape: tuple[int, int, int, int], share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = shape[0] * shape[3]
    booster = booster_of(table_of(seed, 300, columns, 0.2), seed, num_leaves=9, trees=2)
    block = table_of(seed, int(np.prod(shape)), 1)[:, 0].reshape(shape)
    block[random.random(shape) < 0.1] = np.nan
    chosen = random.random(shape[1:3]) < share
    found = Evaluator(booster).predict_pixels(block, chosen)
    if chosen.any():
        expected = booster.predict(block.transpose(1, 2, 0, 3)[chosen].reshape(-1, columns), num_threads=1)
        np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))
    else:
        assert found.shape == (0,)


def test_probabilities_of_the_pixels_of_a_block() -> None:
    random = np.random.default_rng(6)
    table = table_of(6, 2000, 6)
    said = {"objective": "multiclass", "num_class": 5, "num_leaves": 9, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(said, lightgbm.Dataset(table, random.integers(0, 5, 2000)), num_boost_round=4)
    block, chosen = table.reshape(40, 50, 2, 3).transpose(2, 0, 1, 3).copy(), random.random((40, 50)) < 0.7
    found = Evaluator(booster).predict_pixels(block, chosen)
    expected = booster.predict(block.transpose(1, 2, 0, 3)[chosen].reshape(-1, 6), num_threads=1)
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


def test_another_number_of_columns_is_refused() -> None:
    evaluator = Evaluator(booster_of(table_of(1, 300, 3), 1))
    with pytest.raises(ValueError, match="4 columns are not the model's 3"):
        evaluator.predict(np.zeros((5, 4), np.float32))
