"""Labels in the type that a project stores them in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cast(values: NDArray[Any], dtype: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels of any shape in another type, and which of them it holds: whole numbers exactly,
    fractions as near as it can.

    A fraction, NaN or a number out of range is none for a type of whole numbers; a finite number too large is none for
    a type of fractions.
    """
    target = np.dtype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        stored = values.astype(target)
        if values.dtype.kind == "f" and target.kind == "f":
            return stored, np.isfinite(stored) == np.isfinite(values)
        return stored, stored.astype(values.dtype) == values
