"""The demo of a cloudy series: its composite in the evalscript against numpy, and what is cut of its scenes."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eo_assets.core.evalscript_periods import with_periods
from eo_assets.core.periods import Period, centres_of, frames_of, labels_of, periods_of
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from eo_assets.project_periods import project_periods
from eo_assets.project_yaml import SHIPPED
from eo_assets.projects.landsat_series.prepare import Acquisition, _numbers, remaining
from resources.local_sentinel_hub.evalscript import InputArray, ScriptProcess, ScriptSource, inspect_script

COMPOSITE = (SHIPPED / "landsat_series/evalscripts/composite.js").read_text()
BANDS = ("b3", "b4", "b5")
INTERVAL = (dt.date(2008, 1, 1), dt.date(2008, 12, 31))
PERIODS = periods_of(INTERVAL, (dt.date(2008, 4, 1), dt.date(2008, 6, 1), dt.date(2008, 7, 1), dt.date(2009, 1, 1)))
Array = NDArray[Any]


def composited(
    times: Sequence[dt.datetime], bands: Sequence[Array], fmask: Array, data: Array, periods: Sequence[Period] = PERIODS
) -> tuple[Array, Array, dict[str, Any]]:
    """What composite.js delivers: bands (band, period, pixel), counts (period, pixel), userData.

    Inputs are (time, pixel) in the order of `times`, each the samples of a day.
    """
    scenes = tuple(
        {
            "dateFrom": f"{time:%Y-%m-%d}T00:00:00Z",
            "dateTo": f"{time:%Y-%m-%d}T23:59:59Z",
            "tiles": [{"date": f"{time:%Y-%m-%dT%H:%M:%SZ}", "dataPath": f"product-{time:%j}"}],
        }
        for time in times
    )
    with ScriptProcess(with_periods(COMPOSITE, periods)) as process:
        plan = process.begin([ScriptSource(None, "2008-01-01", "2008-12-31", scenes)], {})
        [kept] = plan.keep
        pixels = fmask.shape[1]
        inputs = [InputArray(0, name, np.dtype(np.uint16), len(kept), None) for name in BANDS]
        inputs += [InputArray(0, name, np.dtype(np.uint8), len(kept), None) for name in ("FMASK", "dataMask")]
        given_arrays, made = process.allocate(pixels, [len(kept)], inputs, plan.outputs)
        for array, values in zip(given_arrays, [*bands, fmask, data], strict=True):
            array[:, :pixels] = values[list(kept)]
        process.run(pixels)
        told = json.loads(process.finish())
        found = np.stack([array[:, :pixels].copy() for array in made])
    return found[:3], found[3], told


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_it_is_twice_the_median_of_the_clear_observations_of_each_period(dates: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = rng.choice(366, dates, replace=False)
    times = [dt.datetime(2008, 1, 1, 17, 30) + dt.timedelta(days=int(day)) for day in days]
    bands = rng.integers(0, 32768, (3, dates, 40)).astype(np.uint16)
    fmask, data = rng.choice([0, 1, 2, 3, 4, 255], (dates, 40)), rng.integers(0, 2, (dates, 40))
    clear = (fmask <= 1) & (data == 1)
    poisoned = np.where(clear, bands, rng.choice([0, 65535], bands.shape))

    found, counts, told = composited(times, list(poisoned), fmask, data)

    for period, held in enumerate(map(list, frames_of(PERIODS, times))):
        np.testing.assert_array_equal(counts[period], clear[held].sum(axis=0))
        for band in range(3):
            for pixel in range(40):
                seen = bands[band, held, pixel][clear[held, pixel]].astype(np.float64)
                assert found[band, period, pixel] == (2 * np.median(seen) if seen.size else 0)
    used = sorted(time for time in times if any(period.holds(time) for period in PERIODS))
    assert sorted(told["acquisitions"]) == [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in used]


def test_every_period_has_a_frame_dated_with_its_centre() -> None:
    times = [dt.datetime(2008, 6, 30, 23, 59, 59)]
    one = np.full((1, 1), 7, np.uint16)
    found, counts, told = composited(times, [one, one, one], np.zeros((1, 1)), np.ones((1, 1)))
    assert counts[:, 0].tolist() == [0, 1, 0]
    assert found[0, :, 0].tolist() == [0, 14, 0]
    assert [dt.datetime.fromisoformat(date).replace(tzinfo=None) for date in told["dates"]] == list(centres_of(PERIODS))
    assert told["products"] == [[], ["product-182"], []]


def test_what_sixteen_bits_can_not_hold_twice_is_cut() -> None:
    high = np.full((1, 1), 40_000, np.uint16)
    found, _, _ = composited([dt.datetime(2008, 5, 1)], [high, high, high], np.zeros((1, 1)), np.ones((1, 1)))
    assert found[:, 0, 0].tolist() == [65535, 65535, 65535]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9), st.integers(1, 9)).filter(
            lambda hole: hole[0] < hole[1] and hole[2] < hole[3]
        ),
        max_size=3,
    )
)
def test_what_is_left_of_a_scene_is_everything_but_the_holes_once(holes: list[tuple[int, int, int, int]]) -> None:
    expected = np.ones((10, 9), dtype=int)
    windows = [(slice(a, b), slice(c, d)) for a, b, c, d in holes]
    for hole in windows:
        expected[hole] = 0
    found = np.zeros_like(expected)
    for window in remaining(found.shape, windows):
        found[window] += 1
    np.testing.assert_array_equal(found, expected)


def test_what_is_no_reflectance_is_no_data_and_nothing_wraps() -> None:
    numbers = np.arange(-(2**15), 2**15).astype(np.int16)
    found = _numbers(numbers)
    measured = (numbers >= 1) & (numbers < 16000)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[measured], numbers[measured])
    assert not found[~measured].any()


def test_fmask_is_kept_as_it_is() -> None:
    fmask = np.arange(256).astype(np.uint8)
    found = _numbers(fmask)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, fmask)


def test_the_date_is_in_a_scene_s_name() -> None:
    assert Acquisition(Path("x/LT50350322008110PAC01")).day == dt.date(2008, 4, 19)
    assert Acquisition(Path("x/LE70350322008366EDC00")).day == dt.date(2008, 12, 31)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    folder = tmp_path_factory.mktemp("work")
    return load_project("landsat_series", inspect_script=inspect_script, environment={}, working_folder=folder)


def test_its_periods_cover_the_growing_season_and_the_rest_of_the_year(loaded: LoadedProject) -> None:
    periods = project_periods(loaded.project)
    assert labels_of(periods) == ("d0401", "d0601", "d0701", "d0801", "d0901")
    assert periods[-1].end == dt.datetime(2009, 1, 1)


def test_the_series_is_asked_for_as_it_is(loaded: LoadedProject) -> None:
    setup = loaded.setups["evalscripts/series.js"]
    assert (setup.mosaicking, setup.bands) == ("ORBIT", 4)
    assert [output.id for output in setup.outputs] == list(loaded.project.imagery.tiff_outputs)
    assert "PERIODS" not in loaded.evalscripts["evalscripts/series.js"]
