"""Are the outputs of both sides equal? Array by array, bit for bit, of all tiles; maps pixel for pixel.

Where a pixel was not seen, we write nothing (NaN) and eo-grow's example takes the zeros of the delivery for
reflectance. `features.mask: null` makes us do the same: the comparison of everything runs over a project with that
switch. The measured project has its mask; of it are compared the pixels that were seen.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_assets.core.tile import Tile
from eo_assets.definitions import open_project
from eo_assets.stages.build import tile_store
from eo_assets.stages.samples import _read_pixels
from resources.eopatch_files import DATA, DATA_TIMELESS, MASK, open_array, row_blocks
from tests.benchmarks.peer import ours as our
from tests.benchmarks.peer.eogrow import PREDICTION, EoGrow
from tests.benchmarks.peer.given_model import retrained
from tests.benchmarks.peer.ours import Ours
from tests.benchmarks.peer.scene import BANDS, INDICES, REFERENCE, scene_tiles

Same = Iterator[NDArray[np.bool_]]
SWITCH = "features.mask: null"


@dataclass(frozen=True, slots=True)
class Equality:
    """How many values (pixels of maps, lines of a model) were compared, and how many of them are equal.

    `must`: is anything else than equality wrong?
    """

    what: str
    compared: int
    equal: int
    note: str = ""
    must: bool = True

    @property
    def holds(self) -> bool:
        """Is everything equal, and was there anything?"""
        return 0 < self.compared == self.equal


class Outputs:
    """Arrays of our side by stage and tile."""

    def __init__(self, side: Ours) -> None:
        self._store = tile_store(open_project(str(side.predicting)))

    def folder(self, stage: str, key: str) -> Path:
        """Where the live output lies."""
        return Path(self._store.live_place(stage, key))

    def array(self, stage: str, tile: Tile, kind: str, name: str) -> Any:
        """An array of it, to be read by blocks."""
        return open_array(self.folder(stage, tile.name), kind, name)


def compare(eogrow: EoGrow, measured: Ours, switched: Ours, trained: Path, cpus: int) -> list[Equality]:
    """Everything, `switched` being the project without a mask. Of projects in buckets the maps, which need all else."""
    if switched.home.bucket:
        return [_counted("maps", _maps(eogrow, switched), SWITCH)]
    compared, equal = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    with ProcessPoolExecutor(cpus, mp_context=get_context("spawn")) as pool:
        for found in pool.map(partial(_of_tile, eogrow, measured, switched), scene_tiles(eogrow.scene)):
            for one in found:
                compared[one.what, one.note] += one.compared
                equal[one.what, one.note] += one.equal
    of_tiles = [Equality(what, compared[what, note], equal[what, note], note) for what, note in compared]
    maps = _counted("maps", _maps(eogrow, switched), SWITCH)
    return [*of_tiles, maps, _model(trained, dict(eogrow.parameters))]


def _of_tile(eogrow: EoGrow, measured: Ours, switched: Ours, tile: Tile) -> list[Equality]:
    """One tile's arrays; each of eo-grow's is unpacked once."""
    theirs = partial(_theirs, eogrow, tile)
    with_mask, without = partial(Outputs(measured).array, tile=tile), partial(Outputs(switched).array, tile=tile)
    seen = theirs("eopatches", "mask", "QUALITY_MASK")
    bands = theirs("eopatches", "data", "BANDS")
    found = [
        _counted("BANDS", _by_rows(with_mask("eopatches", kind=DATA, name="BANDS"), bands), "as float32"),
        _counted("QUALITY_MASK", _by_rows(with_mask("eopatches", kind=MASK, name="QUALITY_MASK"), seen)),
    ]
    del bands
    features = _in_our_order(theirs("features", "data", "FEATURES"))
    ours, ours_masked = (side("features", kind=DATA, name="FEATURES") for side in (without, with_mask))
    predicted = theirs("predictions", "data_timeless", PREDICTION)
    values, values_masked = (
        side("predictions", kind=DATA_TIMELESS, name=our.PREDICTION) for side in (without, with_mask)
    )
    return [
        *found,
        _counted("FEATURES", _by_rows(ours, features), SWITCH),
        _counted("FEATURES where seen", _by_rows(ours_masked, features, seen[..., 0])),
        _counted("samples given equal masks", _samples(theirs, without, ours), SWITCH),
        _counted("predictions", _by_rows(values, predicted), SWITCH),
        _counted("predictions where seen on all dates", _by_rows(values_masked, predicted, seen[..., 0].all(axis=0))),
    ]


def _counted(what: str, parts: Same, note: str = "") -> Equality:
    compared = equal = 0
    for part in parts:
        compared, equal = compared + part.size, equal + int(np.count_nonzero(part))
    return Equality(what, compared, equal, note)


def _by_rows(ours: Any, theirs: NDArray[Any], where: NDArray[np.bool_] | None = None) -> Same:
    """Compare ([time,] y, x, band) arrays in our type by blocks of rows, only `where` ([time,] y, x) it is said."""
    if ours.shape != theirs.shape:
        yield np.zeros(max(theirs.size, 1), dtype=bool)
        return
    for rows in row_blocks(theirs.shape[-3]):
        part = (slice(None),) * (theirs.ndim - 3) + (rows,)
        block = same(ours[part], theirs[part].astype(ours.dtype))
        yield block if where is None else block[where[part]]


def same(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays hold the same value; NaN is the same as NaN. Arrays of two shapes have nothing in common."""
    if one.shape != other.shape:
        return np.zeros(max(one.size, other.size, 1), dtype=bool)
    if one.dtype.kind != "f":
        return np.asarray(one == other)
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _theirs(eogrow: EoGrow, tile: Tile, stage: str, kind: str, name: str) -> NDArray[Any]:
    with gzip.open(eogrow.output(stage) / tile.name / kind / f"{name}.npy.gz") as file:
        return np.asarray(np.load(file))


