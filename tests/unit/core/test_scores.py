"""Scores against scikit-learn's; splits that share no block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from eo_assets.core.scores import classification_scores, held_out_blocks, held_out_random, regression_scores

values = st.floats(-1e4, 1e4, width=32)


@given(arrays(np.float32, 30, elements=values), arrays(np.float64, 30, elements=st.floats(-1e4, 1e4)))
def test_regression_scores_are_scikit_learns(truth: np.ndarray, predicted: np.ndarray) -> None:
    found = regression_scores(truth, predicted)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, predicted), rel=1e-6)
    assert found["rmse"] == pytest.approx(np.sqrt(metrics.mean_squared_error(truth, predicted)), rel=1e-6)
    if np.ptp(truth) > 1e-3:
        assert found["r2"] == pytest.approx(metrics.r2_score(truth, predicted), rel=1e-6, abs=1e-9)


def test_unsigned_labels_do_not_wrap() -> None:
    found = regression_scores(np.array([0, 255], np.uint8), np.array([255.0, 0.0]))
    assert found == {"r2": pytest.approx(-3), "rmse": 255, "mae": 255}


def test_constant_truth_has_no_r2() -> None:
    assert np.isnan(regression_scores(np.full(5, 7.0), np.arange(5.0))["r2"])


@given(arrays(np.uint8, 40, elements=st.integers(0, 4)), arrays(np.int64, 40, elements=st.integers(0, 5)))
def test_classification_scores_are_scikit_learns(truth: np.ndarray, predicted: np.ndarray) -> None:
    found = classification_scores(truth, predicted)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro", zero_division=0))


blocks = arrays(np.int64, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(-2, 2))


@given(blocks, st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_no_block_is_in_both_sets(blocks: np.ndarray, fraction: float, seed: int) -> None:
    held = held_out_blocks(blocks, fraction, seed)
    kept, out = ({tuple(block) for block in blocks[which]} for which in (~held, held))
    assert not kept & out
    assert kept
    number = len(kept | out)
    assert bool(out) == (number > 1)
    if number > 1:
        assert len(out) == min(number - 1, max(1, round((1 - fraction) * number)))
    np.testing.assert_array_equal(held, held_out_blocks(blocks, fraction, seed))


@given(blocks)
def test_the_split_does_not_depend_on_the_order_of_samples(blocks: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(blocks))
    np.testing.assert_array_equal(held_out_blocks(blocks, 0.8, 1)[order], held_out_blocks(blocks[order], 0.8, 1))


@given(st.integers(1, 500), st.floats(0.01, 0.99))
def test_random_split_has_its_share(count: int, fraction: float) -> None:
    held = held_out_random(count, fraction, 42)
    assert held.sum() == round((1 - fraction) * count)
    np.testing.assert_array_equal(held, held_out_random(count, fraction, 42))
