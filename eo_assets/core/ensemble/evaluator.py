"""The exact evaluator: rows of a table, or chosen pixels of a block of features, to what LightGBM would predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.compiled import run_compiled
from eo_assets.core.ensemble.binning import STEPS, Grids, bin_rows, grids_of
from eo_assets.core.ensemble.model_text import parse
from eo_assets.core.ensemble.patches import in_patches
from eo_assets.core.ensemble.tables import Tables, tables_of

if TYPE_CHECKING:
    import lightgbm

GROUP = 64
"""Rows that go through a tree at once; an 8 x 8 patch of pixels."""

BINS_BYTES = 3 << 19
"""Bins of the rows that walk together: about what a core's own cache holds. More rows share what a node costs by
itself: of 180 columns 128 groups are a tenth faster than 64."""

LEAST, MOST = 64, 256
"""Groups that walk together, whatever their bins take."""

CHUNK_BYTES = 16 << 10
"""Of the values, what is read over all columns before the next rows are."""


class Evaluator:
    """A model's trees. Equal to `Booster.predict(..., num_threads=1)`, bit for bit; see `verification.py`."""

    def __init__(self, model: lightgbm.Booster | str) -> None:
        """Of a model, or of its text. Raises NotExact, whose text is the reason, for one that it can't evaluate."""
        self.tables: Tables = tables_of(parse(model if isinstance(model, str) else model.model_to_string()))
        self._grids: dict[np.dtype[Any], Grids] = {}
        columns = max(1, len(self.tables.columns.features))
        self.rows_at_once = GROUP * min(MOST, max(LEAST, BINS_BYTES // (GROUP * columns)))

    def predict(self, table: NDArray[Any]) -> NDArray[np.float64]:
        """Rows (n, column) of float32 or float64: (n,), or (n, class) of a model with several outputs."""
        table = np.ascontiguousarray(table)
        columns = table.shape[1]
        self._check(columns)
        places = np.arange(len(table), dtype=np.int64) * columns
        return self._predict(table.reshape(-1), places, self.tables.columns.features, columns)

    def predict_pixels(self, block: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Chosen pixels (y, x) of features (time, y, x, feature), whose columns are (time, feature): as `predict`.

        In the order of `block[:, chosen]`. They go through the trees by patches of 8 x 8 neighbours.
        """
        block = np.ascontiguousarray(block)
        dates, height, width, features = block.shape
        self._check(dates * features)
        order = in_patches(chosen)
        date, feature = np.divmod(self.tables.columns.features, features)
        offsets = date * (height * width * features) + feature
        found = self._predict(block.reshape(-1), order * features, offsets, features)
        ranks = np.cumsum(chosen.reshape(-1)) - 1
        result = np.empty_like(found)
        result[ranks[order]] = found
        return result

    def bins(self, table: NDArray[Any]) -> NDArray[np.uint8]:
        """The bins (column of the tables, row) of rows (n, column): for verification."""
        bins = np.zeros((len(self.tables.columns.features), len(table)), np.uint8)
        places = np.arange(len(table), dtype=np.int64) * table.shape[1]
        self._bin(np.ascontiguousarray(table).reshape(-1), places, self.tables.columns.features, GROUP, bins)
        return bins

    def _check(self, columns: int) -> None:
        if columns != self.tables.ensemble.columns:
            raise ValueError(f"{columns} columns are not the model's {self.tables.ensemble.columns}")

    def _predict(
        self, values: NDArray[Any], places: NDArray[np.int64], offsets: NDArray[np.int64], width: int
    ) -> NDArray[np.float64]:
        """Of row r and column c the value is `values[places[r] + offsets[c]]`; `width` values of a row lie together."""
        chunk = max(GROUP, CHUNK_BYTES // (width * values.itemsize) // GROUP * GROUP)
        outputs, output = self.tables.ensemble.outputs, self.tables.ensemble.output
        at_once = self.rows_at_once
        bins, scores = np.zeros((max(1, len(offsets)), at_once), np.uint8), np.empty((outputs, at_once))
        result = np.empty((len(places), outputs))
        for first in range(0, len(places), at_once):
            rows = places[first : first + at_once]
            self._bin(values, rows, offsets, chunk, bins)
            self._walk(bins, -(-len(rows) // GROUP), scores)
            if output.loop is not None:
                run_compiled(output.loop, scores, output.sigmoid)
            result[first : first + len(rows)] = scores[:, : len(rows)].T
        return result[:, 0] if outputs == 1 else result

    def _bin(
        self,
        values: NDArray[Any],
        places: NDArray[np.int64],
        offsets: NDArray[np.int64],
        chunk: int,
        bins: NDArray[np.uint8],
    ) -> None:
        columns, dtype = self.tables.columns, values.dtype
        if dtype not in self._grids:
            self._grids[dtype] = grids_of(columns, dtype)
        grids = self._grids[dtype]
        of_columns = (grids.cuts, grids.lowest, grids.scales, grids.below, grids.most, columns.nan_bins)
        run_compiled(bin_rows, values, places, offsets, chunk, dtype.type(STEPS), *of_columns, bins)

    def _walk(self, bins: NDArray[np.uint8], groups: int, scores: NDArray[np.float64]) -> None:
        from eo_assets.core.ensemble.walk import add_trees

        nodes = self.tables.nodes
        of_nodes = (nodes.columns, nodes.cuts, nodes.left, nodes.right, nodes.values, nodes.roots, nodes.leaves)
        run_compiled(add_trees, bins, groups, *of_nodes, scores)
