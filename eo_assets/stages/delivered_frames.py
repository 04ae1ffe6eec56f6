"""The tiffs of a delivery, read window by window with their dates ascending. Reading is all that happens here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from eo_assets.errors import TileError
from eo_assets.stages.tiffs import tiff_path

Frames = NDArray[Any]


class DeliveredFrames:
    """One tiff an output, its bands the dates.

    Only the tiff that was read last is open. Services store the dates of a pixel together: each open tiff holds its
    last block of pixels with all their dates, twice, which would grow with the dates times the number of tiffs.
    """

    rows_at_once: ClassVar[int] = 256
    """The height of a stored block of pixels as services write them: lower windows would decode each block again."""

    def __init__(self, folder: Path, order: Sequence[int]) -> None:
        """`order` are the positions of the dates in the tiffs."""
        self._folder, self._bands = folder, [frame + 1 for frame in order]
        self._name, self._tiff = "", None

    def __enter__(self) -> DeliveredFrames:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def dates(self) -> int:
        """How many dates each read has."""
        return len(self._bands)

    def stack(self, outputs: Sequence[str], rows: slice, columns: slice) -> Frames:
        """(time, rows, columns, band) of several tiffs, in the type that holds them all; one band's copy at a time."""
        first = self.read(outputs[0], rows, columns)
        block = np.empty((*first.shape, len(outputs)), dtype=first.dtype)
        for band, output in enumerate(outputs):
            values = self.read(output, rows, columns) if band else first
            if values.dtype != block.dtype:
                block = block.astype(np.result_type(block, values), copy=False)
            block[..., band] = values
        return block

    def read(self, output: str, rows: slice, columns: slice) -> Frames:
        """(time, rows, columns) in the tiff's own type."""
        tiff = self._opened(output)
        window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        try:
            return np.asarray(tiff.read(self._bands, window=window))
        except rasterio.errors.RasterioIOError as error:
            raise TileError(
                f"{tiff.name}: rows {rows.start}-{rows.stop} can't be read: {error}; it was damaged after its "
                "delivery: delete the tile's record under _commits in the folder of the tiffs to have it delivered anew"
            ) from None

    def _opened(self, output: str) -> Any:
        if self._tiff is None or output != self._name:
            self._close()
            self._name, self._tiff = output, rasterio.open(tiff_path(self._folder, output), driver="GTiff")
        return self._tiff

    def _close(self) -> None:
        if self._tiff is not None:
            self._tiff.close()
            self._tiff = None
