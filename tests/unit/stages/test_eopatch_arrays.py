"""Arrays of an EOPatch, window by window: what comes out is what whole arrays would give."""

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import BandStack, EOPatches, ValidMask
from eo_assets.stages import eopatch_arrays
from eo_assets.stages.eopatch_arrays import held_by_bands, held_by_masks, windows, write_bands, write_masks
from resources.eopatch_files import DATA, MASK, ROWS, DigitalNumbers, blocks, open_array

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
BANDS = BandStack.model_validate({"from": ["B04", "B08"], "factor": 0.0001})


class InMemory:
    """Frames of arrays (time, y, x), by output, that keep what was asked of them."""

    def __init__(self, rows_at_once: int = ROWS, **outputs: NDArray[Any]) -> None:
        self.rows_at_once, self.outputs = rows_at_once, outputs
        self.dates = len(next(iter(outputs.values())))
        self.windows: list[tuple[slice, slice]] = []

    def read(self, output: str, rows: slice, columns: slice) -> NDArray[Any]:
        self.windows.append((rows, columns))
        return self.outputs[output][:, rows, columns]

    def stack(self, outputs: Sequence[str], rows: slice, columns: slice) -> NDArray[Any]:
        return np.stack([self.read(output, rows, columns) for output in outputs], axis=-1)


class Copied(InMemory):
    """Frames that take memory of their own, as those of a tiff do."""

    def read(self, output: str, rows: slice, columns: slice) -> NDArray[Any]:
        return super().read(output, rows, columns).copy()


def tile_of(height: int, width: int) -> Tile:
    return Tile("33UUU_3_7", 32633, Bounds(300_000, 5_000_000, 300_000 + 10 * width, 5_000_000 + 10 * height), 10.0)


def masks_of(said: Mapping[str, Any]) -> Mapping[str, ValidMask]:
    return EOPatches.model_validate({"data": {"BANDS": {"from": ["B04"]}}, "masks": said}).masks


def made(folder: Path, said: Mapping[str, Any], frames: InMemory) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """The masks as stored, (time, y, x), and their valid shares."""
    masks = masks_of(said)
    tile = tile_of(*next(iter(frames.outputs.values())).shape[1:])
    shares = write_masks(folder, masks, dict.fromkeys(masks, frames), tile)
    return {name: open_array(folder, MASK, name)[..., 0] for name in masks}, shares


def disc(radius: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius)


@in_one_folder
@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 100), st.integers(0, 999), st.sampled_from([64, 128]))
def test_growing_block_by_block_is_growing_at_once(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, radius: int, seed: int, rows: int
) -> None:
    random = np.random.default_rng(seed)
    codes = random.choice(
        np.array([0, 1, 2, 3, 4, 255], np.uint8), (2, height, width), p=[0.9, 0.05, 0, 0.01, 0.02, 0.02]
    )
    said = {"NO_CLOUD": {"from": "FMASK", "classes": "fmask", "invalid": ["cloud", "snow"], "dilate_px": radius}}
    found, shares = made(tmp_path_factory.mktemp("grown"), said, InMemory(rows, FMASK=codes))
    grown = binary_dilation(np.isin(codes, [3, 4]), disc(radius)[None])
    np.testing.assert_array_equal(found["NO_CLOUD"], ~grown & (codes != 255))
    assert shares["NO_CLOUD"] == found["NO_CLOUD"].mean()


