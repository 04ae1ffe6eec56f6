"""Predictions equal the model's own, keep to their type, and never pass off a value as nodata."""

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from eo_assets.errors import ModelError
from eo_assets.stages.features import FEATURES
from eo_assets.stages.predictions import METRICS_FILE, load_predictor
from eo_assets.stages.walk import TileWork
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
    assert outcome.record.numbers["evaluator"] == "exact"
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
        load_predictor(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"evaluator": 3}'])
def test_of_torn_metrics_it_is_found_out_anew_who_predicts(world: Any, text: str) -> None:
    world.train()
    folder = world.store.live("model", "model")
    (folder / METRICS_FILE).write_text(text)
    assert load_predictor(str(folder))[0].told == "exact"


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


def test_a_tile_tells_who_predicted(world: Any) -> None:
    assert run(world).record.numbers["evaluator"] == "exact"


WORKER = """
import pickle, sys
walk, work = pickle.loads(open(sys.argv[1], "rb").read())
[outcome] = walk(work)
print(outcome.status, outcome.record.numbers["evaluator"], *{"lightgbm", "sklearn", "pandas"} & {*sys.modules})
"""


def test_a_worker_that_predicts_loads_no_lightgbm(world: Any, tmp_path: Path) -> None:
    world.label()
    world.train()
    world.run("tiffs", "eopatches", "features", delivery=world.deliver())
    (tmp_path / "work").write_bytes(pickle.dumps((world.walk(), TileWork(world.tile, ("predictions",)))))
    worker = [sys.executable, "-W", "ignore", "-c", WORKER, str(tmp_path / "work")]
    said = subprocess.run(worker, check=True, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)
    assert said.stdout.split() == ["done", "exact"]


def test_a_model_whose_training_found_a_difference_is_lightgbms_own(world: Any) -> None:
    world.make()
    exact = predicted(world)
    folder = world.store.live("model", "model")
    (folder / METRICS_FILE).write_text(json.dumps({"evaluator": "lightgbm (3 values differ)"}))
    load_predictor.cache_clear()
    predictor, _ = load_predictor(str(folder))
    assert predictor.told == "lightgbm (3 values differ)"
    features = open_array(world.store.live("features", world.tile.name), DATA, FEATURES)[:]
    valid = ~np.isnan(exact[..., 0])
    own = np.clip(predictor.predict_pixels(features, valid), 0, 100).astype(np.float32)
    np.testing.assert_array_equal(own, exact[..., 0][valid])
