"""Labels in the type of the reference: what fits, and what would be changed in silence."""

import numpy as np
import pytest

from eo_assets.core.labels import cast


@pytest.mark.parametrize(
    ("values", "dtype", "fits"),
    [
        ([0.0, 255.0, 256.0, -1.0, 0.5, np.nan, 1e300], "uint8", [True, True, False, False, False, False, False]),
        ([0.1, 1e300, np.nan, np.inf, -3.0], "float32", [True, False, True, True, True]),
        ([0.1, 1e300], "float64", [True, True]),
        (np.array([300, 7], np.uint16), "uint8", [False, True]),
        (np.array([2**24 + 1, 7], np.int32), "float32", [False, True]),
        ([], "uint8", []),
    ],
)
def test_what_a_type_holds(values: object, dtype: str, fits: list[bool]) -> None:
    stored, found = cast(np.asarray(values), dtype)
    assert stored.dtype == dtype
    assert found.tolist() == fits
