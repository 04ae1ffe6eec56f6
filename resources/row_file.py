"""A table on disk that grows row by row: a plain `.npy`, written without holding it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """An `.npy` of (n, column) whose number of rows is known at its end only: the same bytes that `np.save` writes."""

    def __init__(self, file: BinaryIO) -> None:
        """`file` is open for writing, and empty."""
        self._file = file
        self.rows = 0
        self._kind: tuple[int, np.dtype[Any]] | None = None

    def append(self, values: NDArray[Any]) -> None:
        """Add rows (n, column). Raises ValueError if they differ from the first in columns or type."""
        kind = (values.shape[1], values.dtype)
        if self._kind is None:
            self._kind = kind
            self._header(0)
        if kind != self._kind:
            raise ValueError(f"{getattr(self._file, 'name', 'table')}: rows of {kind} after rows of {self._kind}")
        self._file.write(np.ascontiguousarray(values).data)
        self.rows += len(values)

    def close(self) -> None:
        """Say in the header how many rows there are. Numpy leaves room for that: the header keeps its length."""
        if self._kind is not None:
            self._file.seek(0)
            self._header(self.rows)

    def _header(self, rows: int) -> None:
        assert self._kind is not None
        columns, dtype = self._kind
        said = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(self._file, said)


@contextlib.contextmanager
def row_file(path: Path) -> Iterator[RowFile]:
    """A new table at `path`, whole when the block ends."""
    with path.open("wb") as file:
        table = RowFile(file)
        yield table
        table.close()
