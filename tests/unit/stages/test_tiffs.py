"""Deliveries: what is taken, and what is refused by name."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_assets.errors import TileError
from eo_assets.stages.stage import TileInputs
from eo_assets.stages.tiffs import UNTOLD, read_acquisitions, read_dates

START = dt.date(2020, 1, 1)


def check(world: Any, key: str) -> Any:
    [stage] = world.walk().selected(["tiffs"])
    return stage.run(world.tile, TileInputs({}, {}), world.root / key)


def test_a_delivery_is_taken(world: Any) -> None:
    found = check(world, world.deliver())
    assert found.empty is None
    assert found.numbers["dates"] == 2
    assert found.numbers["first_date"] == "2020-01-01T10:20:31"


def test_more_bands_than_dates_are_taken(world: Any, digital_numbers: Any) -> None:
    assert check(world, world.deliver(outputs=digital_numbers(world.tile, 5))).numbers["dates"] == 2


def test_without_acquisitions_the_tile_is_empty(world: Any) -> None:
    assert "no acquisition" in check(world, world.deliver(dates=[])).empty


def test_the_other_ending_is_taken(world: Any) -> None:
    key = world.deliver()
    (world.root / key / "B04.tif").rename(world.root / key / "B04.tiff")
    assert check(world, key).numbers["dates"] == 2


def test_too_few_bands_are_refused(world: Any) -> None:
    with pytest.raises(TileError, match=r"B04\.tif has 2 bands for 3 dates; updateOutput"):
        check(world, world.deliver(dates=("2020-01-01", "2020-01-02", "2020-01-03")))


@pytest.mark.parametrize("broken", ["missing", "empty", "text", "cut"])
def test_a_damaged_file_is_refused_by_name(world: Any, broken: str) -> None:
    key = world.deliver()
    file = world.root / key / "B08.tif"
    whole = file.read_bytes()
    if broken == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "text": b"no tiff", "cut": whole[: len(whole) - 100]}[broken])
    with pytest.raises(TileError, match=r"B08\.tif"):
        check(world, key)


@pytest.mark.parametrize("compress", ["deflate", "zstd", "none"])
@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {"interleave": "band"}, {}])
def test_a_file_that_was_cut_short_is_refused(world: Any, compress: str, layout: dict[str, Any]) -> None:
    key = world.deliver(compress=compress, **layout)
    assert check(world, key).numbers["dates"] == 2
    file = world.root / key / "B08.tif"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(TileError, match=r"B08\.tif ends after|B08\.tif can't be opened"):
        check(world, key)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crs": "EPSG:32632"}, "EPSG:32632"),
        ({"crs": None}, "EPSG:None"),
        ({"shift": 10.0}, "corner in place: False"),
        ({"size": (130, 23)}, "(130, 23) pixels"),
    ],
)
def test_another_grid_is_refused(world: Any, digital_numbers: Any, changes: dict[str, Any], told: str) -> None:
    outputs = digital_numbers(world.tile)
    if "size" in changes:
        height, width = changes.pop("size")
        outputs = {name: np.ascontiguousarray(values[:, :height, :width]) for name, values in outputs.items()}
    if "shift" in changes:
        moved = world.tile.transform
        changes = {"transform": type(moved)(*moved[:2], moved.c + changes["shift"], *moved[3:6])}
    key = world.deliver(outputs=outputs, **changes)
    with pytest.raises(TileError, match=r"is not on the grid of 33UUU_3_7.*expected EPSG:32633") as caught:
        check(world, key)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "userdata",
    ["", "{", "[]", '"x"', "\x00", '{"dates": 5}', '{"dates": "2020"}', '{"dates": [1]}', '{"dates": ["soon"]}'],
)
def test_broken_userdata_is_refused_by_name(tmp_path: Path, userdata: str) -> None:
    (tmp_path / "userdata.json").write_text(userdata)
    with pytest.raises(TileError, match=r"userdata\.json: .*must set userData to \{dates"):
        read_dates(tmp_path, START)


@pytest.mark.parametrize("userdata", [None, "null", "{}", '{"dates": null}'])
def test_a_script_that_tells_no_dates_has_one(tmp_path: Path, userdata: str | None) -> None:
    if userdata is not None:
        (tmp_path / "userdata.json").write_text(userdata)
    assert read_dates(tmp_path, START) == [dt.datetime(2020, 1, 1)]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2020-01-01T10:20:30Z", "2020-01-01T10:20:30"),
        ("2020-01-01T10:20:30", "2020-01-01T10:20:30"),
        ("2020-01-01T01:00:00+02:00", "2019-12-31T23:00:00"),
        ("2020-12-31", "2020-12-31T00:00:00"),
    ],
)
def test_dates_are_in_utc(tmp_path: Path, text: str, utc: str) -> None:
    (tmp_path / "userdata.json").write_text(json.dumps({"dates": [text]}))
    assert read_dates(tmp_path, START) == [dt.datetime.fromisoformat(utc)]


def deliver_composites(world: Any, told: Any) -> Any:
    """A checked delivery of two composites, whose userData tells `told` beside their dates."""
    world.imagery["composite_in_evalscript"] = True
    key = world.deliver()
    file = world.root / key / "userdata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | told))
    return check(world, key)


def test_acquisitions_of_a_composite_are_those_that_its_script_tells(world: Any) -> None:
    told = {"acquisitions": ["2020-01-03T10:00:00Z", "2020-01-03T10:00:05Z", "2020-01-08T10:00:00Z"]}
    assert deliver_composites(world, told).numbers["acquisitions"] == ["2020-01-03", "2020-01-08"]


def test_the_middle_of_a_period_is_never_taken_for_an_acquisition(world: Any) -> None:
    found = deliver_composites(world, {})
    assert (found.empty, found.numbers["dates"], found.numbers["acquisitions"]) == (None, 2, UNTOLD)


def test_a_composite_of_no_acquisition_is_empty(world: Any) -> None:
    assert "no acquisition" in deliver_composites(world, {"acquisitions": []}).empty


def test_acquisitions_of_frames_that_are_none_are_the_frames(world: Any) -> None:
    key = world.deliver()
    file = world.root / key / "userdata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"acquisitions": 5}))
    assert check(world, key).numbers["acquisitions"] == ["2020-01-01", "2020-01-11"]


@pytest.mark.parametrize("userdata", ["", "[]", '{"acquisitions": 5}', '{"acquisitions": ["soon"]}'])
def test_broken_acquisitions_are_refused_by_name(tmp_path: Path, userdata: str) -> None:
    (tmp_path / "userdata.json").write_text(userdata)
    with pytest.raises(TileError, match=r"userdata\.json: .*sets userData\.acquisitions to a list of ISO dates"):
        read_acquisitions(tmp_path)
