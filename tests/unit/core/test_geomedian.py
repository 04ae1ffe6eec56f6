"""Geomedians against a second calculation of our own: Weiszfeld's steps in float64, until nothing moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eo_assets.core.composite import composite

MORE_THAN_LEAST = 1e-3
"""How much the distances of the two answers may differ, as a share of their sum."""


def geomedians(observations: np.ndarray) -> np.ndarray:
    """Those of (time, pixel, band)."""
    values, _ = composite(observations[:, None], None, [range(len(observations))], "geomedian")
    return values[0, 0]


def distances(observations: np.ndarray, point: np.ndarray) -> float:
    """What a geometric median makes least, for (time, band)."""
    return float(np.linalg.norm(observations.astype(np.float64) - point.astype(np.float64), axis=1).sum())


def weiszfeld(observations: np.ndarray) -> np.ndarray:
    """The best of a long search from the mean and of the observations themselves, for (time, band)."""
    points = observations.astype(np.float64)
    found = points.mean(axis=0)
    for _ in range(3000):
        weights = 1 / np.maximum(np.linalg.norm(points - found, axis=1), 1e-9)
        found = (points * weights[:, None]).sum(axis=0) / weights.sum()
    return np.asarray(min([found, *points], key=lambda point: distances(points, point)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_distances_are_as_short_as_those_of_a_long_search(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 8), st.just(1), st.integers(1, 5)))
    observations = data.draw(arrays(np.uint16, shape, elements=st.integers(0, 20_000)))
    found = distances(observations[:, 0], geomedians(observations)[0])
    assert found <= distances(observations[:, 0], weiszfeld(observations[:, 0])) * (1 + MORE_THAN_LEAST) + 0.01


def test_among_clear_observations_it_is_the_same_to_a_hundredth_of_a_number() -> None:
    rng = np.random.default_rng(1)
    land = rng.integers(300, 4000, (1, 60, 6))
    observations = (land + rng.normal(0, 150, (9, 60, 6))).clip(0).round().astype(np.uint16)
    expected = np.stack([weiszfeld(observations[:, pixel]) for pixel in range(60)])
    difference = np.abs(geomedians(observations) - expected).max(axis=1)
    assert np.quantile(difference, 0.95) < 0.01
    assert difference.max() < 1


def test_one_observation_is_itself_and_two_are_halved() -> None:
    pair = np.array([[[10, 400]], [[20, 101]]], np.uint16)
    assert geomedians(pair[:1]).tolist() == [[10, 400]]
    assert geomedians(pair).tolist() == [[15, 250.5]]


def test_of_two_it_is_the_mean_to_the_last_bit() -> None:
    """A search in float32 ends an ulp beside it in every third value."""
    pairs = np.random.default_rng(4).random((2, 100, 3))
    np.testing.assert_array_equal(geomedians(pairs), pairs.mean(axis=0).astype(np.float32))


@settings(deadline=None)
@given(arrays(np.uint16, (1, 3), elements=st.integers(0, 65_535)), st.integers(3, 9))
def test_of_equal_observations_it_is_that_one(pixel: np.ndarray, times: int) -> None:
    np.testing.assert_allclose(geomedians(np.repeat(pixel[None], times, axis=0)), pixel, rtol=1e-6)


def test_two_thirds_of_the_observations_outvote_any_cloud() -> None:
    land = np.array([[[500, 800]]] * 5, np.uint16)
    for cloud in (5_000, 65_535):
        observations = np.concatenate([land, np.full((2, 1, 2), cloud, np.uint16)])
        np.testing.assert_allclose(geomedians(observations), [[500, 800]], atol=0.5)


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e30])
def test_is_as_exact_for_reflectances_as_for_numbers(factor: float) -> None:
    numbers = np.random.default_rng(2).integers(0, 5000, (7, 40, 4)).astype(np.float64)
    np.testing.assert_allclose(geomedians(numbers * factor) / factor, geomedians(numbers), atol=0.05)
