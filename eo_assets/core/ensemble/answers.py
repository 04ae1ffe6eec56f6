"""LightGBM's answers to some rows, kept beside a model: who has them needs no LightGBM to check the evaluator again.

A worker that imports LightGBM also has scikit-learn, scipy and pandas: 140 MB and a second of every process.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.ensemble.evaluator import Evaluator
from eo_assets.core.ensemble.verification import difference, values_round_cuts

if TYPE_CHECKING:
    import lightgbm

QUESTIONS = 256
"""Rows of a check, some milliseconds."""


@dataclass(frozen=True, slots=True)
class Answers:
    """`rows` (n, column) float64, round the cuts of the model, and what LightGBM says to them.

    `double` is (n,), or (n, class), float64; `single` is what it says to the rows as float32.
    """

    rows: NDArray[np.float64]
    double: NDArray[np.float64]
    single: NDArray[np.float64]

    def first_difference(self, evaluator: Evaluator) -> str | None:
        """How the evaluator, on this machine, differs from LightGBM, or None: equal in every bit."""
        with np.errstate(over="ignore"):
            tables = ((self.rows, self.double), (self.rows.astype(np.float32), self.single))
        return next(filter(None, (difference(evaluator.predict(rows), told) for rows, told in tables)), None)

    def as_bytes(self) -> bytes:
        """An `.npz` file."""
        target = io.BytesIO()
        np.savez_compressed(target, rows=self.rows, double=self.double, single=self.single)
        return target.getvalue()


def answers_of(booster: lightgbm.Booster, evaluator: Evaluator, samples: NDArray[np.float32] | None) -> Answers:
    """LightGBM's own, on one thread, to rows that show a difference where there is one."""
    rows = values_round_cuts(evaluator, samples)[:QUESTIONS]
    with np.errstate(over="ignore"):
        single = rows.astype(np.float32)
    double, of_single = (np.asarray(booster.predict(table, num_threads=1), np.float64) for table in (rows, single))
    return Answers(rows, double, of_single)


def read_answers(content: bytes) -> Answers | None:
    """Of such a file; None if it is none, or torn."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            rows, double, single = (np.asarray(kept[name], np.float64) for name in ("rows", "double", "single"))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return Answers(rows, double, single)
