"""EOPatches on disk: exact for us, float32 for everybody else, opened by eo-learn."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import StoreError, TileError
from resources import eopatch_files
from resources.eolearn_bridge import load_eopatch, save_eopatch
from resources.eopatch_files import (
    DATA,
    DATA_TIMELESS,
    MASK,
    ROWS,
    DigitalNumbers,
    Scaling,
    blocks,
    column_blocks,
    create_array,
    open_array,
    read_timestamps,
    row_blocks,
    to_digital_numbers,
    write_header,
)

FACTOR = 0.0001
DATES = [dt.datetime(2020, 1, 1, 10, 20, 30), dt.datetime(2020, 1, 11)]
in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30, deadline=None
)


def tile_of(height: int, width: int) -> Tile:
    return Tile("33UUU_3_7", 32633, Bounds(300_000, 5_000_000, 300_000 + 10 * width, 5_000_000 + 10 * height), 10.0)


def store_numbers(folder: Path, numbers: np.ndarray, factor: float = FACTOR, name: str = "BANDS") -> None:
    array = create_array(folder, DATA, name, numbers.shape, "float32", Scaling(factor))
    for rows in row_blocks(numbers.shape[1]):
        DigitalNumbers(array).write(rows, numbers[:, rows])


def load_numbers(folder: Path, name: str = "BANDS") -> np.ndarray:
    array = DigitalNumbers(open_array(folder, DATA, name))
    blocks = [array.read(rows) for rows in row_blocks(open_array(folder, DATA, name).shape[1])]
    return np.concatenate(blocks, axis=1)


def test_every_uint16_reads_back_exactly_and_as_float32(tmp_path: Path) -> None:
    numbers = np.arange(65536, dtype=np.uint16).reshape(1, 256, 64, 4)
    store_numbers(tmp_path, numbers)
    np.testing.assert_array_equal(load_numbers(tmp_path), numbers)
    seen = open_array(tmp_path, DATA, "BANDS")[:]
    assert seen.dtype == np.float32
    assert seen.tobytes() == (numbers * FACTOR).astype(np.float32).tobytes()


@pytest.mark.parametrize("divisor", [2, 3, 7, 10, 100, 255, 1000, 4095, 10_000, 32_767])
def test_any_whole_divisor_reads_as_the_product(tmp_path: Path, divisor: int) -> None:
    numbers = np.arange(65536, dtype=np.uint16).reshape(1, 128, 128, 4)
    store_numbers(tmp_path, numbers, 1 / divisor)
    seen = open_array(tmp_path, DATA, "BANDS")
    assert DigitalNumbers(seen).factor == 1 / divisor
    np.testing.assert_array_equal(seen[:], (numbers * (1 / divisor)).astype(np.float32))
    np.testing.assert_array_equal(load_numbers(tmp_path), numbers)


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.75e-05, 0.3, 1.5])
def test_other_factors_are_not_scaled(factor: float) -> None:
    assert Scaling(factor).divisor is None


@in_one_folder
@given(st.integers(0, 3), st.integers(1, 300), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_any_shape_comes_back(
    tmp_path_factory: pytest.TempPathFactory, t: int, y: int, x: int, b: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    numbers = np.random.default_rng(seed).integers(0, 65536, (t, y, x, b)).astype(np.uint16)
    store_numbers(folder, numbers)
    np.testing.assert_array_equal(load_numbers(folder), numbers)
    np.testing.assert_array_equal(open_array(folder, DATA, "BANDS")[:], (numbers * FACTOR).astype(np.float32))


@in_one_folder
@given(arrays(np.float32, (2, 130, 2, 1), elements=st.floats(width=32)))
def test_float32_is_kept_bit_by_bit_with_its_nan(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("float")
    array = create_array(folder, DATA, "FEATURES", values.shape, "float32")
    for rows in row_blocks(130):
        array[:, rows] = values[:, rows]
    stored = open_array(folder, DATA, "FEATURES")
    assert stored[:].tobytes() == values.tobytes()
    assert not DigitalNumbers(stored).scaled
    assert DigitalNumbers(stored).factor == 1.0
    assert DigitalNumbers(stored).read(slice(128, 130)).tobytes() == values[:, 128:130].tobytes()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array([1.0, -1.0]), "-1.0"),
        (np.array([-1], np.int8), "-1"),
        (np.array([0, 65536], np.int32), "65536"),
        (np.array([70000.0], np.float32), "70000.0"),
        (np.array([0.5], np.float32), "0.5"),
        (np.array([np.nan]), "nan"),
        (np.array([np.inf]), "inf"),
        (np.array([1 << 40], np.int64), str(1 << 40)),
        (np.array([(1 << 64) - 1], np.uint64), str((1 << 64) - 1)),
    ],
)
def test_what_the_filter_would_wrap_is_refused_by_its_value(values: np.ndarray, told: str) -> None:
    with pytest.raises(TileError, match=f"BANDS of t: value {told} .*0..65535.*factor"):
        to_digital_numbers(values, "BANDS of t")


@given(
    arrays(st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64]), 8, elements=st.integers(0, 255))
)
def test_whole_numbers_of_any_type_are_taken(values: np.ndarray) -> None:
    found = to_digital_numbers(values, "BANDS")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("rows", [slice(0, 32), slice(32, 64), slice(64, 192), slice(0, 128), slice(192, 256)])
def test_part_of_a_stored_block_is_refused(tmp_path: Path, rows: slice) -> None:
    store_numbers(tmp_path, np.ones((1, 200, 2, 1), np.uint16))
    with pytest.raises(TileError, match=f"rows {rows.start}-{rows.stop} are not one stored block"):
        DigitalNumbers(open_array(tmp_path, DATA, "BANDS")).read(rows)


def test_a_block_of_another_shape_is_refused(tmp_path: Path) -> None:
    array = DigitalNumbers(create_array(tmp_path, DATA, "BANDS", (2, 64, 3, 1), "float32", Scaling(FACTOR)))
    for shape in ((1, 64, 3, 1), (2, 1, 3, 1), (2, 64, 1, 1)):
        with pytest.raises(TileError, match="does not fill rows"):
            array.write(slice(0, 64), np.ones(shape, np.uint16))


def test_chunks_of_128_rows_as_older_versions_stored_them_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).integers(0, 9999, (2, 200, 3, 1)).astype(np.uint16)
    monkeypatch.setattr(eopatch_files, "ROWS", 128)
    store_numbers(tmp_path, values)
    monkeypatch.undo()
    array = open_array(tmp_path, DATA, "BANDS")
    assert array.chunks[1] == 128
    for rows in row_blocks(200):
        np.testing.assert_array_equal(DigitalNumbers(array).read(rows), values[:, rows])


@given(st.integers(0, 2000), st.integers(1, 900))
def test_blocks_of_columns_cover_all_columns_once(dates: int, width: int) -> None:
    found = column_blocks(dates, width)
    assert [column for block in found for column in range(block.start, block.stop)] == list(range(width))
    widest = max(block.stop - block.start for block in found)
    assert widest == width if dates <= 40 else dates * widest <= max(dates, 160 * 256)


def test_up_to_forty_dates_are_stored_as_wide_as_the_tile(tmp_path: Path) -> None:
    def chunks(*shape: int) -> tuple[int, ...]:
        found: tuple[int, ...] = create_array(tmp_path, DATA, f"A{shape}", shape, "float32").chunks
        return found

    assert chunks(36, 854, 854, 12) == (36, 64, 854, 12)
    assert chunks(40, 854, 2048, 12) == (40, 64, 2048, 12)
    assert chunks(41, 854, 854, 12) == (41, 64, 256, 12)
    assert chunks(160, 854, 854, 12) == (160, 64, 256, 12)
    assert chunks(161, 854, 854, 12) == (161, 64, 128, 12)
    assert chunks(200, 854, 100, 12) == (200, 64, 100, 12)
    assert chunks(854, 3000, 5) == (64, 3000, 5)
    assert chunks(0, 1, 1, 1) == (1, 1, 1, 1)


@in_one_folder
@given(st.sampled_from([2, 41, 161]), st.integers(1, 130), st.integers(1, 600), st.data())
def test_any_columns_are_read_out_of_any_blocks(
    tmp_path_factory: pytest.TempPathFactory, dates: int, height: int, width: int, data: st.DataObject
) -> None:
    numbers = np.random.default_rng(width).integers(0, 65536, (dates, height, width, 1)).astype(np.uint16)
    folder = tmp_path_factory.mktemp("columns")
    array = create_array(folder, DATA, "BANDS", numbers.shape, "float32", Scaling(FACTOR))
    for rows, columns in blocks(numbers.shape):
        DigitalNumbers(array).write(rows, numbers[:, rows, columns], columns)
    first = data.draw(st.integers(0, width - 1))
    columns = slice(first, data.draw(st.integers(first + 1, width)))
    rows = data.draw(st.sampled_from(row_blocks(height)))
    stored = DigitalNumbers(open_array(folder, DATA, "BANDS"))
    np.testing.assert_array_equal(stored.read(rows, columns), numbers[:, rows, columns])
    np.testing.assert_array_equal(stored.read(rows), numbers[:, rows])


def test_columns_are_read_out_of_blocks_as_wide_as_the_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As older versions stored them, however many dates there were."""
    numbers = np.random.default_rng(1).integers(0, 9999, (50, 70, 600, 1)).astype(np.uint16)
    monkeypatch.setattr(eopatch_files, "WHOLE_WIDTH_DATES", 1000)
    store_numbers(tmp_path, numbers)
    monkeypatch.undo()
    array = open_array(tmp_path, DATA, "BANDS")
    assert array.chunks == (50, 64, 600, 1)
    for rows, columns in blocks(array.shape):
        np.testing.assert_array_equal(DigitalNumbers(array).read(rows, columns), numbers[:, rows, columns])


