"""Random models and data for the tests of the exact evaluator."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np

OBJECTIVES: dict[str, dict[str, Any]] = {
    "regression": {"objective": "regression"},
    "binary": {"objective": "binary", "sigmoid": 0.7},
    "multiclass": {"objective": "multiclass", "num_class": 5},
    "multiclassova": {"objective": "multiclassova", "num_class": 3, "sigmoid": 1.3},
    "poisson": {"objective": "poisson"},
    "cross_entropy": {"objective": "cross_entropy"},
}


def table_of(seed: int, rows: int, columns: int, missing: float = 0.0, whole: bool = False) -> np.ndarray:
    """(row, column) float32: heavy tails and zeros, or small whole numbers; a share of NaN in every other column."""
    random = np.random.default_rng(seed)
    table = random.standard_t(2, size=(rows, columns)) * 10.0 ** random.integers(-3, 4, columns)
    table = np.rint(table * 10) if whole else np.where(random.random(table.shape) < 0.1, 0, table)
    table[:, ::2][random.random(table[:, ::2].shape) < missing] = np.nan
    return table.astype(np.float32)


def booster_of(table: np.ndarray, seed: int, kind: str = "regression", trees: int = 8, **parameters: Any) -> Any:
    """A model of the table; its labels have something to do with it."""
    random, objective = np.random.default_rng(seed), OBJECTIVES[kind]
    score = np.nan_to_num(table) @ random.normal(size=table.shape[1]) + 3 * np.isnan(table).sum(axis=1)
    ranks = np.argsort(np.argsort(score + random.normal(size=len(table)) * score.std() / 4)) / len(table)
    classes = objective.get("num_class", 2)
    labels = ranks * 100 if kind in ("regression", "poisson") else np.floor(ranks * classes)
    said = {
        "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0, "seed": seed,
        "min_data_in_bin": 1, "deterministic": True, "force_row_wise": True, **objective, **parameters,
    }  # fmt: skip
    own = {
        name: said[name] for name in ("max_bin", "zero_as_missing", "use_missing", "min_data_in_bin") if name in said
    }
    data = lightgbm.Dataset(table, labels, params={"verbosity": -1, **own}, free_raw_data=False)
    return lightgbm.train(said, data, num_boost_round=trees)