def test_masks_join_as_eo_grow_joins_valid_and_cloud_masks(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    valid = random.integers(0, 2, (3, 150, 9)).astype(np.uint8)
    clouds = random.choice(np.array([0, 1, 255], np.uint8), valid.shape)
    said = {
        "BOTH": {"all_of": ["VALID_DATA", "CLEAR"]},
        "VALID_DATA": {"from": "VALID", "valid": "bool"},
        "CLEAR": {"from": "CLM", "classes": "clm", "invalid": ["cloud"]},
    }
    found, shares = made(tmp_path, said, InMemory(VALID=valid, CLM=clouds))
    np.testing.assert_array_equal(found["BOTH"], valid.astype(bool) & (clouds == 0))
    assert shares["BOTH"] == found["BOTH"].mean()


def test_what_is_joined_may_join_others_and_is_made_once(tmp_path: Path) -> None:
    scl = np.random.default_rng(2).integers(0, 12, (2, 70, 5)).astype(np.uint8)
    clp = np.random.default_rng(3).integers(0, 256, (2, 70, 5)).astype(np.uint8)
    said = {
        "ALL": {"all_of": ["LAND", "CLEAR", "SEEN"]},
        "LAND": {"all_of": ["SEEN", "DRY"]},
        "SEEN": {"from": "SCL", "classes": "scl", "invalid": [1]},
        "DRY": {"from": "SCL", "classes": "scl", "invalid": ["water"]},
        "CLEAR": {"from": "CLP", "below": 102},
    }
    frames = InMemory(SCL=scl, CLP=clp)
    found, _ = made(tmp_path, said, frames)
    np.testing.assert_array_equal(found["ALL"], ~np.isin(scl, [0, 1, 6]) & (clp < 102))
    assert len(frames.windows) == 3 * 2


def test_a_frame_outside_the_swath_is_clear_by_its_probability_and_invalid_when_joined(tmp_path: Path) -> None:
    # Where nothing was seen the service gives 0 as probability, and 255 as CLM.
    clp, clm = np.zeros((2, 66, 4), np.uint8), np.zeros((2, 66, 4), np.uint8)
    clm[1] = 255
    said = {
        "CLEAR": {"from": "CLP", "below": 102},
        "SEEN": {"from": "CLM", "classes": "clm", "invalid": ["cloud"]},
        "QUALITY_MASK": {"all_of": ["CLEAR", "SEEN"]},
    }
    found, shares = made(tmp_path, said, InMemory(CLP=clp, CLM=clm))
    assert shares == {"CLEAR": 1.0, "SEEN": 0.5, "QUALITY_MASK": 0.5}
    assert not found["QUALITY_MASK"][1].any()


@pytest.mark.parametrize(("dates", "width"), [(40, 600), (41, 600), (41, 256), (161, 200)])
def test_bands_are_stored_whole_however_many_dates_there_are(tmp_path: Path, dates: int, width: int) -> None:
    random = np.random.default_rng(dates)
    numbers = random.integers(0, 65536, (dates, 70, width, 2)).astype(np.uint16)
    frames = InMemory(256, B04=numbers[..., 0], B08=numbers[..., 1])
    write_bands(tmp_path, "BANDS", BANDS, frames, tile_of(70, width))
    stored = open_array(tmp_path, DATA, "BANDS")
    found = np.zeros_like(numbers)
    for rows, columns in blocks(stored.shape):
        found[:, rows, columns] = DigitalNumbers(stored).read(rows, columns)
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_array_equal(stored[:, 60:70, ::7], (numbers[:, 60:70, ::7] * 0.0001).astype(np.float32))
    np.testing.assert_array_equal(DigitalNumbers(stored).read(slice(64, 70)), numbers[:, 64:])


def test_values_and_masks_of_many_dates_are_stored_whole(tmp_path: Path) -> None:
    numbers = np.random.default_rng(5).integers(0, 9999, (45, 100, 300)).astype(np.uint16)
    frames = InMemory(64, B04=numbers, B08=numbers[::-1], QM=(numbers % 3).astype(np.uint8))
    bands = BandStack.model_validate({"from": ["B04", "B08"], "factor": 0.3, "dtype": "float64"})
    write_bands(tmp_path, "BANDS", bands, frames, tile_of(100, 300))
    np.testing.assert_array_equal(open_array(tmp_path, DATA, "BANDS")[..., 1], numbers[::-1] * 0.3)
    found, _ = made(tmp_path, {"QM": {"from": "QM", "classes": "qm", "valid": ["ok", "raised"]}}, frames)
    np.testing.assert_array_equal(found["QM"], numbers % 3 > 0)


@given(st.integers(1, 3000), st.integers(0, 1 << 24), st.sampled_from([64, 256]))
def test_windows_hold_whole_blocks_and_cover_every_row_once(height: int, bytes_a_row: int, at_once: int) -> None:
    found = list(windows(height, bytes_a_row, at_once))
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(height))
    assert all(rows.start % ROWS == 0 for rows in found)
    tall = max(rows.stop - rows.start for rows in found)
    assert tall <= ROWS or tall * bytes_a_row <= eopatch_arrays.WINDOW


@pytest.mark.parametrize("dates", [1, 36, 40, 41, 72, 144, 160, 161, 300, 1000])
def test_what_is_held_does_not_grow_with_the_dates(dates: int) -> None:
    bands = BandStack.model_validate({"from": [f"B{band:02}" for band in range(12)], "factor": 0.0001})
    assert held_by_bands(dates, (854, 854), bands) < 400 << 20
    if dates <= 300:
        assert held_by_masks(dates, (854, 854), masks_of({"A": {"from": "QM", "valid": [1]}})) < 256 << 20


def test_what_masks_hold_grows_with_the_rows_that_dilation_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eopatch_arrays, "WINDOW", 1)  # one stored block of rows at a time
    frames = Copied(FMASK=np.random.default_rng(7).integers(0, 5, (8, 300, 250)).astype(np.uint8))
    held, taken = [], []
    for radius in (None, 5, 100):  # the first one takes what is loaded by and by as well
        masks = masks_of({"A": {"from": "FMASK", "classes": "fmask", "invalid": ["cloud"], "dilate_px": radius}})
        held.append(held_by_masks(8, (300, 250), masks))
        taken.append(most_taken_by(partial(write, tmp_path / f"{radius}", masks, frames)))
    said, found = held[2] - held[1], taken[2] - taken[1]
    assert said / 2 < found <= said


def write(folder: Path, masks: Mapping[str, ValidMask], frames: InMemory) -> None:
    write_masks(folder, masks, dict.fromkeys(masks, frames), tile_of(300, 250))


def most_taken_by(work: Callable[[], None]) -> int:
    """Bytes that are held at the worst moment."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most
