"""What the report of a run says: gathered from commit records, the run's failures and the model's metrics."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eo_assets.assets.area import tiles_of
from eo_assets.assets.machine_use import use_notes
from eo_assets.assets.maps import published_map
from eo_assets.assets.model import read_metrics
from eo_assets.assets.run_log import LOG_FILE, keep_log, log_folder, log_place
from eo_assets.project import LoadedProject
from eo_assets.report import Failure, Metric, MetricTable, Picture, RunReport, Source, StageRow, write_report
from eo_assets.series_pictures import series_note, tile_pictures
from eo_assets.stages.build import tile_store
from eo_assets.stages.quicklooks import QUICKLOOK
from eo_assets.stages.walk import StageOutcome
from jobs.graph import ASSETS
from jobs.launches import LaunchResult
from resources.output_record import OutputRecord
from resources.tile_store import TileStore

PICTURED = {
    "eopatches": "colours",
    "features": "first feature",
    "reference": "reference",
    "predictions": "prediction",
}
PICTURED_TILES = 4
PACKAGES = ("eo-assets", "dagster", "ray", "sentinelhub", "eo-learn", "lightgbm", "rasterio", "numpy", "zarr")
METRIC_TITLES = {"r2": "R2", "rmse": "RMSE", "mae": "MAE", "f1": "F1", "accuracy": "Accuracy"}


def write_run_report(
    loaded: LoadedProject,
    run: str,
    started: dt.datetime,
    results: Sequence[LaunchResult],
    failed: Sequence[StageOutcome],
) -> Path:
    """Write `logs/<run>/report.html` and return its path."""
    store = tile_store(loaded)
    path = log_folder(loaded, run) / "report.html"
    failures = tuple(_failures(results, failed))
    model = store.record("model", "model")
    metrics: Mapping[str, Any] = read_metrics(store, model) if model else {"scores": {}, "importances": {}}
    maps = store.records("maps")
    report = RunReport(
        project=f"{loaded.project.name} {loaded.project.year}",
        run_id=run,
        started=started,
        ended=dt.datetime.now(dt.UTC),
        config=loaded.file.read_text(),
        stages=tuple(_stage_row(store, asset, started, failures) for asset in ASSETS),
        failures=failures,
        metrics=tuple(_metric_tables(loaded, metrics["scores"])),
        importances=metrics["importances"],
        pictures=tuple(_pictures(loaded, store, maps)),
        series=tuple(_series(loaded, store)),
        versions={"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES},
        sources=tuple(Source(name=text, licence="") for text in loaded.project.sources),
        paths={f"map {zone}": store.store.place(published_map(loaded, int(zone))) for zone in sorted(maps)}
        | {"log": log_place(loaded, run, LOG_FILE), "project folder": loaded.project_folder},
        notes=use_notes(loaded, run),
    )
    write_report(path, report)
    keep_log(loaded, run, path.name)
    return path


def made_since(record: OutputRecord, started: dt.datetime) -> bool:
    """Was an output made in the run that began then? Records tell whole seconds."""
    return dt.datetime.fromisoformat(record.created) >= started.replace(microsecond=0)


def _failures(results: Sequence[LaunchResult], failed: Sequence[StageOutcome]) -> Iterator[Failure]:
    yield from (Failure(outcome.stage, outcome.tile, outcome.reason) for outcome in failed)
    told = {outcome.stage for outcome in failed}
    for result in results:
        if not result.success and not told & set(result.launch.assets):
            yield Failure(", ".join(result.launch.assets), ", ".join((result.launch.keys or ())[:3]), result.failure)


def _stage_row(store: TileStore, asset: str, started: dt.datetime, failures: Sequence[Failure]) -> StageRow:
    records = store.records(asset).values()
    fresh = [record for record in records if made_since(record, started)]
    return StageRow(
        asset,
        done=len(fresh),
        up_to_date=len(records) - len(fresh),
        empty=sum(record.empty for record in records),
        failed=sum(failure.asset == asset for failure in failures),
        seconds=sum(record.numbers.get("seconds", 0.0) for record in fresh),
        bytes=sum(record.numbers.get("bytes", 0) for record in fresh),
    )


def _metric_tables(loaded: LoadedProject, scores: Mapping[str, Any]) -> Iterator[MetricTable]:
    blocks, random = scores.get("held_out_blocks", {}), scores.get("random_split", {})
    if "model" not in blocks:
        return
    split = loaded.project.model.split
    rows = tuple(
        Metric(METRIC_TITLES.get(name, name), value, random.get("model", {}).get(name), blocks["trivial"][name])
        for name, value in blocks["model"].items()
    )
    note = (
        f"Trained on {blocks['training_samples']:,} samples, scored on {blocks['scored_samples']:,} in whole held-out "
        f"ground blocks of {split.block_px} x {split.block_px} pixels. The random split keeps single pixels out "
        "instead: its neighbours were trained on, so it flatters."
    )
    yield MetricTable(loaded.project.reference.name, rows, note)


def _pictures(loaded: LoadedProject, store: TileStore, maps: Mapping[str, OutputRecord]) -> Iterator[Picture]:
    notes = _notes(loaded)
    for zone, record in sorted(maps.items()):
        yield from _picture(store, record, f"map of zone {zone}", notes["predictions"])
    for tile in _pictured_tiles(store):
        for stage, title in PICTURED.items():
            found = store.record(stage, tile)
            if found is not None:
                yield from _picture(store, found, f"{tile}: {title}", notes.get(stage, ""))


def _notes(loaded: LoadedProject) -> dict[str, str]:
    """What the colours of a stage's pictures mean. Nodata is transparent."""
    project = loaded.project
    index = next(iter(project.features.indices), None)
    clip = project.predictions.clip
    scale = f"purple {clip[0]:g} to yellow {clip[1]:g}" if clip else "purple low to yellow high, each picture by itself"
    if project.model.kind == "lightgbm_classifier":
        scale = "a colour a class"
    return {
        "features": f"{index} of the last date: brown -1, white 0, green 1" if index else "",
        "reference": "purple low to yellow high, each picture by itself",
        "predictions": f"{scale}; nodata is transparent",
    }


def _series(loaded: LoadedProject, store: TileStore) -> Iterator[Picture]:
    for tile, png in tile_pictures(loaded, store):
        yield Picture(f"{tile}: its acquisitions, and one composite a period", png, series_note(loaded))


def _pictured_tiles(store: TileStore) -> list[str]:
    predicted = store.records("predictions")
    tiles = [tile.name for tile in tiles_of(store)] if store.record("tile_grid", "tile_grid") else []
    return [name for name in tiles if name in predicted][:PICTURED_TILES]


def _picture(store: TileStore, record: OutputRecord, title: str, note: str) -> Iterator[Picture]:
    # A report must not fail over a picture: what is gone was told by the run itself.
    png = store.file(record, QUICKLOOK)
    if png is not None:
        yield Picture(title, png, note)
