"""The table that a model is trained on: the samples of all tiles that have them, merged."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.assets.area import tiles_of
from eo_assets.assets.shared_outputs import Wanted, ensure
from eo_assets.core import points, sampling, time_axis
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.errors import ModelError
from eo_assets.project import LoadedProject, PointsReference
from eo_assets.stages.build import tile_walk
from eo_assets.stages.features import FEATURES, feature_plan
from eo_assets.stages.samples import PIXELS
from resources.eopatch_files import DATA, DATA_TIMELESS, open_array, read_timestamps
from resources.point_table import read_points
from resources.tile_store import OutputRecord, TileStore

COLUMNS_FILE, TILES_FILE = "columns.json", "tiles.json"
TILE_IDS, BLOCK_IDS = "TILE_IDS", "BLOCK_IDS"
SAMPLE_IDS, WEIGHTS, DATES = "SAMPLE_IDS", "WEIGHTS", "DATES"
"""What points say beside their labels, a row each: their ids as texts, float32 weights, days (NaT: none known)."""


@dataclass(frozen=True, slots=True)
class SampledTiles:
    """The tiles of a training set: those used, and why others that were wanted are not among them."""

    used: tuple[Tile, ...]
    left_out: dict[str, str]


def sampling_tiles(loaded: LoadedProject, store: TileStore, tiles: Sequence[Tile]) -> list[Tile]:
    """The tiles that the project wants samples of. `labelled` needs the reference to have been made."""
    wanted = loaded.project.sampling.tiles
    if wanted == "all":
        return list(tiles)
    if wanted == "labelled":
        labels = store.records("reference")
        return [tile for tile in tiles if tile.name in labels and not labels[tile.name].empty]
    unknown = sorted(set(wanted) - {tile.name for tile in tiles})
    if unknown:
        raise ModelError(f"{loaded.file}: sampling.tiles: {unknown[0]} is not a tile of this project's grid")
    return [tile for tile in tiles if tile.name in wanted]


def sampled_tiles(loaded: LoadedProject, store: TileStore) -> SampledTiles:
    """Which of the wanted tiles have samples that are up to date and not empty."""
    walk = tile_walk(loaded)
    stage = walk.selected(["samples"])[0]
    used, left_out = [], {}
    for tile in sampling_tiles(loaded, store, tiles_of(store)):
        state = walk.state(stage, tile)
        if state.good and not (state.record and state.record.empty):
            used.append(tile)
        else:
            left_out[tile.name] = state.reason
    if not used:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise ModelError(f"no tile has samples ({reasons}); run them first: --only samples, or widen sampling.tiles")
    return SampledTiles(tuple(used), left_out)


def wanted_training_data(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The samples of the tiles that have them now."""
    return _wanted(loaded, store, sampled_tiles(loaded, store))


def make_training_data(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the merged samples, unless the very same are committed."""
    tiles = sampled_tiles(loaded, store)
    return ensure(
        store,
        "training_data",
        "training_data",
        _wanted(loaded, store, tiles),
        lambda folder: _write_table(loaded, store, tiles, folder),
    )


def _wanted(loaded: LoadedProject, store: TileStore, tiles: SampledTiles) -> Wanted:
    records = {tile.name: store.record("samples", tile.name) for tile in tiles.used}
    inputs = {name: record.digest for name, record in records.items() if record is not None}
    settings = {"reference": loaded.project.reference.name, "block_px": loaded.project.model.split.block_px}
    return Wanted(recipe("training_data", settings, "1", inputs), inputs)


def _write_table(loaded: LoadedProject, store: TileStore, tiles: SampledTiles, folder: Path) -> dict[str, Any]:
    project = loaded.project
    samples = {tile.name: store.live("samples", tile.name) for tile in tiles.used}
    dates = time_axis.common_dates({name: time_axis.labels(read_timestamps(path)) for name, path in samples.items()})
    features = feature_plan(project.features, project.eopatches.data[project.features.bands].source).names
    parts = [_tile_table(loaded, tile, index, samples[tile.name]) for index, tile in enumerate(tiles.used)]
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    numbers: dict[str, Any] = {}
    if isinstance(project.reference.source, PointsReference):
        table, numbers = _each_point_once(table, project.imagery.time_interval)
    for name, values in table.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    (folder / COLUMNS_FILE).write_text(json.dumps(time_axis.columns(dates, features), indent=1))
    (folder / TILES_FILE).write_text(json.dumps([tile.name for tile in tiles.used], indent=1))
    return {
        "samples": len(table[TILE_IDS]),
        **numbers,
        "tiles": [tile.name for tile in tiles.used],
        "left_out": tiles.left_out,
        "dates": list(dates),
    }


def _tile_table(loaded: LoadedProject, tile: Tile, index: int, folder: Path) -> dict[str, NDArray[Any]]:
    """Rows of a tile: features (n, column), labels, tile ids, ground blocks; no unlabelled or invalid pixel.

    Of a points reference also what each point says.
    """
    reference = loaded.project.reference
    values = open_array(folder, DATA, FEATURES)[:]
    labels = open_array(folder, DATA_TIMELESS, reference.name)[:].reshape(-1)
    pixels = open_array(folder, DATA_TIMELESS, PIXELS)[:].reshape(-1, 2)
    table = values.transpose(1, 2, 0, 3).reshape(len(labels), -1)
    keep = sampling.labelled(labels, reference.nodata) & ~np.isnan(table).all(axis=1)
    rows = {
        FEATURES: table[keep],
        reference.name: labels[keep],
        TILE_IDS: np.full(int(keep.sum()), index, dtype=np.int32),
        BLOCK_IDS: sampling.ground_blocks(pixels[keep], tile, loaded.project.model.split.block_px),
    }
    if isinstance(reference.source, PointsReference):
        said = read_points(folder).take(keep)
        rows |= {SAMPLE_IDS: said.ids, WEIGHTS: said.weights, DATES: said.dates}
    return rows


def _each_point_once(
    table: dict[str, NDArray[Any]], interval: tuple[dt.date, dt.date]
) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
    """The table without the points that an earlier tile has too, where cells overlap; and what to tell of its points.

    Cells of two zones overlap along the zones' edge, and those of some grids everywhere.
    """
    first = points.once(table[SAMPLE_IDS])
    rows = {name: values[first] for name, values in table.items()}
    numbers = {
        "points_in_several_tiles": len(table[SAMPLE_IDS]) - len(first),
        "points_outside_interval": int(points.outside(rows[DATES], *interval).sum()),
    }
    return rows, numbers
