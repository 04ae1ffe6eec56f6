"""Tiffs to EOPatches: dates ascending, values exact, masks by value."""

from typing import Any

import numpy as np
import pytest

from eo_assets.core.tile import Bounds, Tile
from eo_assets.stages.eopatches import DECODED
from resources.eolearn_bridge import load_eopatch
from resources.eopatch_files import DATA, MASK, DigitalNumbers, open_array, read_timestamps


def patch(world: Any, **options: Any) -> Any:
    outcomes = world.run("tiffs", "eopatches", delivery=world.deliver(**options))
    assert outcomes["eopatches"].status == "done", outcomes["eopatches"]
    return world.store.live("eopatches", world.tile.name)


def test_descending_deliveries_become_ascending(world: Any, digital_numbers: Any, dates: Any) -> None:
    folder = patch(world)
    assert read_timestamps(folder) == dates
    delivered = digital_numbers(world.tile)
    bands = np.stack([delivered["B04"], delivered["B08"]], axis=-1)[::-1]
    np.testing.assert_array_equal(open_array(folder, DATA, "BANDS")[:], (bands * 0.0001).astype(np.float32))
    stored = DigitalNumbers(open_array(folder, DATA, "BANDS"))
    np.testing.assert_array_equal(stored.read(slice(128, 130)), bands[:, 128:130])
    np.testing.assert_array_equal(open_array(folder, MASK, "QUALITY_MASK")[..., 0], delivered["QM"][::-1] == 1)


def test_any_order_is_sorted_and_extra_frames_are_cut(world: Any, digital_numbers: Any) -> None:
    delivered = digital_numbers(world.tile, 5)
    texts = ("2020-01-05", "2020-01-20", "2020-01-01")
    folder = patch(world, outputs=delivered, dates=texts)
    assert [time.day for time in read_timestamps(folder)] == [1, 5, 20]
    found = open_array(folder, DATA, "BANDS")[..., 0]
    np.testing.assert_array_equal(found, (delivered["B04"][[2, 0, 1]] * 0.0001).astype(np.float32))


def test_eo_learn_reads_it(world: Any, dates: Any) -> None:
    found = load_eopatch(patch(world))
    assert found.timestamps == dates
    assert found.data["BANDS"].shape == (2, 130, 24, 2)
    assert found.mask["QUALITY_MASK"].dtype == bool


def test_a_mask_is_by_its_valid_values_and_not_by_being_non_zero(world: Any, digital_numbers: Any) -> None:
    delivered = digital_numbers(world.tile)
    delivered["QM"] = np.resize(np.arange(4, dtype=np.uint8), delivered["QM"].shape)
    world.eopatches["masks"] = {
        "QUALITY_MASK": {"from": "QM", "valid": [1, 2]},
        "ANY": {"from": "QM", "valid": "bool"},
    }
    folder = patch(world, outputs=delivered)
    newest_last = delivered["QM"][::-1]
    np.testing.assert_array_equal(open_array(folder, MASK, "QUALITY_MASK")[..., 0], np.isin(newest_last, [1, 2]))
    np.testing.assert_array_equal(open_array(folder, MASK, "ANY")[..., 0], newest_last != 0)


def test_a_single_valid_pixel_is_not_empty(world: Any, digital_numbers: Any) -> None:
    # One pixel in 6,240 is less than the four digits that shares are told with when tiles are larger.
    delivered = digital_numbers(world.tile)
    delivered["QM"][:] = 0
    world.tile = type(world.tile)(world.tile.name, 32633, world.tile.cell, 1.0)
    big = {name: np.zeros((1, *world.tile.shape), values.dtype) for name, values in delivered.items()}
    big["QM"][0, 700, 100] = 1
    world.deliver(outputs=big, dates=["2020-01-01"])
    outcome = world.run("tiffs", "eopatches", delivery=f"tiffs/request-1/{world.tile.name}")["eopatches"]
    assert outcome.record.numbers["valid_share_QUALITY_MASK"] == 0.0
    assert not outcome.record.empty


def test_no_valid_pixel_is_empty(world: Any, digital_numbers: Any) -> None:
    delivered = digital_numbers(world.tile) | {"QM": np.zeros((2, *world.tile.shape), np.uint8)}
    outcome = world.run("tiffs", "eopatches", delivery=world.deliver(outputs=delivered))["eopatches"]
    assert (outcome.record.empty, outcome.record.reason) == (True, "no pixel of any date is valid")