@pytest.mark.parametrize("columns", [slice(0, 100), slice(256, 400), slice(10, 266), None])
def test_part_of_the_columns_of_a_block_is_not_stored(tmp_path: Path, columns: slice | None) -> None:
    array = DigitalNumbers(create_array(tmp_path, DATA, "BANDS", (41, 64, 500, 1), "float32", Scaling(FACTOR)))
    with pytest.raises(TileError, match=r"columns .* are not one stored block of 256 columns"):
        array.write(slice(0, 64), np.ones((41, 64, 500, 1), np.uint16), columns)


def test_a_block_that_was_lost_is_told_and_not_read_as_zero(tmp_path: Path) -> None:
    store_numbers(tmp_path, np.ones((1, 200, 2, 1), np.uint16))
    (tmp_path / "data/BANDS.zarr/0.1.0.0").unlink()
    with pytest.raises(StoreError, match=r"BANDS\.zarr/0\.1\.0\.0 is missing"):
        load_numbers(tmp_path)


def test_an_array_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no data/BANDS"):
        open_array(tmp_path, DATA, "BANDS")


@given(st.integers(1, 2000))
def test_blocks_of_rows_cover_all_rows_once(height: int) -> None:
    rows = [row for block in row_blocks(height) for row in range(block.start, block.stop)]
    assert rows == list(range(height))
    assert all(block.start % ROWS == 0 for block in row_blocks(height))


