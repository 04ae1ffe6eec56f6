"""Predictions equal the model's own, keep to their type, and never pass off a value as nodata."""

import dataclasses
from typing import Any

import lightgbm
import numpy as np
import pytest

from eo_assets.errors import ModelError
from eo_assets.stages.features import FEATURES
from eo_assets.stages.predictions import as_table, load_model
from resources.eopatch_files import DATA, DATA_TIMELESS, open_array

HALF = np.linspace(-1, 1, 200)


def predicted(world: Any, suffix: str = "") -> np.ndarray:
    folder = world.store.live("predictions", world.tile.name)
    return open_array(folder, DATA_TIMELESS, f"PREDICTED{suffix}")[:]


def run(world: Any, **train: Any) -> Any:
    world.label()
    world.train(**train)
    return world.run(delivery=world.deliver())["predictions"]


def test_equal_to_lightgbm_on_the_stored_features(world: Any) -> None:
    assert run(world).status == "done"
    features = open_array(world.store.live("features", world.tile.name), DATA, FEATURES)[:]
    table = features.transpose(1, 2, 0, 3).reshape(-1, 4)
    booster = lightgbm.Booster(model_file=str(world.store.live("model", "model") / "model.txt"))
    expected = np.clip(booster.predict(table), 0, 100).astype(np.float32)
    expected[np.isnan(table).all(axis=1)] = np.nan
    np.testing.assert_array_equal(predicted(world).ravel(), expected)
    assert 0 < np.isnan(expected).sum() < expected.size


def test_whole_types_are_rounded_to_the_nearest(world: Any) -> None:
    world.predictions |= {"dtype": "uint8", "nodata": 255}
    outcome = run(world, labels=np.where(HALF > 0, 99.6, 0.4))
    assert outcome.status == "done", outcome
    assert set(np.unique(predicted(world))) == {0, 100, 255}


def test_values_beyond_the_type_are_refused(world: Any) -> None:
    world.predictions |= {"dtype": "uint8", "nodata": 255, "clip": None}
    outcome = run(world, labels=np.where(HALF > 0, 300, -5))
    assert outcome.status == "failed"
    assert "do not fit predictions.dtype uint8; give predictions.clip" in outcome.reason


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_valid_pixel_with_the_value_of_nodata_is_refused(world: Any, dtype: str) -> None:
    world.predictions |= {"dtype": dtype, "nodata": 100}
    outcome = run(world)
    assert outcome.status == "failed"
    assert "a valid pixel has the value of predictions.nodata (100)" in outcome.reason


@pytest.mark.parametrize("codes", [(7, 200), (1, 5, 200)])
@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("float32", float("nan"))])
def test_a_classifier_gives_original_codes_and_probabilities(
    world: Any, codes: tuple[int, ...], dtype: str, nodata: float
) -> None:
    world.predictions = {"name": "PREDICTED", "dtype": dtype, "nodata": nodata, "all_probabilities": True}
    labels = np.asarray(codes)[np.digitize(HALF, np.linspace(-0.5, 0.5, len(codes) - 1))]
    outcome = run(world, labels=labels, kind="lightgbm_classifier")
    assert outcome.status == "done", outcome
    classes = predicted(world)[..., 0]
    known = ~np.isnan(classes) & (classes != 0)
    assert set(np.unique(classes[known])) <= set(codes)
    everything, best = predicted(world, "_PROBABILITIES"), predicted(world, "_PROBABILITY")[..., 0]
    assert everything.shape == (*world.tile.shape, len(codes))
    np.testing.assert_array_equal(np.isnan(best), ~known)
    np.testing.assert_allclose(everything[known].sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(codes)[everything[known].argmax(axis=-1)], classes[known])


def test_a_tile_without_a_valid_pixel_is_empty(world: Any, digital_numbers: Any) -> None:
    world.label()
    world.train()
    delivered = digital_numbers(world.tile)
    delivered["QM"][:] = 0
    outcomes = world.run(delivery=world.deliver(outputs=delivered))
    assert outcomes["predictions"].record.empty
    assert outcomes["predictions"].record.reason == "no pixel of any date is valid"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (("NDVI_2020-01-01", "B08_2020-01-01"), "column 2 is NDVI_2020-01-11, the model was trained on none"),
        (("B08_2020-01-01", "NDVI_2020-01-01"), "column 0 is NDVI_2020-01-01, the model was trained on B08_2020-01-01"),
        (
            ("NDVI_2020-01-01", "B08_2020-01-01", "NDVI_2020-01-11", "B08_2020-01-11", "X_2020-01-11"),
            "column 4 is none, the model was trained on X_2020-01-11",
        ),
    ],
)
def test_features_that_are_not_the_models_are_refused(world: Any, columns: tuple[str, ...], told: str) -> None:
    outcome = run(world, columns=columns)
    assert outcome.status == "failed"
    assert told in outcome.reason


@pytest.mark.parametrize(("file", "text"), [("model.txt", ""), ("signature.json", "{"), ("signature.json", "{}")])
def test_a_torn_model_is_told(world: Any, file: str, text: str) -> None:
    world.train()
    folder = world.store.live("model", "model")
    (folder / file).write_text(text)
    with pytest.raises(ModelError, match=r"model\.txt can't be loaded"):
        load_model(str(folder))


def test_rows_are_pixels_with_any_value(digital_numbers: Any) -> None:
    block = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    block[:, 1, 2] = np.nan
    block[0, 0, 0] = np.nan
    table, valid = as_table(block)
    assert table.shape == (11, 4)
    assert not valid[1, 2] and valid[0, 0]
    np.testing.assert_array_equal(table[1], [2, 3, 26, 27])
    assert np.isnan(table[0, :2]).all()
    empty, nothing = as_table(np.full((2, 3, 4, 2), np.nan, np.float32))
    assert empty.shape == (0, 4) and not nothing.any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"factor": 0.001}, "factor: the model has 0.0001, the project 0.001"),
        ({"reference": "OTHER"}, "reference: the model has 'GHSL', the project 'OTHER'"),
        ({"offset_handling": ("s2: harmonised",)}, "offset_handling"),
    ],
)
def test_a_model_of_other_units_is_refused_and_never_quietly_used(world: Any, change: Any, told: str) -> None:
    world.make()
    world.signature = dataclasses.replace(world.signature, **change)
    outcome = world.run("predictions")["predictions"]
    assert outcome.status == "failed"
    assert f"{world.tile.name}: the model does not fit this project: {told}" in outcome.reason
