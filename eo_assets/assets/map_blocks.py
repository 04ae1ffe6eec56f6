"""The rows of a zone's map: its tiles' predictions mosaicked, without pixels that were observed too rarely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eo_assets.assets.zone_tiles import ZoneTiles
from eo_assets.core.encode import finish, holds
from eo_assets.core.mosaic import Lattice, mosaic_rows
from eo_assets.core.tile import Tile
from eo_assets.core.zones import foreign_claims
from eo_assets.project import LoadedProject
from eo_assets.stages.features import OBSERVATIONS
from resources.eopatch_files import DATA_TIMELESS, MASK_TIMELESS, open_array
from resources.tile_store import TileStore

BLOCK_ROWS = 512
CAST_COLUMNS = 8192
OPEN_ARRAYS = 64
"""Arrays that are kept open: blocks go from north to south, so a tile is needed for a few of them only.

The memory of writing a map is a block of `BLOCK_ROWS` rows in the type of the predictions and in that of the map (with
`min_observations` of their counts too), one tile's rows, and GDAL's cache: it grows with the width of the zone (at 10 m
up to 67,000 pixels, 135 MB of float32), not with the number of its tiles or rows."""


class MapBlocks:
    """Iterates over (rows, values) from north to south, once. `numbers` tells afterwards what was taken out."""

    def __init__(
        self, loaded: LoadedProject, store: TileStore, zone: ZoneTiles, lattice: Lattice, everything: Sequence[Tile]
    ) -> None:
        self._maps, self._predictions = loaded.project.maps, loaded.project.predictions
        self._store, self._zone, self._lattice = store, zone, lattice
        self._claims = foreign_claims(lattice, everything)
        self._array = lru_cache(maxsize=OPEN_ARRAYS)(self._opened)
        self._taken_out = 0

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.generic]]]:
        predictions = self._predictions
        for rows in self._lattice.row_blocks(BLOCK_ROWS):
            block = self._mosaic(rows, DATA_TIMELESS, predictions.name, predictions.dtype, predictions.nodata)
            if self._maps.min_observations is not None:
                self._take_out(rows, block, self._maps.min_observations)
            yield rows, self._finished(block)

    @property
    def numbers(self) -> dict[str, int]:
        """How many pixels of the map are nodata for want of observations."""
        least = self._maps.min_observations
        return {} if least is None else {"min_observations": least, "pixels_of_few_observations": self._taken_out}

    def _take_out(self, rows: slice, block: NDArray[np.generic], least: int) -> None:
        """Nodata where a prediction rests on fewer observations than the map asks for."""
        counts = self._mosaic(rows, MASK_TIMELESS, OBSERVATIONS, np.uint16, 0)
        few = (counts < least) & ~holds(block, self._predictions.nodata)
        block[few] = self._predictions.nodata
        self._taken_out += int(few.sum())

    def _mosaic(self, rows: slice, kind: str, name: str, dtype: DTypeLike, nodata: float) -> NDArray[Any]:
        def read(tile: Tile, tile_rows: slice) -> NDArray[np.generic] | None:
            record = self._zone.records.get(tile.name)
            if record is None or record.empty:
                return None
            return np.asarray(self._array(tile.name, kind, name)[tile_rows, :, 0])

        return mosaic_rows(self._lattice, self._zone.tiles, rows, read, dtype=dtype, nodata=nodata, claims=self._claims)

    def _opened(self, tile: str, kind: str, name: str) -> Any:
        return open_array(self._store.blocks(self._zone.records[tile]), kind, name)

    def _finished(self, block: NDArray[np.generic]) -> NDArray[np.generic]:
        """A block as the map's type, some columns at a time, so that what a cast takes does not grow with the zone."""
        settings = self._maps
        result = np.empty(block.shape, dtype=settings.dtype)
        for start in range(0, block.shape[1], CAST_COLUMNS):
            columns = slice(start, start + CAST_COLUMNS)
            result[:, columns] = finish(
                block[:, columns],
                rounding=settings.rounding,
                dtype=settings.dtype,
                source_nodata=self._predictions.nodata,
                nodata=settings.nodata,
            )
        return result
