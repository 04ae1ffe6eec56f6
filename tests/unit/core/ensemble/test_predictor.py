"""Who predicts, and that a difference is found before it is in a map."""

from __future__ import annotations

import dataclasses

import lightgbm
import numpy as np
import pytest

from eo_assets.core.ensemble.answers import read_answers
from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.ensemble.patches import in_patches, pixels_with_values
from eo_assets.core.ensemble.predictor import Predictor, chosen_rows, loaded_predictor, verified_predictor
from eo_assets.core.ensemble.tables import Columns, Nodes
from eo_assets.core.ensemble.verification import SPECIAL, first_disagreement, values_round_cuts
from eo_assets.errors import ModelError
from tests.unit.core.ensemble.models import booster_of, table_of


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return table_of(1, 3000, 5, missing=0.1)


@pytest.fixture(scope="module")
def booster(table: np.ndarray) -> lightgbm.Booster:
    return booster_of(table, 1, num_leaves=63, trees=10)


def test_an_equal_evaluator_predicts(booster: lightgbm.Booster, table: np.ndarray) -> None:
    predictor = verified_predictor(booster, table)
    assert predictor.told == "exact"
    np.testing.assert_array_equal(predictor.predict(table), booster.predict(table))


def test_what_lightgbm_converts_or_refuses_is_left_to_it(booster: lightgbm.Booster, table: np.ndarray) -> None:
    predictor = verified_predictor(booster)
    whole = np.nan_to_num(table).astype(np.int64)
    np.testing.assert_array_equal(predictor.predict(whole), booster.predict(whole))
    with pytest.raises(lightgbm.basic.LightGBMError, match="The number of features in data"):
        predictor.predict(table[:, :4])


def test_a_model_that_is_none_for_it_says_why(table: np.ndarray) -> None:
    poisson = booster_of(table, 1, "poisson")
    predictor = verified_predictor(poisson, table)
    assert predictor.told == "lightgbm (its objective is 'poisson')"
    np.testing.assert_array_equal(predictor.predict(table), poisson.predict(table))


def shifted(columns: Columns, place: int) -> Columns:
    cuts = columns.cuts.copy()
    cuts[place] = np.nextafter(cuts[place], -np.inf)
    return dataclasses.replace(columns, cuts=cuts)


def test_a_cut_that_is_off_by_one_bit_is_found(booster: lightgbm.Booster, table: np.ndarray) -> None:
    places = np.random.default_rng(1).permutation(len(Evaluator(booster).tables.columns.cuts))[:20]
    for place in places:
        evaluator = Evaluator(booster)
        evaluator.tables = dataclasses.replace(evaluator.tables, columns=shifted(evaluator.tables.columns, place))
        assert "goes the wrong way at the threshold" in str(first_disagreement(booster, evaluator, table))


def test_a_leaf_that_is_off_is_found(booster: lightgbm.Booster, table: np.ndarray) -> None:
    nodes = Evaluator(booster).tables.nodes
    for place in np.random.default_rng(1).permutation(len(nodes.values))[:20]:
        values = nodes.values.copy()
        values[place] += 1e-9
        assert first_disagreement(booster, with_nodes(booster, dataclasses.replace(nodes, values=values)), table)


def with_nodes(booster: lightgbm.Booster, nodes: Nodes) -> Evaluator:
    evaluator = Evaluator(booster)
    evaluator.tables = dataclasses.replace(evaluator.tables, nodes=nodes)
    return evaluator


def test_a_difference_hands_the_model_back_and_says_so(
    booster: lightgbm.Booster, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "predict", lambda self, rows: np.asarray(booster.predict(rows)) + 1)
    predictor = verified_predictor(booster, table)
    assert predictor.evaluator is None
    assert predictor.told.startswith("lightgbm (") and "values differ, the first in row 0 of" in predictor.told
    np.testing.assert_array_equal(predictor.predict(table), booster.predict(table))
    assert loaded_predictor(booster.model_to_string(), lambda: booster, None, None).evaluator is None


