"""What is adopted and what is refused, over folders as eo-grow and eo-learn leave them. No service, no Ray."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from eo_assets.cli import main
from eo_assets.command_adopt import adopt, succeeded
from eo_assets.core.tile import Bounds, Tile
from eo_assets.stages.adoption import Adopted
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.stages.walk import TileWork
from eo_assets.status import project_status
from resources.eopatch_files import DATA, DATA_TIMELESS, MASK, DigitalNumbers, open_array, row_blocks
from resources.object_store import checksum
from tests.foreign_world import TIMES, ForeignWorld, write_tiff
from tests.integration.conftest import write_project


@pytest.fixture
def world(tmp_path: Path) -> ForeignWorld:
    return ForeignWorld(tmp_path / "project")


def taken(world: ForeignWorld, *stages: str, **options: Any) -> list[Adopted]:
    before = checksum(world.made)
    found = adopt(str(world.loaded.file), world.made, stages or ("tiffs", "eopatches", "reference"), **options)
    assert checksum(world.made) == before, "a source was changed"
    return found


def ends(found: list[Adopted]) -> list[tuple[str, str, str]]:
    return sorted((adopted.stage, adopted.tile, adopted.ending) for adopted in found)


def walked(world: ForeignWorld, tile: Tile, *stages: str) -> dict[str, Any]:
    outcomes = tile_walk(world.loaded)(TileWork(tile, stages))
    return {outcome.stage: outcome for outcome in outcomes}


def stored(world: ForeignWorld, stage: str, tile: Tile, kind: str, name: str) -> np.ndarray:
    return np.asarray(open_array(tile_store(world.loaded).live(stage, tile.name), kind, name)[:])


def delivered(world: ForeignWorld, tile: Tile) -> np.ndarray:
    """The digital numbers of a tile's EOPatch."""
    array = open_array(tile_store(world.loaded).live("eopatches", tile.name), DATA, "BANDS")
    return np.concatenate([DigitalNumbers(array).read(rows) for rows in row_blocks(tile.shape[0])], axis=1)


def test_tiffs_are_copied_committed_and_gone_on_with(world: ForeignWorld) -> None:
    first, second, *_ = world.tiles
    (world.write_tiffs(first) / "request.json").write_text("{}")
    world.write_tiffs(second, "some/request/named-otherwise")
    (world.made / "notes").mkdir()
    assert ends(taken(world)) == sorted(("tiffs", tile.name, "adopted") for tile in (first, second))

    record = tile_store(world.loaded).record("tiffs", first.name)
    assert record.numbers["adopted"] == str(world.made / first.name)
    assert record.numbers["acquisitions"] == ["2020-06-01", "2020-06-11"]
    assert "batch_request" not in record.numbers
    folder = tile_store(world.loaded).path(record)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["B04.tif", "B08.tif", "B11.tif", "MASK.tif", "userdata.json"]
    )
    outcomes = walked(world, first, "tiffs", "eopatches", "features")
    assert {stage: outcome.status for stage, outcome in outcomes.items()} == {
        "tiffs": "up_to_date",
        "eopatches": "done",
        "features": "done",
    }
    assert np.array_equal(delivered(world, first), world.numbers(first)[::-1])
    [status] = [status for status in project_status(world.loaded) if status.asset == "tiffs"]
    assert status.adopted == 2 and status.states == {"done": 2, "missing": len(world.tiles) - 2}


