"""Small pictures: every n-th pixel, in whatever blocks an array passes by."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_assets.stages.quicklooks import SIDE, Thumbnail


def spans(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


@settings(deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(20, 300), st.integers(20, 300), st.booleans())
def test_a_thumbnail_is_every_nth_pixel_whatever_the_blocks(
    height: int, width: int, tall: int, wide: int, by_columns: bool
) -> None:
    values = np.arange(height * width, dtype=np.int32).reshape(height, width, 1)
    thumbnail = Thumbnail((height, width))
    found = [(rows, columns) for rows in spans(height, tall) for columns in spans(width, wide)]
    for rows, columns in sorted(found, key=lambda block: block[1].start) if by_columns else found:
        thumbnail.add(rows, values[rows, columns], columns)
    step = thumbnail.step
    assert max(height, width) <= step * SIDE
    np.testing.assert_array_equal(thumbnail.values(), values[::step, ::step])
