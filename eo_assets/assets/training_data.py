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
from eo_assets.core.completeness import Completeness, first_of
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.errors import ModelError
from eo_assets.project import LoadedProject, PointsReference
from eo_assets.project_periods import project_periods
from eo_assets.stages.build import tile_walk
from eo_assets.stages.features import FEATURES, feature_plan
from eo_assets.stages.samples import PIXELS
from eo_assets.stages.tile_states import survey_tiles
from resources.eopatch_files import DATA, DATA_TIMELESS, open_array, parse_timestamps
from resources.output_record import OutputRecord
from resources.point_table import read_points
from resources.row_file import row_file
from resources.tile_store import TileStore

COLUMNS_FILE, TILES_FILE, LEFT_OUT_FILE = "columns.json", "tiles.json", "left_out.json"
"""The names of the features' columns, of the tiles by TILE_IDS, and why other tiles that were wanted have no rows."""

TILE_IDS, BLOCK_IDS = "TILE_IDS", "BLOCK_IDS"
SAMPLE_IDS, WEIGHTS, DATES = "SAMPLE_IDS", "WEIGHTS", "DATES"
"""What points say beside their labels, a row each: their ids as texts, float32 weights, days (NaT: none known)."""


@dataclass(frozen=True, slots=True)
class SampledTiles:
    """The tiles of a training set: those used, and the state of all that were wanted."""

    used: tuple[Tile, ...]
    found: Completeness


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
    tiles = sampling_tiles(loaded, store, tiles_of(store))
    found, _ = survey_tiles(tile_walk(loaded), "samples", tiles)
    used = tuple(tile for tile in tiles if found.states[tile.name] == "present")
    if not used:
        reasons = "; ".join(f"{name}: {found.told(name)}" for name in list(found.states)[:3])
        failed = "failed" in found.states.values()
        remedy = "mend what failed" if failed else "run them first: --only samples"
        raise ModelError(f"no tile has samples ({reasons}); {remedy}, or widen sampling.tiles")
    return SampledTiles(used, found)


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
    records = store.records("samples")
    inputs = {tile.name: records[tile.name].digest for tile in tiles.used if tile.name in records}
    settings = {"reference": loaded.project.reference.name, "block_px": loaded.project.model.split.block_px}
    return Wanted(recipe("training_data", settings, "1", inputs), inputs)


def _write_table(loaded: LoadedProject, store: TileStore, tiles: SampledTiles, folder: Path) -> dict[str, Any]:
    """Tile after tile: the features go to their file at once, the other columns (some 40 bytes a row) at the end.

    Memory: the samples of one tile three times and those columns, whatever the number of tiles.
    """
    project = loaded.project
    records = {tile.name: store.live_record("samples", tile.name) for tile in tiles.used}
    periods = project_periods(project)
    dates = time_axis.common_dates(
        {name: time_axis.labels(_timestamps(store, record), periods) for name, record in records.items()}
    )
    features = feature_plan(project.features, project.eopatches.data[project.features.bands].source).names
    points_once = _PointsOnce() if isinstance(project.reference.source, PointsReference) else None
    parts = []
    with row_file(folder / f"{FEATURES}.npy") as rows:
        for index, tile in enumerate(tiles.used):
            part = _tile_table(loaded, tile, index, store.intact(records[tile.name]))
            store.forget(tile.name)
            if points_once is not None:
                part = points_once.take(part)
            rows.append(part.pop(FEATURES))
            parts.append(part)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    (folder / COLUMNS_FILE).write_text(json.dumps(time_axis.columns(dates, features), indent=1))
    (folder / TILES_FILE).write_text(json.dumps([tile.name for tile in tiles.used], indent=1))
    if tiles.found.holes:
        (folder / LEFT_OUT_FILE).write_text(json.dumps(_left_out(tiles), indent=1))
    numbers = points_once.numbers(columns[DATES], project.imagery.time_interval) if points_once else {}
    return {"samples": rows.rows, **numbers, **tiles_metadata(tiles), "dates": list(dates)}


def _timestamps(store: TileStore, record: OutputRecord) -> list[dt.datetime]:
    """The sensing times of an output, without fetching the rest of it."""
    return parse_timestamps(store.file(record, "timestamps.json") or b"[]")


def tiles_metadata(tiles: SampledTiles) -> dict[str, Any]:
    """How many tiles were wanted, used and why not, with the first names of each: whole lists lie in the output."""
    counts = {f"{state}_tiles": count for state, count in tiles.found.counts.items() if state != "present"}
    return {
        "wanted_tiles": len(tiles.found.states),
        "used_tiles": len(tiles.used),
        **counts,
        "tiles": first_of([tile.name for tile in tiles.used]),
        "left_out": first_of(_left_out(tiles)),
    }


def _left_out(tiles: SampledTiles) -> dict[str, str]:
    """The wanted tiles that are not in the table, and why."""
    used = {tile.name for tile in tiles.used}
    return {name: tiles.found.told(name) for name in tiles.found.states if name not in used}


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


class _PointsOnce:
    """Takes each point where it first occurs, tile after tile, where cells overlap; and says what it left.

    Cells of two zones overlap along the zones' edge, and those of some grids everywhere.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._repeated = 0

    def take(self, rows: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The rows of a tile without the points that it, or an earlier tile, has already."""
        ids = rows[SAMPLE_IDS]
        first = points.once(ids)
        first = first[[name not in self._seen for name in ids[first].tolist()]] if len(first) else first
        self._seen.update(ids[first].tolist())
        self._repeated += len(ids) - len(first)
        return {name: values[first] for name, values in rows.items()}

    def numbers(self, dates: NDArray[Any], interval: tuple[dt.date, dt.date]) -> dict[str, int]:
        """What to tell of the points of a table with these dates."""
        return {
            "points_in_several_tiles": self._repeated,
            "points_outside_interval": int(points.outside(dates, *interval).sum()),
        }