@pytest.mark.parametrize("value", [-1.0, 0.5, 65536.0, float("nan")])
def test_what_is_no_digital_number_fails_by_its_value(world: Any, digital_numbers: Any, value: float) -> None:
    delivered = digital_numbers(world.tile)
    delivered["B04"] = delivered["B04"].astype(np.float32)
    delivered["B04"][0, 129, 3] = value
    outcome = world.run("tiffs", "eopatches", delivery=world.deliver(outputs=delivered))["eopatches"]
    assert outcome.status == "failed"
    assert f"BANDS of 33UUU_3_7: value {value}" in outcome.reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_factor_that_is_no_whole_part_is_multiplied_in_float64(world: Any, digital_numbers: Any, dtype: str) -> None:
    world.eopatches["data"] = {"BANDS": {"from": ["B04", "B08"], "factor": 2.75e-05, "dtype": dtype}}
    delivered = digital_numbers(world.tile)
    found = open_array(patch(world), DATA, "BANDS")[..., 1]
    np.testing.assert_array_equal(found, (delivered["B08"][::-1].astype(np.float64) * 2.75e-05).astype(dtype))


def test_float_bands_keep_their_nan_and_negatives(world: Any, digital_numbers: Any) -> None:
    world.eopatches["data"] = {"BANDS": {"from": ["B04", "B08"], "factor": 1.0}}
    delivered = {name: values.astype(np.float32) for name, values in digital_numbers(world.tile).items()}
    delivered["B04"][:, ::7] = np.nan
    delivered["B04"][:, 1::7] *= -1.5
    found = open_array(patch(world, outputs=delivered), DATA, "BANDS")[..., 0]
    np.testing.assert_array_equal(found, delivered["B04"][::-1])


def test_a_file_that_was_damaged_after_its_delivery_is_named(world: Any) -> None:
    key = world.deliver()
    world.run("tiffs", delivery=key)
    file = world.root / key / "B08.tif"
    whole = file.read_bytes()
    file.write_bytes(whole[:-500])
    short = world.run("eopatches")["eopatches"]
    assert short.status == "failed"
    assert "is damaged" in short.reason and "_commits" in short.reason
    # As long as before, but no TIFF any more: only opening it finds out.
    file.write_bytes(bytes(16) + whole[16:])
    overwritten = world.run("eopatches")["eopatches"]
    assert overwritten.status == "failed"
    assert "B08.tif" in overwritten.reason


def memory(world: Any, dates: int = 2, bands: int = 12, masks: int = 1, width: int = 800, **rule: Any) -> int:
    """What the stage asks for, by a tile of 800 rows."""
    world.tile = Tile("33UUU_3_7", 32633, Bounds(300_000, 5_000_000, 300_000 + 10 * width, 5_008_000), 10.0)
    world.imagery["expected_dates"] = dates
    world.features = {"include_bands": True}
    world.eopatches = {
        "data": {"BANDS": {"from": [f"B{band:02}" for band in range(bands)], "factor": 0.0001}},
        "masks": {f"M{mask}": {"from": "QM", "valid": [1], **rule} for mask in range(masks)},
    }
    [stage] = world.walk().selected(["eopatches"])
    return int(stage.memory_bytes(world.tile))


@pytest.mark.parametrize(
    ("less", "more", "pixels", "bytes_a_pixel"),
    [
        ({}, {"dates": 3}, 256 * 800, 2 * 12),
        ({}, {"bands": 13}, 2 * 256 * 800, 2),
        ({}, {"width": 1600}, 2 * 256 * 800, 2 * 12),
        ({"bands": 1}, {"bands": 1, "dates": 3}, 256 * 800, 6),
        ({"bands": 1}, {"bands": 1, "masks": 2}, 2 * 256 * 800, 1),
        ({"bands": 1}, {"bands": 1, "dilate_px": 100}, 2 * 200 * 800, 5),
        ({"bands": 1, "dilate_px": 50}, {"bands": 1, "dilate_px": 100}, 2 * 100 * 800, 5),
    ],
)
def test_memory_grows_with_the_arrays_of_a_window(
    world: Any, less: dict[str, int], more: dict[str, int], pixels: int, bytes_a_pixel: int
) -> None:
    """Of bands, or of masks where those are more; asked for is not less, nor many times as much."""
    grown = memory(world, **more) - memory(world, **less)
    arrays = pixels * bytes_a_pixel
    assert arrays <= grown <= 2 * (arrays + DECODED)


def test_memory_grows_by_a_decoded_block_a_date_however_narrow_the_tile_is(world: Any) -> None:
    assert memory(world, dates=200, width=8) - memory(world, dates=199, width=8) >= DECODED
