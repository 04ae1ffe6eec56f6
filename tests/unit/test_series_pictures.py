"""Pictures of a series: which tiles and acquisitions they show, and that they are made of what is stored."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eo_assets import series_pictures
from eo_assets.core.features import FeaturePlan
from eo_assets.core.periods import periods_of
from eo_assets.series_pictures import RAW_FRAMES, Painter, Series, series_picture, spread

PERIODS = periods_of((dt.date(2008, 1, 1), dt.date(2008, 12, 31)), 3)
BANDS = FeaturePlan(("NDVI", "b3", "b4", "b5"), ((1, 0),), (0, 1, 2))
INDEX = FeaturePlan(("NDVI",), ((1, 0),), ())


@given(st.lists(st.integers(0, 500), unique=True).map(sorted))
def test_a_few_acquisitions_are_shown_the_first_and_the_last_among_them(frames: list[int]) -> None:
    shown = spread(frames)
    assert len(shown) == min(len(frames), RAW_FRAMES) and len(set(shown)) == len(shown)
    assert set(shown) <= set(frames) and shown == sorted(shown)
    if frames:
        assert (shown[0], shown[-1]) == (frames[0], frames[-1])


def series(plan: FeaturePlan, times: list[dt.datetime]) -> Series:
    rng = np.random.default_rng(3)
    shape, columns = (20, 30), len(plan.names)
    composites = rng.uniform(0, 1, (3, *shape, columns))
    composites[1] = np.nan
    acquired = {frame: rng.uniform(0, 1, (*shape, columns)) for frame in range(len(times))}
    clear = {frame: rng.random(shape) < 0.5 for frame in acquired}
    return Series(times, acquired, clear, composites, rng.integers(0, 3, (3, *shape)).astype(np.uint16))


@pytest.mark.parametrize("plan", [BANDS, INDEX], ids=["bands", "an index"])
@pytest.mark.parametrize("times", [[], [dt.datetime(2008, 2, 1)], [dt.datetime(2008, 2, day) for day in range(1, 9)]])
def test_any_series_is_a_picture(plan: FeaturePlan, times: list[dt.datetime]) -> None:
    with Image.open(io.BytesIO(series_picture(series(plan, times), PERIODS, plan))) as image:
        assert image.format == "PNG" and image.width > 9 * 30


def test_bands_are_shown_in_colour_where_the_columns_have_them() -> None:
    values = np.random.default_rng(1).uniform(0, 1, (3, 4, 4, 4))
    assert Painter.of(BANDS, values).columns == (3, 2, 1)
    assert Painter.of(INDEX, values[..., :1]).index


class Record:
    def __init__(self, empty: bool = False, **numbers: Any) -> None:
        self.empty, self.numbers = empty, numbers


EOPATCHES = {
    "a": Record(dates=5), "b": Record(dates=23), "c": Record(dates=20), "d": Record(dates=1),
    "e": Record(empty=True, dates=0),
}  # fmt: skip
FEATURES = {
    "a": Record(unobserved_share=0.0), "b": Record(unobserved_share=0.1), "c": Record(unobserved_share=0.3),
    "d": Record(empty=True), "e": Record(empty=True),
}  # fmt: skip


class Store:
    """Records of five tiles."""

    def records(self, stage: str) -> dict[str, Record]:
        return {"eopatches": EOPATCHES, "features": FEATURES}[stage]


def test_the_tiles_that_tell_most_are_shown() -> None:
    assert series_pictures._telling(Store()) == ["a", "b", "c"]  # type: ignore[arg-type]