def test_links_share_their_bytes_with_the_source(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    source = world.write_tiffs(tile)
    assert ends(taken(world, link=True)) == [("tiffs", tile.name, "adopted")]
    assert (tile_store(world.loaded).live("tiffs", tile.name) / "B04.tif").samefile(source / "B04.tif")


def test_tiffs_in_the_projects_own_folder_stay_where_they_are(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    place = tile_store(world.loaded).store.path(world.loaded.project.folder("tiffs"))
    shutil.copytree(world.write_tiffs(tile), place / tile.name)
    for ending in ("adopted", "kept"):
        [adopted] = adopt(str(world.loaded.file), place)
        assert (adopted.tile, adopted.ending) == (tile.name, ending)
    assert tile_store(world.loaded).live("tiffs", tile.name) == place / tile.name


@pytest.mark.parametrize("use_zarr", [False, True])
def test_eopatches_are_found_by_their_box_and_need_no_tiffs(world: ForeignWorld, use_zarr: bool) -> None:
    for number, tile in enumerate(world.tiles):
        world.write_eopatch(tile, f"eopatch-id-{number}-col-0-row-{number}", use_zarr=use_zarr)
    assert ends(taken(world)) == sorted(("eopatches", tile.name, "adopted") for tile in world.tiles)
    for tile in world.tiles:
        outcomes = walked(world, tile, "tiffs", "eopatches", "features")
        assert [outcome.status for outcome in outcomes.values()] == ["up_to_date", "up_to_date", "done"]
        assert np.array_equal(delivered(world, tile), world.numbers(tile)[::-1])
        assert np.array_equal(
            stored(world, "eopatches", tile, MASK, "QUALITY_MASK")[..., 0], world.mask(tile)[::-1] != 0
        )
    status = {status.asset: status for status in project_status(world.loaded)}
    assert status["tiffs"].adopted == status["eopatches"].adopted == len(world.tiles)
    assert status["features"].adopted == 0
    # Once more: nothing to do, nothing changed.
    before = checksum(tile_store(world.loaded).store.path("data/2020/_commits"))
    assert {adopted.ending for adopted in taken(world)} == {"kept"}
    assert checksum(tile_store(world.loaded).store.path("data/2020/_commits")) == before


def test_an_adopted_eopatch_equals_the_one_made_from_tiffs(world: ForeignWorld) -> None:
    first = world.tiles[0]
    world.write_tiffs(first)
    taken(world)
    walked(world, first, "eopatches")
    made = tile_store(world.loaded).live("eopatches", first.name)
    arrays = checksum(made / "data"), checksum(made / "mask"), (made / "timestamps.json").read_text()
    shutil.rmtree(tile_store(world.loaded).store.path("data"))
    world.write_eopatch(first, "eopatch-id-0")
    assert ("eopatches", first.name, "adopted") in ends(taken(world))
    made = tile_store(world.loaded).live("eopatches", first.name)
    assert (checksum(made / "data"), checksum(made / "mask"), (made / "timestamps.json").read_text()) == arrays
    record = tile_store(world.loaded).record("eopatches", first.name)
    assert record.inputs == {"tiffs": tile_store(world.loaded).record("tiffs", first.name).digest}


@pytest.mark.parametrize(
    "bands",
    [
        lambda numbers: numbers,
        lambda numbers: numbers.astype(np.int32),
        lambda numbers: numbers * 0.0001,
        lambda numbers: np.asfortranarray((numbers * 0.0001).astype(np.float32)),
    ],
    ids=["uint16", "int32", "float64", "float32 by columns"],
)
def test_digital_numbers_are_exact_however_they_were_stored(world: ForeignWorld, bands: Callable[..., Any]) -> None:
    tile = world.tiles[0]
    world.write_eopatch(tile, "a", data={"BANDS": bands(world.numbers(tile)[::-1])})
    assert ends(taken(world)) == [("eopatches", tile.name, "adopted")]
    assert np.array_equal(delivered(world, tile), world.numbers(tile)[::-1])


def test_dates_in_any_order_are_sorted_and_excluded_ones_left_out(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    world.write_eopatch(
        tile,
        "a",
        timestamps=[dt.datetime.fromisoformat(time).replace(tzinfo=None) for time in TIMES],
        data={"BANDS": world.numbers(tile)},
        mask={"QUALITY_MASK": world.mask(tile)[..., None]},  # codes as the tiffs have them
    )
    world.loaded = write_project(world.folder, {"imagery": {"exclude": ["2020-06-01"]}})
    assert ends(taken(world)) == [("eopatches", tile.name, "adopted")]
    folder = tile_store(world.loaded).live("eopatches", tile.name)
    assert json.loads((folder / "timestamps.json").read_text()) == ["2020-06-11T10:00:00"]
    assert np.array_equal(delivered(world, tile), world.numbers(tile)[:1])
    assert np.array_equal(stored(world, "eopatches", tile, MASK, "QUALITY_MASK")[0, ..., 0], world.mask(tile)[0] != 0)
    assert walked(world, tile, "eopatches")["eopatches"].status == "up_to_date"


def test_labels_and_imagery_of_one_eopatch(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    labels = np.random.default_rng(5).choice([0, 10, 20], (*tile.shape, 1)).astype(np.float64)
    world.write_eopatch(tile, "both", data_timeless={"LAND_COVER": labels})
    assert ends(taken(world, "reference")) == [("reference", tile.name, "adopted")]
    assert ends(taken(world)) == [("eopatches", tile.name, "adopted"), ("reference", tile.name, "kept")]
    values = stored(world, "reference", tile, DATA_TIMELESS, "LAND_COVER")
    assert values.dtype == np.uint8 and np.array_equal(values, labels)
    assert walked(world, tile, "reference")["reference"].status == "up_to_date"


def test_an_eopatch_without_dates_is_an_empty_tile(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    nothing = np.zeros((0, *tile.shape, 3), np.float32), np.zeros((0, *tile.shape, 1), bool)
    world.write_eopatch(tile, "a", timestamps=[], data={"BANDS": nothing[0]}, mask={"QUALITY_MASK": nothing[1]})
    assert ends(taken(world)) == [("eopatches", tile.name, "adopted")]
    outcomes = walked(world, tile, "tiffs", "eopatches", "features")
    assert [outcome.record.empty for outcome in outcomes.values()] == [True, True, True]


def test_a_dry_run_checks_all_and_writes_nothing(world: ForeignWorld) -> None:
    first, second, *_ = world.tiles
    world.write_tiffs(first)
    world.write_eopatch(second, "a")
    world.write_eopatch(world.tiles[2], "b", data={"BANDS": np.zeros((2, 5, 5, 3), np.float32)}, mask={})
    before = checksum(world.folder)
    assert ends(taken(world, dry_run=True)) == sorted(
        [
            ("eopatches", world.tiles[2].name, "refused"),
            ("eopatches", second.name, "adopted"),
            ("tiffs", first.name, "adopted"),
        ]
    )
    assert checksum(world.folder) == before


def test_what_is_committed_is_never_replaced_but_what_is_lost_is(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    world.write_tiffs(tile)
    taken(world)
    record = tile_store(world.loaded).record("tiffs", tile.name)
    world.loaded = write_project(world.folder, {"imagery": {"time_interval": ["2020-05-01", "2020-06-30"]}})
    assert ends(taken(world)) == [("tiffs", tile.name, "kept")]
    assert tile_store(world.loaded).record("tiffs", tile.name) == record
    shutil.rmtree(tile_store(world.loaded).path(record))
    assert ends(taken(world)) == [("tiffs", tile.name, "adopted")]


def test_an_eopatch_that_no_longer_fits_the_mapping_says_what_to_do(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    world.write_eopatch(tile, "a")
    taken(world)
    eopatches = {"masks": {"QUALITY_MASK": {"from": "MASK", "valid": [1, 2]}}}
    world.loaded = write_project(world.folder, {"eopatches": eopatches})
    outcome = walked(world, tile, "eopatches")["eopatches"]
    assert outcome.status == "failed" and "only its EOPatch was adopted" in outcome.reason
    assert f"delete {tile.name}.json under _commits" in outcome.reason
    assert Path(tile_store(world.loaded).record_place("tiffs", tile.name)).parts[-2:] == (
        "_commits",
        f"{tile.name}.json",
    )


JOINED = {
    "QUALITY_MASK": {"from": None, "valid": None, "all_of": ["SEEN", "CLEAR"]},
    "SEEN": {"from": "MASK", "classes": "fmask", "invalid": ["snow"]},
    "CLEAR": {"from": "MASK", "classes": "fmask", "invalid": ["cloud"], "dilate_px": 2},
}


def joined(world: ForeignWorld, masks: dict[str, Any]) -> Any:
    """What becomes of an EOPatch with these masks, in a project that joins masks."""
    world.loaded = write_project(world.folder, {"eopatches": {"masks": JOINED}})
    world.write_eopatch(world.tiles[0], "a", mask=masks)
    [adopted] = taken(world)
    return adopted


def mask_of(world: ForeignWorld, name: str) -> np.ndarray:
    return stored(world, "eopatches", world.tiles[0], MASK, name)[..., 0]


def test_masks_that_somebody_else_joined_or_grew_are_taken_as_they_are(world: ForeignWorld) -> None:
    valid = world.mask(world.tiles[0])[::-1, ..., None] != 0
    masks = {"QUALITY_MASK": valid, "SEEN": ~valid, "CLEAR": valid}
    assert joined(world, masks).ending == "adopted"
    for name, values in masks.items():
        np.testing.assert_array_equal(mask_of(world, name), values[..., 0])


def test_masks_of_codes_are_grown_and_joined_as_those_of_tiffs(world: ForeignWorld) -> None:
    codes = np.zeros((len(TIMES), *world.tiles[0].shape, 1), np.uint8)
    codes[0, 63, 5], codes[1, 10, 10], codes[1, 40] = 4, 3, 255
    assert joined(world, {"SEEN": codes, "CLEAR": codes}).ending == "adopted"
    found = mask_of(world, "QUALITY_MASK")
    np.testing.assert_array_equal(found, mask_of(world, "SEEN") & mask_of(world, "CLEAR"))
    assert (~found[0]).sum() == 13 and not found[0, 65, 5] and found[0, 65, 6]
    assert not found[1, 10, 10] and not found[1, 40].any() and found[1, 39].all()


def test_a_mask_that_joins_others_is_no_codes(world: ForeignWorld) -> None:
    codes = np.zeros((len(TIMES), *world.tiles[0].shape, 1), np.uint8)
    found = joined(world, {"SEEN": codes, "CLEAR": codes, "QUALITY_MASK": codes})
    assert found.ending == "refused"
    assert "mask/QUALITY_MASK holds uint8 codes, and eopatches.masks.QUALITY_MASK joins masks: save it" in found.reason


def test_a_mask_that_others_join_has_to_be_there(world: ForeignWorld) -> None:
    found = joined(world, {"SEEN": np.ones((len(TIMES), *world.tiles[0].shape, 1), bool)})
    assert (found.ending, "has no mask/CLEAR; its mask: SEEN" in found.reason) == ("refused", True)


def test_of_an_earlier_project_only_what_its_records_name_is_taken(world: ForeignWorld, tmp_path: Path) -> None:
    tile = world.tiles[0]
    world.write_tiffs(tile)
    taken(world)
    walked(world, tile, "eopatches")
    live = tile_store(world.loaded).live("eopatches", tile.name)
    shutil.copytree(live, live.with_name("20200101T000000-00000000"))  # what a killed run left
    other = ForeignWorld(tmp_path / "later" / "project")
    found = adopt(str(other.loaded.file), world.folder / "data/2020")
    assert [(adopted.folder, adopted.ending) for adopted in found] == [(str(live), "adopted")]


def test_an_eopatch_in_the_projects_own_folder_outlives_our_attempts(world: ForeignWorld) -> None:
    """A tile's folder may be somebody's EOPatch: what is swept there are attempts, not its arrays."""
    tile = world.tiles[0]
    place = tile_store(world.loaded).store.path("data/2020") / tile.name
    shutil.copytree(world.write_eopatch(tile, tile.name), place)
    old = time.time() - 100_000
    for path in (place / "data", place / "mask"):
        os.utime(path, (old, old))
    for ending in ("adopted", "kept"):
        assert [adopted.ending for adopted in adopt(str(world.loaded.file), place.parent)] == [ending]
    assert sorted(path.name for path in (place / "data").iterdir()) == ["BANDS.npy.gz"]


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def flip(path: Path) -> None:
    """Change the middle of a file: its length and its header stay."""
    data = bytearray(path.read_bytes())
    middle = slice(len(data) // 4, 3 * len(data) // 4)
    data[middle] = bytes(255 - value for value in data[middle])
    path.write_bytes(data)


def shifted(tile: Tile, by: float) -> Bounds:
    left, bottom, right, top = tile.bounds
    return Bounds(left + by, bottom, right + by, top)


BAD_TIFFS: dict[str, tuple[Callable[[ForeignWorld, Tile], Any], str]] = {
    "cut short": (lambda w, t: cut(w.write_tiffs(t) / "B08.tif"), "B08.tif"),
    "damaged within": (lambda w, t: flip(w.write_tiffs(t) / "B08.tif"), "B08.tif is damaged"),
    "no tiff at all": (lambda w, t: (w.write_tiffs(t) / "B08.tif").write_bytes(b""), "B08.tif can't be opened"),
    "another CRS": (lambda w, t: w.write_tiffs(t, crs="EPSG:32634"), "EPSG:32634"),
    "another grid": (
        lambda w, t: w.write_tiffs(t, transform=t.transform @ t.transform.translation(0.5, 0)),
        "corner in place: False",
    ),
    "a missing output": (lambda w, t: (w.write_tiffs(t) / "B11.tif").unlink(), "B11.tiff was not delivered"),
    "more dates than bands": (
        lambda w, t: w.write_tiffs(t, times=(*TIMES, "2020-06-21T10:00:00Z")),
        "has 2 bands for 3 dates",
    ),
    "a date of another year": (
        lambda w, t: w.write_tiffs(t, times=("2019-06-11T10:00:00Z", TIMES[1])),
        "2019-06-11 lies outside imagery.time_interval",
    ),
    "dates that are not told": (
        lambda w, t: (w.write_tiffs(t) / "userdata.json").write_text('{"norm_factor": 1}'),
        "no `dates`",
    ),
    "no userdata": (lambda w, t: (w.write_tiffs(t) / "userdata.json").unlink(), "no `dates`"),
    "torn userdata": (lambda w, t: cut(w.write_tiffs(t) / "userdata.json"), "userdata.json"),
    "an empty folder": (lambda w, t: (w.made / t.name).mkdir(), "is empty"),
    "another name beside the grid": (
        lambda w, t: w.write_tiffs(t, "other", transform=t.transform @ t.transform.translation(3, 0)),
        "do area.grid, resolution and buffer fit?",
    ),
}


def assert_refused(world: ForeignWorld, good: Tile, reason: str) -> None:
    found = taken(world)
    [refused] = [adopted for adopted in found if adopted.ending == "refused"]
    assert reason in refused.reason and str(world.folder) not in refused.reason
    assert [adopted.tile for adopted in found if adopted.ending == "adopted"] == [good.name]
    assert not succeeded(found)
    # Nothing of it is left: neither a record nor an attempt.
    store = tile_store(world.loaded)
    for stage in ("tiffs", "eopatches", "reference"):
        assert set(store.records(stage)) <= {good.name}
        folder = store.store.path(store.folder(stage))
        kept = {path.parent.name for path in folder.glob("*/2*")}
        assert kept <= {good.name}


@pytest.mark.parametrize("fault", BAD_TIFFS)
def test_bad_tiffs_are_named_and_the_others_are_adopted(world: ForeignWorld, fault: str) -> None:
    bad, good, *_ = world.tiles
    world.write_tiffs(good)
    spoil, reason = BAD_TIFFS[fault]
    spoil(world, bad)
    assert_refused(world, good, reason)


def bands(world: ForeignWorld, tile: Tile) -> np.ndarray:
    return (world.numbers(tile)[::-1] * 0.0001).astype(np.float32)


def lose_a_chunk(folder: Path) -> None:
    next(path for path in (folder / "data/BANDS.zarr").iterdir() if not path.name.startswith(".")).unlink()


BAD_EOPATCHES: dict[str, tuple[Callable[[ForeignWorld, Tile], Any], str]] = {
    "torn npy.gz": (lambda w, t: cut(w.write_eopatch(t, "e") / "data/BANDS.npy.gz"), "BANDS.npy.gz is torn"),
    "a damaged npy.gz": (lambda w, t: flip(w.write_eopatch(t, "e") / "data/BANDS.npy.gz"), "BANDS.npy.gz is torn"),
    "a lost chunk": (lambda w, t: lose_a_chunk(w.write_eopatch(t, "e", use_zarr=True)), "chunks; the others are lost"),
    "another shape": (
        lambda w, t: w.write_eopatch(t, "e", data={"BANDS": bands(w, t)[:, :-1]}, mask={}),
        "data/BANDS is (2, 71, 72, 3)",
    ),
    "a missing band": (
        lambda w, t: w.write_eopatch(t, "e", data={"BANDS": bands(w, t)[..., :2]}),
        "data/BANDS is (2, 72, 72, 2)",
    ),
    "no mask": (lambda w, t: w.write_eopatch(t, "e", mask={}), "has no mask/QUALITY_MASK"),
    "another CRS, named for the tile": (
        lambda w, t: w.write_eopatch(t, t.name, bbox=(t.bounds, 32634)),
        "in EPSG:32634",
    ),
    "a shifted box": (lambda w, t: w.write_eopatch(t, "e", bbox=(shifted(t, 5), t.epsg)), "do area.grid"),
    "the cell without its buffer": (lambda w, t: w.write_eopatch(t, "e", bbox=(t.cell, t.epsg)), "do area.grid"),
    "resampled values": (
        lambda w, t: w.write_eopatch(t, "e", data={"BANDS": bands(w, t) * np.float32(0.99)}),
        "no whole number times the factor",
    ),
    "NaN": (
        lambda w, t: w.write_eopatch(t, "e", data={"BANDS": np.full_like(bands(w, t), np.nan)}),
        "nan is no whole number times the factor",
    ),
    "digital numbers as fractions": (
        lambda w, t: w.write_eopatch(t, "e", data={"BANDS": w.numbers(t)[::-1].astype(np.float32)}),
        "are they digital numbers already",
    ),
    "a date of another year": (
        lambda w, t: w.write_eopatch(t, "e", timestamps=[dt.datetime(2019, 6, 1), dt.datetime(2020, 6, 11)]),
        "2019-06-01 lies outside imagery.time_interval",
    ),
    "nothing that is wanted": (
        lambda w, t: w.write_eopatch(t, "e", data={"FEATURES": bands(w, t)}),
        "e holds FEATURES; what can be adopted is BANDS, LAND_COVER",
    ),
    "no box": (lambda w, t: (w.write_eopatch(t, "e") / "bbox.geojson").unlink(), "has no bbox.geojson"),
    "a torn box": (lambda w, t: cut(w.write_eopatch(t, "e") / "bbox.geojson"), "bbox.geojson can't be read"),
    "a pickled box": (
        lambda w, t: (w.write_eopatch(t, "e") / "bbox.geojson").rename(w.made / "e/bbox.pkl"),
        "bbox.pkl is a pickle, which is never read",
    ),
    "no dates": (lambda w, t: (w.write_eopatch(t, "e") / "timestamps.json").unlink(), "has no timestamps.json"),
}


@pytest.mark.parametrize("fault", BAD_EOPATCHES)
def test_bad_eopatches_are_named_and_the_others_are_adopted(world: ForeignWorld, fault: str) -> None:
    bad, good, *_ = world.tiles
    world.write_eopatch(good, "good")
    spoil, reason = BAD_EOPATCHES[fault]
    spoil(world, bad)
    assert_refused(world, good, reason)


def test_a_pickle_in_an_array_is_not_opened(world: ForeignWorld) -> None:
    bad, good, *_ = world.tiles
    world.write_eopatch(good, "good")
    folder = world.write_eopatch(bad, "bad")
    (folder / "data/BANDS.npy.gz").unlink()
    np.save(folder / "data/BANDS.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert_refused(world, good, "BANDS.npy is not a whole array of numbers")


def test_dates_that_are_not_those_of_the_tiffs_are_refused(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    world.write_tiffs(tile)
    taken(world)
    times = [dt.datetime(2020, 6, 1), dt.datetime(2020, 6, 21)]
    world.write_eopatch(tile, "e", timestamps=times)
    [refused] = [adopted for adopted in taken(world) if adopted.ending == "refused"]
    assert "the project's tiffs" in refused.reason and "2020-06-21" in refused.reason


def test_what_lies_elsewhere_is_foreign_and_not_wrong(world: ForeignWorld) -> None:
    tile = world.tiles[0]
    far = Tile("elsewhere", tile.epsg, shifted(tile, 100_000), 10.0)
    write_tiff(world.made / "elsewhere/B04.tif", world.numbers(tile)[..., 0], far)
    world.write_eopatch(tile, "e", bbox=(tile.bounds, 32634))
    found = taken(world)
    assert {adopted.ending for adopted in found} == {"foreign"} and len(found) == 2
    assert not succeeded(found), "a folder of which nothing is of use is most likely the wrong one"
    world.write_tiffs(tile)
    assert succeeded(taken(world))


def test_the_command_tells_what_it_did(world: ForeignWorld) -> None:
    bad, good, *_ = world.tiles
    world.write_tiffs(good)
    cut(world.write_tiffs(bad) / "B04.tif")
    arguments = ["adopt", str(world.loaded.file), str(world.made)]
    done = CliRunner().invoke(main, [*arguments, "--dry-run"])
    assert done.exit_code == 1 and "would be adopted" in done.output
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert f"refused tiffs of {bad.name}: " in done.output and "B04.tif" in done.output
    assert "the evalscript can't be" in done.output
    shutil.rmtree(world.made / bad.name)
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0
    assert [entry["ending"] for entry in json.loads(done.stdout)] == ["kept"]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(main, ["status", str(world.loaded.file)])
    assert "(1 adopted)" in done.output
    done = CliRunner().invoke(main, ["adopt", str(world.loaded.file), str(world.made / "nowhere")])
    assert done.exit_code == 2 and "is no folder" in done.output
    with rasterio.open(tile_store(world.loaded).live("tiffs", good.name) / "B04.tif") as tiff:
        assert tiff.count == 2
