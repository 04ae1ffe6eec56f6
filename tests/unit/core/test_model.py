"""Training, and the codes of classes."""

import dataclasses
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from eo_assets.core import model as modelling
from eo_assets.core.model import (
    Samples,
    Training,
    class_probabilities,
    model_text,
    train,
)
from eo_assets.errors import ModelError


def predict(booster: lightgbm.Booster, table: np.ndarray) -> np.ndarray:
    """LightGBM's own, on one thread."""
    return np.asarray(booster.predict(table, num_threads=1))


COLUMNS = ("NDVI_2020-01-01", "B04_2020-01-01", "B08_2020-01-01")
SMALL = {"n_estimators": 12, "num_leaves": 7, "min_data_in_leaf": 5}


def samples(labels: Any = None, n: int = 400, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)).astype(np.float32)
    blocks = np.stack([np.full(n, 32630), np.arange(n) // 40, np.zeros(n, int)], axis=1)
    return Samples(features, features[:, 0] * 10 if labels is None else labels(features), blocks)


def training(kind: str = "lightgbm_regressor", **parameters: Any) -> Training:
    return Training(kind, {**SMALL, **parameters}, 0.8, 42)  # type: ignore[arg-type]


def classes_of(*codes: int) -> Any:
    return lambda f: np.asarray(codes, np.uint8)[np.digitize(f[:, 0], np.linspace(-0.5, 0.5, len(codes) - 1))]


def trees(booster: lightgbm.Booster) -> str:
    """The model without the list of the parameters it was trained with."""
    return booster.model_to_string().split("\nparameters:")[0]


def test_a_model_beats_the_mean_on_blocks_it_has_not_seen() -> None:
    found = train(samples(), COLUMNS, training())
    for split in ("held_out_blocks", "random_split"):
        scores = found.metrics[split]
        assert scores["training_samples"] + scores["scored_samples"] == 400
        assert scores["model"]["r2"] > 0.5 > scores["trivial"]["r2"]
    assert found.metrics["held_out_blocks"]["scored_samples"] == 80
    assert found.booster.feature_name() == list(COLUMNS)
    assert sum(found.importances.values()) == pytest.approx(1)
    assert max(found.importances, key=found.importances.__getitem__) == COLUMNS[0]


def test_the_same_samples_and_seed_give_the_same_model() -> None:
    first, second = (train(samples(), COLUMNS, training(colsample_bytree=0.66)) for _ in range(2))
    assert first.booster.model_to_string() == second.booster.model_to_string()
    assert first.metrics == second.metrics
    other = train(samples(), COLUMNS, dataclasses.replace(training(colsample_bytree=0.66), seed=1))
    assert trees(other.booster) != trees(first.booster)


@pytest.mark.parametrize("name", sorted(modelling.THREAD_PARAMETERS))
def test_threads_do_not_change_the_model(name: str) -> None:
    one, two = (train(samples(), COLUMNS, training(**{name: threads})) for threads in (1, 2))
    assert model_text(one.booster) == model_text(two.booster)


@pytest.mark.parametrize("kind", ["lightgbm_regressor", "lightgbm_classifier"])
def test_the_file_of_a_model_is_the_same_on_1_2_and_4_threads(kind: str) -> None:
    """Enough rows for LightGBM to share them out among threads, floats with holes, samples of rows and columns."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(20_000, 12)).astype(np.float32)
    signal = features[:, 0] * 3 + features[:, 1] ** 2 + rng.normal(size=len(features))
    features[rng.random(features.shape) < 0.1] = np.nan
    labels = signal if kind == "lightgbm_regressor" else np.digitize(signal, [-1, 1, 3])
    blocks = np.stack([np.full(len(features), 32630), np.arange(len(features)) // 100, np.zeros(len(features), int)], 1)
    columns = tuple(f"f{index}" for index in range(features.shape[1]))
    sampled = {"bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.66, "n_estimators": 4}
    found = [
        train(Samples(features, labels, blocks), columns, training(kind, num_threads=threads, **sampled))
        for threads in (1, 2, 4)
    ]
    texts = {model_text(model.booster) for model in found}
    assert len(texts) == 1 and "[num_threads: 0]" in texts.pop()
    assert found[0].metrics == found[1].metrics == found[2].metrics


def test_the_file_of_a_model_is_what_lightgbm_saves_but_for_the_threads(tmp_path: Path) -> None:
    booster = train(samples(), COLUMNS, training(num_threads=1)).booster
    booster.save_model(tmp_path / "model.txt")
    assert (tmp_path / "model.txt").read_text().replace("[num_threads: 1]", "[num_threads: 0]") == model_text(booster)
    (tmp_path / "ours.txt").write_text(model_text(booster))
    ours = lightgbm.Booster(model_file=tmp_path / "ours.txt")
    np.testing.assert_array_equal(predict(ours, samples().features), predict(booster, samples().features))


def test_a_mapped_table_gives_the_same_model(tmp_path: Path) -> None:
    table = samples(n=40_000)  # more rows than are copied at once
    np.save(tmp_path / "features.npy", table.features)
    mapped = dataclasses.replace(table, features=np.load(tmp_path / "features.npy", mmap_mode="r"))
    first, second = (train(each, COLUMNS, training()) for each in (table, mapped))
    assert model_text(first.booster) == model_text(second.booster)
    assert first.metrics == second.metrics
    chosen = np.arange(40_000) % 3 == 0
    np.testing.assert_array_equal(mapped.take(chosen).features, table.features[chosen])


def test_every_lightgbm_name_of_the_threads_is_left_out_of_recipes() -> None:
    aliases = lightgbm.basic._ConfigAliases.get("num_threads")
    assert aliases <= modelling.THREAD_PARAMETERS


def test_every_lightgbm_name_of_the_trees_is_understood() -> None:
    aliases = lightgbm.basic._ConfigAliases.get("num_iterations")
    assert aliases <= set(modelling.TREE_PARAMETERS)
    found = train(samples(), COLUMNS, Training("lightgbm_regressor", {"num_iterations": 3}, 0.8, 1))
    assert found.booster.num_trees() == 3


@pytest.mark.parametrize("codes", [(7, 200), (1, 5, 9), (0, 1, 2, 254)])
def test_classes_come_back_with_their_own_codes(codes: tuple[int, ...]) -> None:
    table = samples(classes_of(*codes))
    found = train(table, COLUMNS, training("lightgbm_classifier"))
    assert found.classes == codes
    probabilities = class_probabilities(predict(found.booster, table.features))
    assert probabilities.shape == (400, len(codes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    guessed = np.asarray(codes)[probabilities.argmax(axis=1)]
    assert (guessed == table.labels).mean() > 0.8
    assert (
        found.metrics["held_out_blocks"]["model"]["accuracy"] > found.metrics["held_out_blocks"]["trivial"]["accuracy"]
    )


def test_a_class_that_only_held_out_blocks_have_is_no_error() -> None:
    table = samples(classes_of(1, 2))
    held = modelling.scores.held_out_blocks(table.blocks, 0.8, 42)
    labels = np.where(held, 3, table.labels)
    found = train(Samples(table.features, labels, table.blocks), COLUMNS, training("lightgbm_classifier"))
    assert found.classes == (1, 2, 3)


def test_one_class_is_refused() -> None:
    with pytest.raises(ModelError, match=r"one class only \(\[4\]\)"):
        train(samples(lambda f: np.full(len(f), 4)), COLUMNS, training("lightgbm_classifier"))


def test_shares_are_no_classes() -> None:
    with pytest.raises(ModelError, match=r"1\.5.*lightgbm_regressor"):
        train(samples(lambda f: np.where(f[:, 0] > 0, 1.5, 1.0)), COLUMNS, training("lightgbm_classifier"))


def test_whole_numbers_stored_as_floats_are_classes() -> None:
    found = train(samples(lambda f: np.where(f[:, 0] > 0, 3.0, 1.0)), COLUMNS, training("lightgbm_classifier"))
    assert found.classes == (1, 3)


def test_constant_labels_give_a_constant() -> None:
    table = samples(lambda f: np.full(len(f), 5, np.uint8))
    found = train(table, COLUMNS, training())
    np.testing.assert_allclose(predict(found.booster, table.features), 5)
    assert set(found.importances.values()) == {0}


def test_nan_features_are_learnt_from() -> None:
    table = samples()
    features = table.features.copy()
    features[::3, 1] = np.nan
    features[:, 2] = np.nan
    found = train(Samples(features, table.labels, table.blocks), COLUMNS, training())
    assert found.metrics["held_out_blocks"]["model"]["r2"] > 0.5
    assert not np.isnan(predict(found.booster, np.full((2, 3), np.nan, np.float32))).any()


def test_one_block_is_trained_on_and_not_scored() -> None:
    table = samples()
    found = train(Samples(table.features, table.labels, table.blocks * 0), COLUMNS, training())
    assert found.metrics["held_out_blocks"] == {"training_samples": 400, "scored_samples": 0}


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_are_refused(count: int) -> None:
    with pytest.raises(ModelError, match=f"{count} samples are too few"):
        train(samples(n=count), COLUMNS, training())


def test_parameters_that_lightgbm_refuses_are_named() -> None:
    with pytest.raises(ModelError, match=r"model\.parameters .*num_leaves"):
        train(samples(), COLUMNS, training(num_leaves=1))


def test_a_sample_of_more_weight_counts_more() -> None:
    # Half of the samples say the opposite of the others: whichever half weighs more is what the model learns.
    table = samples(lambda f: np.where(np.arange(len(f)) % 2, 10.0, -10.0))
    even = np.arange(400) % 2 == 0
    for heavy, sign in ((even, -1), (~even, 1)):
        weighed = dataclasses.replace(table, weights=np.where(heavy, 5.0, 0.01).astype(np.float32))
        found = train(weighed, COLUMNS, training())
        assert np.sign(predict(found.booster, table.features).mean()) == sign


def test_equal_weights_change_nothing() -> None:
    ones = dataclasses.replace(samples(), weights=np.ones(400, np.float32))
    first, second = (train(table, COLUMNS, training()) for table in (samples(), ones))
    np.testing.assert_allclose(
        predict(first.booster, ones.features), predict(second.booster, ones.features), rtol=1e-6, atol=1e-6
    )