def test_eo_learn_opens_what_we_wrote(tmp_path: Path) -> None:
    tile = tile_of(201, 7)
    numbers = np.random.default_rng(1).integers(0, 65536, (2, 201, 7, 3)).astype(np.uint16)
    write_header(tmp_path, tile, DATES)
    store_numbers(tmp_path, numbers)
    mask = create_array(tmp_path, MASK, "QUALITY_MASK", (2, 201, 7, 1), "bool")
    mask[:] = numbers[..., :1] > 5000
    labels = create_array(tmp_path, DATA_TIMELESS, "GHSL", (201, 7, 1), "int16")
    labels[:] = -9999
    (tmp_path / "quicklook.png").write_bytes(b"not an array")
    patch = load_eopatch(tmp_path)
    np.testing.assert_array_equal(patch.data["BANDS"], (numbers * FACTOR).astype(np.float32))
    np.testing.assert_array_equal(patch.mask["QUALITY_MASK"], numbers[..., :1] > 5000)
    assert patch.data_timeless["GHSL"].dtype == np.int16
    assert patch.timestamps == DATES
    assert (patch.bbox.crs.epsg, tuple(patch.bbox)) == (32633, tuple(tile.bounds))


def test_eo_learn_opens_a_tile_without_dates(tmp_path: Path) -> None:
    write_header(tmp_path, tile_of(5, 4), [])
    store_numbers(tmp_path, np.zeros((0, 5, 4, 2), np.uint16))
    patch = load_eopatch(tmp_path)
    assert patch.data["BANDS"].shape == (0, 5, 4, 2)
    assert patch.timestamps == []


