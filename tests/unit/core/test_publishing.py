"""What has to be done for a collection, as plain values."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.publishing import BandSettings, KnownTile, PublishedTile, after, plan, settle_bands, whole_bands
from eo_assets.errors import ServiceError

YEAR = dt.datetime(2020, 12, 31, tzinfo=dt.UTC)
BAND = BandSettings("result", "uint8", 255.0, "SHARE")
NAMED = BandSettings("result", "uint8", 255.0, "SHARE", "COVER")
TOLD = {"source": "result", "bandIndex": 1, "bitDepth": 8, "sampleFormat": "UINT", "noData": 255}


def tile(path: str, digest: str = "d", cover: int = 0) -> PublishedTile:
    return PublishedTile(path, YEAR, {"type": "Polygon", "coordinates": [cover]}, digest)


def present(path: str, status: str = "INGESTED", time: str = "2020-12-31T00:00:00Z") -> dict[str, Any]:
    return {"id": f"id of {path}", "path": path, "status": status, "sensingTime": time}


def asked(wanted: PublishedTile) -> KnownTile:
    return after(wanted, KnownTile(wanted.path, made=True), f"id of {wanted.path}")


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [
        ("uint8", 255.0, {"bitDepth": 8, "sampleFormat": "UINT", "noData": 255}),
        ("uint16", 0.0, {"bitDepth": 16, "sampleFormat": "UINT", "noData": 0}),
        ("int16", -1.0, {"bitDepth": 16, "sampleFormat": "INT", "noData": -1}),
        ("int32", -9999.0, {"bitDepth": 32, "sampleFormat": "INT", "noData": -9999}),
        ("float32", -0.5, {"bitDepth": 32, "sampleFormat": "FLOAT", "noData": -0.5}),
        ("float32", math.nan, {"bitDepth": 32, "sampleFormat": "FLOAT"}),
    ],
)
def test_the_band_of_every_type_of_map(dtype: str, nodata: float, expected: dict[str, Any]) -> None:
    band = BandSettings("result", dtype, nodata, "SHARE")
    assert settle_bands({}, band, nodata=None, empty=True) == {
        "SHARE": {"source": "result", "bandIndex": 1, **expected}
    }


@pytest.mark.parametrize(
    ("time", "same"),
    [
        ("2020-12-31T00:00:00Z", True),
        ("2020-12-31T00:00:00.000Z", True),
        ("2020-12-31T01:00:00+01:00", True),
        ("2020-12-31T00:00:00", True),
        ("2020-12-30T00:00:00Z", False),
        ("", False),
    ],
)
def test_times_are_compared_as_times(time: str, same: bool) -> None:
    wanted = tile("a")
    found = plan([wanted], {"a": present("a", time=time)}, [asked(wanted)])
    assert found.actions == {"a": "left alone" if same else "updated"}


def test_a_sensing_time_is_sent_in_utc_and_compared_without_fractions() -> None:
    local = dt.datetime(2020, 12, 31, 1, 0, 0, 999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    wanted = PublishedTile("a", local, {}, "d")
    assert wanted.payload()["sensingTime"] == "2020-12-31T00:00:00Z"
    assert plan([wanted], {"a": present("a")}, [asked(wanted)]).actions == {"a": "left alone"}


def test_a_tile_in_work_is_left_alone_and_a_failed_one_is_not() -> None:
    tiles = [tile("a"), tile("b")]
    there = {"a": present("a", "QUEUED"), "b": present("b", "FAILED")}
    assert plan(tiles, there, [asked(t) for t in tiles]).actions == {"a": "left alone", "b": "re-ingested"}


def test_what_is_about_to_be_made_is_ours_and_what_was_there_is_not() -> None:
    found = plan([tile("new"), tile("there")], {"there": present("there")}, [])
    assert {path: known.made for path, known in found.known.items()} == {"new": True, "there": False}


names = st.sampled_from("abcdef")
wanted_tiles = st.dictionaries(names, st.tuples(st.sampled_from("xy"), st.integers(0, 1)))
there_tiles = st.dictionaries(names, st.sampled_from(["INGESTED", "FAILED", "WAITING"]))


@given(wanted_tiles, there_tiles, wanted_tiles)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    wanted: dict[str, Any], there: dict[str, str], before: dict[str, Any]
) -> None:
    tiles = [tile(path, *how) for path, how in wanted.items()]
    known = [asked(tile(path, *how)) for path, how in before.items()]
    first = plan(tiles, {path: present(path, status) for path, status in there.items()}, known)
    assert set(first.actions) == set(wanted)
    assert set(first.vanished) == (set(there) & set(before)) - set(wanted)
    now = {path: present(path) for path in {*wanted, *there}}
    remembered = [after(t, first.known[t.path], f"id of {t.path}") for t in tiles]
    second = plan(tiles, now, [*remembered, *(first.known[path] for path in first.vanished)])
    assert set(second.actions.values()) <= {"left alone"}
    assert second.vanished == first.vanished


def test_bands_keep_what_the_project_does_not_say() -> None:
    other = {"bitDepth": 16, "sampleFormat": "UINT"}
    found = settle_bands({"MINE": {**TOLD, "noData": 1}, "height": other}, BAND, nodata=7, empty=False)
    assert found == {
        "MINE": TOLD,
        "height": {"source": "height", "bandIndex": 1, **other, "noData": 7},
    }
    assert settle_bands({"MINE": TOLD}, NAMED, nodata=None, empty=False) == {"COVER": TOLD}
    assert settle_bands({"MINE": TOLD}, BAND, nodata=None, empty=True) == {"MINE": TOLD}
    assert settle_bands({"other": {**TOLD, "source": "x"}}, BAND, nodata=None, empty=True) == {"SHARE": TOLD}
    assert whole_bands({"result": {"bitDepth": 8, "sampleFormat": "UINT", "noData": 255, "aliases": None}}) == {
        "result": TOLD
    }


def test_a_name_that_another_band_has_is_refused() -> None:
    bands = {"MINE": TOLD, "COVER": {**TOLD, "source": "other"}}
    with pytest.raises(ServiceError, match="it has another band COVER already; choose another"):
        settle_bands(bands, NAMED, nodata=None, empty=False)
