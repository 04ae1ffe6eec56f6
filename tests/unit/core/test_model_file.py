"""LightGBM's text of a model: how many features it takes, and that it is whole."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from eo_assets.core.model_file import features_of
from eo_assets.errors import ModelError


@pytest.fixture(scope="module")
def text() -> str:
    values = np.random.default_rng(1).random((200, 7))
    data = lightgbm.Dataset(values[:, :6], values[:, 6])
    said = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    return lightgbm.train(said, data, num_boost_round=3).model_to_string()


def test_a_model_tells_its_features(text: str) -> None:
    assert features_of(text.splitlines()) == 6
    assert features_of(text.splitlines(keepends=True)) == 6


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.8])
def test_one_that_was_cut_off_is_none(text: str, kept: float) -> None:
    part = text[: int(kept * text.index("end of trees"))]
    with pytest.raises(ModelError, match="not a whole model in LightGBM's text format"):
        features_of(part.splitlines())


@pytest.mark.parametrize(
    "other", ["trees\n", "{}", "\x89HDF\r\n", "max_feature_idx=3", "end of trees", "max_feature_idx=x\nend of trees"]
)
def test_another_file_is_none(other: str) -> None:
    with pytest.raises(ModelError, match="not a whole model"):
        features_of(other.splitlines())
