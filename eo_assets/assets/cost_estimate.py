"""`cost_estimate`: what the map will cost, take and last, a stage and a tile, before anything is bought."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from eo_assets.assets.area import tiles_of
from eo_assets.assets.outputs import result
from eo_assets.assets.quotes import Quote, paid_requests, quote, tile_units
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, live_record, noting_failure
from eo_assets.core.cost import UNVERIFIED, Shape, cpu_hours, raw_bytes
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject
from eo_assets.project_periods import delivered_frames, project_periods
from eo_assets.stages.build import tile_store
from eo_assets.stages.features import feature_plan
from resources.output_record import OutputRecord
from resources.tile_store import TileStore

TILES_FILE, SUMMARY_FILE = "tiles.csv", "summary.json"
SHOWN_TILES = 20
TREES = ("n_estimators", "num_iterations", "num_iteration", "n_iter", "num_trees", "num_tree", "num_boost_round")
LEAVES = ("num_leaves", "num_leaf", "max_leaves", "max_leaf")
"""LightGBM's names for the number of trees and of leaves."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A project's tiles and what they cost: units by paid stage, bytes before compression and CPU hours by stage.

    Sampling and training are not in the hours.
    """

    quote: Quote
    bytes: dict[str, int]
    hours: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        lines = [
            {
                "stage": line.stage,
                "service": line.service,
                "unit": line.unit,
                "mode": line.kind.mode,
                "tiles": line.tiles,
                "bands": line.kind.bands,
                "dates": line.kind.samples,
                "processing_units": round(line.units, 2),
                "of_it_to_reach_the_minimum": round(line.minimum, 2),
            }
            for line in self.quote.lines
        ]
        hours = {stage: round(value, 4) for stage, value in self.hours.items()}
        return {
            "processing_units": round(self.quote.total, 2),
            "note": UNVERIFIED,
            "quote": lines,
            "bytes": self.bytes,
            "cpu_hours": hours,
        }


def estimate_of(loaded: LoadedProject, tiles: Sequence[Tile]) -> Estimate:
    """What all of these tiles will cost, offline."""
    asked = quote(loaded, dict.fromkeys(bought(loaded), tiles))
    shapes, layers = [tile.shape for tile in tiles], stage_layers(loaded)
    sizes = {stage: raw_bytes(shapes, count, dtype) for stage, (count, dtype) in layers.items()}
    hours = {stage: cpu_hours(shapes, count, stage) for stage, count in work_layers(loaded).items()}
    return Estimate(asked, sizes, hours)


def bought(loaded: LoadedProject) -> tuple[str, ...]:
    """The paid stages that make a map: labels only where they are trained on."""
    stages = paid_requests(loaded)
    return tuple(stage for stage in stages if stage != "reference" or loaded.project.model.trained_here)


def stage_layers(loaded: LoadedProject) -> dict[str, tuple[int, str]]:
    """How many values a pixel a stage stores, and their type."""
    project = loaded.project
    frames, bands = delivered_frames(project), len(project.imagery.tiff_outputs)
    dates = len(project_periods(project)) or frames
    columns = feature_plan(project.features, project.eopatches.data[project.features.bands].source).names
    return {
        "tiffs": (bands * frames, "uint16"),
        "eopatches": (bands * frames, "uint16"),
        "features": (len(columns) * dates, "float32"),
        "reference": (1, project.reference.dtype),
        "predictions": (1, project.predictions.dtype),
        "maps": (1, project.maps.dtype),
    }


def work_layers(loaded: LoadedProject) -> dict[str, int]:
    """How much work a pixel is, by stage: the values that are stored, and what every leaf of the model may cost."""
    parameters = loaded.project.model.parameters
    trees, leaves = (
        int(next((parameters[name] for name in names if name in parameters), default))
        for names, default in ((TREES, 100), (LEAVES, 31))
    )
    return {stage: count for stage, (count, _) in stage_layers(loaded).items()} | {"predictions": trees * leaves}


def cost_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`cost_estimate` of a project."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        deps=[dg.AssetKey([prefix, "tile_grid"])],
        kinds={"csv"},
    )
    def cost_estimate(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Processing units, bytes and CPU hours of every stage, and processing units of every tile. Spends nothing."""
        with run_log(loaded, context), noting_failure(store, "cost_estimate", "cost_estimate"):
            record = make_cost_estimate(loaded, store)
            return result(store, record, _tables(store.path(record)))

    return [cost_estimate]


def wanted_cost_estimate(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The estimate that the committed grid and the project's requests make."""
    asked = paid_requests(loaded)
    kinds = {stage: [asked[stage][0], str(asked[stage][1])] for stage in bought(loaded)}
    layers = {stage: list(values) for stage, values in stage_layers(loaded).items()}
    inputs = {"tile_grid": live_record(store, "tile_grid", "tile_grid").digest}
    return Wanted(recipe("cost_estimate", {"requests": kinds, "layers": layers}, "1", inputs), inputs)


def make_cost_estimate(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the estimate, unless it is up to date."""

    def write(folder: Path) -> dict[str, Any]:
        tiles = tiles_of(store)
        estimate = estimate_of(loaded, tiles)
        (folder / SUMMARY_FILE).write_text(json.dumps(estimate.as_json(), indent=1))
        _write_tiles(folder / TILES_FILE, loaded, tiles)
        units = {line.stage: round(line.units, 2) for line in estimate.quote.lines}
        return {
            "processing_units": round(estimate.quote.total, 2),
            "processing_units_by_stage": units,
            "note": UNVERIFIED,
        }

    return ensure(store, "cost_estimate", "cost_estimate", wanted_cost_estimate(loaded, store), write)


def _write_tiles(path: Path, loaded: LoadedProject, tiles: Sequence[Tile]) -> None:
    stages = bought(loaded)
    by_shape: dict[Shape, dict[str, float]] = {}
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["tile", "epsg", "height", "width", *stages])
        for tile in tiles:
            units = by_shape.setdefault(tile.shape, tile_units(loaded, tile))
            table.writerow([tile.name, tile.epsg, *tile.shape, *(round(units[stage], 4) for stage in stages)])


def _tables(folder: Path) -> dict[str, Any]:
    """What the UI shows: the stages, and the first tiles."""
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    with (folder / TILES_FILE).open(newline="") as file:
        rows = list(csv.reader(file))
    units = {line["stage"]: line["processing_units"] for line in summary["quote"]}
    stages = [
        dg.TableRecord(
            {
                "stage": stage,
                "processing_units": units.get(stage, 0.0),
                "gigabytes": round(size / 1e9, 3),
                "cpu_hours": summary["cpu_hours"][stage],
            }
        )
        for stage, size in summary["bytes"].items()
    ]
    shown = "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1 : SHOWN_TILES + 1]])
    more = f"\n\nand {len(rows) - 1 - SHOWN_TILES} more in {TILES_FILE}" if len(rows) > SHOWN_TILES + 1 else ""
    return {"by_stage": dg.MetadataValue.table(stages), "by_tile": dg.MetadataValue.md(shown + more)}