def test_eo_learn_opens_an_empty_tile(tmp_path: Path) -> None:
    write_header(tmp_path, tile_of(5, 4), [])
    assert load_eopatch(tmp_path).get_features() == []


def test_we_open_what_eo_learn_wrote(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    write_header(tmp_path / "ours", tile_of(5, 4), DATES)
    patch = load_eopatch(tmp_path / "ours")
    patch.data["MINE"] = np.random.default_rng(0).random((2, 5, 4, 1)).astype(np.float32)
    save_eopatch(patch, tmp_path / "theirs")
    np.testing.assert_array_equal(open_array(tmp_path / "theirs", DATA, "MINE")[:], patch.data["MINE"])
    assert read_timestamps(tmp_path / "theirs") == DATES


def test_what_is_no_eopatch_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="returns an EOPatch or None, not a dict"):
        save_eopatch({}, tmp_path)


def test_times_are_kept_to_the_microsecond_in_utc(tmp_path: Path) -> None:
    time = dt.datetime(2020, 1, 1, 10, 20, 30, 123456)
    write_header(tmp_path, tile_of(1, 1), [time])
    assert read_timestamps(tmp_path) == [time]


def test_an_array_stored_with_pickle_is_never_read(tmp_path: Path) -> None:
    zarr.save_array(
        zarr.DirectoryStore(str(tmp_path / "data" / "BANDS.zarr")), np.zeros((1, 2, 2, 1)), filters=[numcodecs.Pickle()]
    )
    with pytest.raises(StoreError, match="is stored with pickle, which is never read; write it with another codec"):
        open_array(tmp_path, DATA, "BANDS")


WRITER = """
import sys
from pathlib import Path
import numpy as np
from resources.eopatch_files import DATA, ROWS, create_array
values = np.random.default_rng(3).normal(size=(2, ROWS, 2048, 4)).astype(np.float32)
for number in range(6):
    create_array(Path(sys.argv[1]) / str(number), DATA, "FEATURES", values.shape, "float32")[:] = values
"""


def test_equal_arrays_are_equal_bytes(tmp_path: Path) -> None:
    """What is made anew has the digest that it had, whichever threads were faster: nothing behind it turns stale."""
    # In a process of its own: Blosc has no threads in one that was forked, as the tests' may be.
    writer = [sys.executable, "-W", "ignore", "-c", WRITER, str(tmp_path)]
    subprocess.run(writer, check=True, cwd=Path(__file__).parents[3])
    chunks = {(tmp_path / f"{number}/data/FEATURES.zarr/0.0.0.0").read_bytes() for number in range(6)}
    assert len(chunks) == 1


READER = """
import os, sys
from pathlib import Path
from resources.eopatch_files import DATA, open_array
before = len(os.listdir("/proc/self/task"))
open_array(Path(sys.argv[1]), DATA, "FEATURES")[:]
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_starts_no_thread(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=(2, ROWS, 2048, 4)).astype(np.float32)
    create_array(tmp_path, DATA, "FEATURES", values.shape, "float32")[:] = values
    reader = [sys.executable, "-W", "ignore", "-c", READER, str(tmp_path)]
    said = subprocess.run(reader, check=True, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)
    assert said.stdout.split() == ["0"]