def test_what_training_told_is_kept(booster: lightgbm.Booster) -> None:
    text, answers = booster.model_to_string(), verified_predictor(booster).answers()
    for told in ("exact", "lightgbm (3 values differ (samples))"):
        assert loaded_predictor(text, lambda: booster, told, answers).told == told
    assert loaded_predictor(text, lambda: booster, None, None).told == "exact"
    assert loaded_predictor(text, lambda: booster, "exact", None).told == "exact"


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass"])
def test_kept_answers_find_a_machine_on_which_it_differs(kind: str, table: np.ndarray) -> None:
    booster = booster_of(table, 1, kind, num_leaves=15, trees=3)
    answers = verified_predictor(booster, table).answers(table)
    assert answers is not None
    kept = read_answers(answers.as_bytes())
    assert kept is not None and kept.first_difference(Evaluator(booster)) is None
    kept.single.reshape(-1)[7] = np.nextafter(kept.single.reshape(-1)[7], 1)
    predictor = loaded_predictor(booster.model_to_string(), lambda: booster, "exact", kept)
    assert predictor.told.startswith("lightgbm (1 values differ, the first in row")
    np.testing.assert_array_equal(predictor.predict(table), booster.predict(table))


def test_torn_answers_are_none(booster: lightgbm.Booster) -> None:
    answers = verified_predictor(booster).answers()
    assert answers is not None
    content = answers.as_bytes()
    turned = bytes(255 - byte for byte in content[100:200])  # inside what is deflated
    for torn in (b"", b"PK", content[:-100], content[: len(content) // 2], content[:100] + turned + content[200:]):
        assert read_answers(torn) is None


def test_of_a_torn_text_lightgbm_tells(booster: lightgbm.Booster) -> None:
    def refuse() -> lightgbm.Booster:
        raise ModelError("can't be loaded")

    answers = verified_predictor(booster).answers()
    for text in ("", "tree", booster.model_to_string()[:3000]):
        with pytest.raises(ModelError, match="can't be loaded"):
            loaded_predictor(text, refuse, "exact", answers).predict(np.zeros((1, 5)))


def test_the_table_of_a_check_holds_every_cut_and_its_neighbours(booster: lightgbm.Booster, table: np.ndarray) -> None:
    evaluator = Evaluator(booster)
    columns = evaluator.tables.columns
    for rows in (None, table):
        found = values_round_cuts(evaluator, rows)
        for column in range(5):
            cuts = np.concatenate([columns.of(place) for place in np.flatnonzero(columns.features == column)])
            for values in (cuts, np.nextafter(cuts, np.inf), np.nextafter(cuts, -np.inf)):
                assert np.isin(values, found[:, column]).all()
            assert set(np.array(SPECIAL).view(np.int64)) <= set(found[:, column].copy().view(np.int64))


@pytest.mark.parametrize("exact", [True, False])
def test_pixels_of_a_block(booster: lightgbm.Booster, exact: bool) -> None:
    block = table_of(2, 30 * 70, 5, missing=0.5).reshape(1, 30, 70, 5)
    block[:, 3:20, 5:9] = np.nan
    chosen = pixels_with_values(block)
    assert not chosen[3:20, 5:9].any() and chosen[0].all()
    predictor = Predictor(lambda: booster, Evaluator(booster) if exact else None)
    np.testing.assert_array_equal(predictor.predict_pixels(block, chosen), booster.predict(block[0][chosen]))
    assert predictor.predict_pixels(block, np.zeros_like(chosen)).shape == (0,)


def test_pixels_with_values_have_one_of_any_date() -> None:
    block = np.full((2, 3, 4, 2), np.nan, np.float32)
    block[0, 0, 0, 1], block[1, 2, 3, 0] = 1, np.inf
    assert np.argwhere(pixels_with_values(block)).tolist() == [[0, 0], [2, 3]]


def test_chosen_pixels_are_rows_of_dates_and_features() -> None:
    block = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    chosen = np.zeros((3, 4), np.bool_)
    chosen[0, 1] = chosen[2, 0] = True
    np.testing.assert_array_equal(chosen_rows(block, chosen), [[2, 3, 26, 27], [16, 17, 40, 41]])
    assert chosen_rows(block, np.zeros_like(chosen)).shape == (0, 4)


def test_patches_are_neighbours() -> None:
    order = in_patches(np.ones((70, 130), np.bool_))
    assert sorted(order.tolist()) == list(range(70 * 130))
    y, x = np.divmod(order[:64], 130)
    assert (y.max(), x.max()) == (7, 7)
    y, x = np.divmod(order[:4096], 130)
    assert (y.max(), x.max()) == (63, 63)
