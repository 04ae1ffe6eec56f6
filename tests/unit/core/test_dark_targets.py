"""Dark targets: a shift of 1000 is told whichever way it goes, and nothing else is."""

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.dark_targets import STEP, DarkTargets, joined, judge, median_of

BANDS = ("B02", "B04", "B08", "B11")
TIMES = (dt.datetime(2021, 6, 1), dt.datetime(2022, 1, 24, 23, 59), dt.datetime(2022, 1, 25), dt.datetime(2022, 6, 1))
WATER = {"B02": 300.0, "B04": 150.0, "B08": 80.0, "B11": 40.0}


def scene(seed: int = 0, rows: int = 128, shift: int = 0) -> np.ndarray:
    """(time, rows, 96, band): some dark pixels, ground, clouds; those since 2022 shifted."""
    rng = np.random.default_rng(seed)
    shape = (len(TIMES), rows, 96, len(BANDS))
    numbers = rng.integers(400, 3000, shape) + np.where(rng.random(shape) < 0.2, 6000, 0)
    dark = rng.random(shape) < 0.1
    numbers[dark] = (np.array([WATER[band] for band in BANDS]) * np.ones(shape))[dark] + rng.integers(0, 20, shape)[
        dark
    ]
    numbers[2:] += shift
    return numbers.astype(np.uint16)


def darkness(numbers: np.ndarray, times: Any = TIMES, rows: int = 64) -> dict[str, dict[str, float]]:
    found = DarkTargets(BANDS, times)
    for start in range(0, numbers.shape[1], rows):
        found.add(numbers[:, start : start + rows])
    return found.darkness()


def test_it_is_the_first_percentile_of_every_8th_pixel_on_each_side_of_the_day() -> None:
    numbers = scene()
    found = darkness(numbers)
    for side, frames in (("before", numbers[:2]), ("after", numbers[2:])):
        for band, name in enumerate(BANDS):
            thinned = np.sort(frames[:, ::STEP, ::STEP, band].reshape(-1))
            assert found[side][name] == thinned[int(np.ceil(0.01 * len(thinned))) - 1]


@given(st.integers(0, 5), st.sampled_from([8, 16, 64]))
def test_blocks_make_no_difference(seed: int, rows: int) -> None:
    numbers = scene(seed)
    assert darkness(numbers, rows=rows) == darkness(numbers, rows=numbers.shape[1])


def test_no_data_does_not_count_and_what_has_none_is_left_out() -> None:
    numbers = scene()
    numbers[..., 0] = 0
    numbers[2:, ..., 1] = 0
    numbers[:, :, :40, 2] = 0
    found = darkness(numbers)
    assert set(found["before"]) == {"B04", "B08", "B11"} and set(found["after"]) == {"B08", "B11"}
    assert found["before"]["B08"] >= WATER["B08"]
    assert darkness(numbers, [TIMES[0]] * 4).keys() == {"before"}
    assert DarkTargets(BANDS, ()).darkness() == {}


def test_the_highest_number_has_a_place() -> None:
    numbers = np.full((1, 8, 8, 4), 65535, np.uint16)
    assert darkness(numbers, TIMES[:1])["before"] == dict.fromkeys(BANDS, 65535.0)


def test_tiles_and_features_are_brought_together() -> None:
    one, two, three = ({"before": {"B02": value}, "after": {"B04": value}} for value in (1.0, 9.0, 5.0))
    assert median_of([one, two, three, {}]) == {"after": {"B04": 5.0}, "before": {"B02": 5.0}}
    assert joined([one, {"before": {"B11": 2.0}}]) == {"before": {"B02": 1.0, "B11": 2.0}, "after": {"B04": 1.0}}
    assert median_of([]) == joined([]) == {}


@pytest.mark.parametrize(("shift", "passed"), [(0, True), (1000, False), (200, True), (-35, True)])
def test_an_offset_within_a_project_is_found(shift: int, passed: bool) -> None:
    verdict = judge(darkness(scene(shift=shift)))
    assert verdict.passed is passed
    assert "this imagery against the model's training tiles: not known" in verdict.told
    assert ("since 2022-01-25 against imagery before: dark pixels differ by +" in verdict.told) is not passed


@given(st.integers(0, 9), st.sampled_from([-1000, 0, 1000]))
def test_another_offset_than_in_training_is_found(seed: int, shift: int) -> None:
    """Left in this year, or taken out this year and left in the year of the training."""
    before, after = scene(seed, 64)[:2], scene(seed + 1, 64)[2:]
    trained, own = before.astype(int), after.astype(int)
    trained, own = (trained - shift, own) if shift < 0 else (trained, own + shift)
    training = darkness(trained.astype(np.uint16), TIMES[:2])
    verdict = judge(darkness(own.astype(np.uint16), TIMES[2:]), training)
    assert verdict.passed is (shift == 0)
    assert [row[1] for row in verdict.rows] == [None] * 4
    assert "imagery since 2022-01-25 against imagery before: not known" in verdict.told


@pytest.mark.parametrize(("apart", "passed"), [(500, True), (501, False), (-500, True), (-501, False), (940, False)])
def test_more_than_half_the_offset_is_too_much(apart: int, passed: bool) -> None:
    """A tile's darkest pixels vary by less, and an offset that bright ground half hides is still found."""
    own = {"before": dict.fromkeys(BANDS, 2000.0), "after": dict.fromkeys(BANDS, 2000.0 + apart)}
    assert judge(own).passed is passed


def test_most_bands_have_to_differ() -> None:
    """One band may differ by itself: snow, another season, a band that is broken."""
    training = {"before": WATER}
    half = {"after": {"B02": 1300.0, "B04": 1150.0, "B08": 80.0, "B11": 40.0}}
    assert judge(half, training).passed
    assert not judge({"after": half["after"] | {"B08": 1080.0}}, training).passed


def test_the_table_says_what_is_not_known() -> None:
    verdict = judge({"after": {"B02": 300.0}}, {"before": {"B02": 310.4, "B04": 5.0}})
    assert verdict.table().splitlines() == [
        "| band | before 2022-01-25 | since | training |",
        "|---|---|---|---|",
        "| B02 | - | 300 | 310 |",
        "| B04 | - | - | 5 |",
    ]
    nothing = judge({})
    assert nothing.passed and nothing.rows == ()
    assert nothing.told.count("not known, one of the two has no dark pixels on record") == 2