def _in_our_order(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of eo-grow, the last axis being bands and then indices, with the indices first."""
    return np.concatenate([features[..., len(BANDS) :], features[..., : len(BANDS)]], axis=-1)


def _samples(theirs: Callable[..., NDArray[Any]], ours: Callable[..., Any], features: Any) -> Same:
    """What our sampling takes at the pixels that eo-grow drew, and what eo-grow took: row by row, in one order."""
    drawn = np.argwhere(theirs("samples", "mask_timeless", "MASK_OF_SAMPLES")[..., 0]).astype(np.int32)
    labels = ours("reference", kind=DATA_TIMELESS, name=REFERENCE)[:][drawn[:, 0], drawn[:, 1]]
    taken = _in_our_order(theirs("samples", "data", "FEATURES"))
    their_labels = theirs("samples", "data_timeless", REFERENCE)
    yield same(_ordered(_read_pixels(features, drawn[:, None]), labels), _ordered(taken, their_labels))


def _ordered(values: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.float32]:
    """Rows (n, column and label) in an order of their own: samples (time, n, 1, feature) come in any."""
    rows = np.moveaxis(values[:, :, 0], 0, 1).reshape(values.shape[1], -1)
    table = np.concatenate([rows, labels.reshape(-1, 1).astype(np.float32)], axis=1)
    return np.asarray(table[np.lexsort(table.T)])


def _model(trained: Path, parameters: dict[str, int | float | bool]) -> Equality:
    theirs, ours = (text.splitlines() for text in retrained(trained, parameters))
    equal = sum(one == other for one, other in zip(theirs, ours))
    return Equality("model text given equal samples", max(len(theirs), len(ours)), equal, "trees; equal parameters")


def _maps(eogrow: EoGrow, ours: Ours) -> Same:
    """Zone by zone, on the pixels of the tiles: beside them we have no value and eo-grow has zeros."""
    for epsg in dict.fromkeys(tile.epsg for tile in scene_tiles(eogrow.scene)):
        theirs = eogrow.output("maps") / f"UTM_{epsg}" / "result.tiff"
        with rasterio.open(ours.published(epsg)) as one, rasterio.open(theirs) as other:
            window = other.window(*one.bounds).round_offsets().round_lengths()
            yield same(one.read(1), other.read(1, window=window, boundless=True))[_inside(one, epsg, eogrow)]


def _inside(raster: Any, epsg: int, eogrow: EoGrow) -> NDArray[np.bool_]:
    """(y, x): the pixels of a zone's map that lie in a tile."""
    inside = np.zeros(raster.shape, dtype=bool)
    for tile in scene_tiles(eogrow.scene):
        if tile.epsg == epsg:
            inside[raster.window(*tile.bounds).round_offsets().round_lengths().toslices()] = True
    return inside


SWITCHES = (
    "a pixel that was not seen has no features and no prediction of ours; eo-grow's example takes its zeros for "
    "reflectance: `features.mask: null` in the project that everything is compared on",
    f"we put the {len(INDICES)} indices of a date before its bands, eo-grow behind them: the trained model's columns "
    "are renumbered",
    "eo-grow draws samples from the buffer and from pixels that were not seen too: what is compared is what both take "
    "at the pixels that eo-grow drew",
    "we train with a seed, deterministic and row by row: eo-grow is given the same parameters of LightGBM; we train "
    "twice, since scores of held-out ground blocks and of held-out pixels are both told",
    "eo-grow stores BANDS as float64, as its example says: compared as float32",
    "maps are truncated to uint8 as eo-grow does: `maps.rounding: truncate`",
)
"""Where we differ on purpose, and what makes it equal."""
