"""A table that grows row by row is the very file that `np.save` writes of all rows."""

from pathlib import Path

import numpy as np
import pytest

from resources.row_file import row_file


@pytest.mark.parametrize("rows", [[0], [1], [3, 0, 5], [100_000, 1]])
def test_the_bytes_are_those_of_one_save(tmp_path: Path, rows: list[int]) -> None:
    parts = [np.random.default_rng(count).random((count, 3), np.float32) for count in rows]
    with row_file(tmp_path / "grown.npy") as table:
        for part in parts:
            table.append(part)
    np.save(tmp_path / "saved.npy", np.concatenate(parts))
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    assert table.rows == sum(rows)


def test_rows_that_are_not_contiguous(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    with row_file(tmp_path / "t.npy") as table:
        table.append(values[::2, ::2])
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), values[::2, ::2])


def test_other_columns_or_types_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"t\.npy: rows of \(3, .*\) after rows of \(2,"),
        row_file(tmp_path / "t.npy") as table,
    ):
        table.append(np.zeros((1, 2), np.float32))
        table.append(np.zeros((1, 3), np.float32))
