"""From samples to a model: `training_data` and `model`, one of each for all tiles."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from eo_assets.assets.area import tiles_of
from eo_assets.assets.model_card import importance_table, metrics_table, model_card
from eo_assets.assets.outputs import result
from eo_assets.core import model as modelling
from eo_assets.core import sampling, time_axis
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.errors import ModelError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.stages.features import FEATURES, feature_plan
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from eo_assets.stages.samples import PIXELS
from resources.eopatch_files import DATA, DATA_TIMELESS, open_array, read_timestamps
from resources.object_store import checksum
from resources.tile_store import OutputRecord, TileStore

COLUMNS_FILE, TILES_FILE, METRICS_FILE, CARD_FILE = "columns.json", "tiles.json", "metrics.json", "model_card.md"
TILE_IDS, BLOCK_IDS = "TILE_IDS", "BLOCK_IDS"


def training_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`training_data` and `model` of a project."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        deps=[dg.AssetDep(dg.AssetKey([prefix, "samples"]), partition_mapping=dg.AllPartitionMapping())],
        kinds={"numpy"},
    )
    def training_data() -> dg.MaterializeResult:
        """The samples of all tiles that have them as one table: features, labels, tile and ground block of each row."""
        return result(store, make_training_data(loaded, store))

    @dg.asset(
        key_prefix=prefix, group_name=prefix, io_manager_key="model_io_manager", deps=[training_data], kinds={"lightgbm"}
    )
    def model() -> dg.MaterializeResult:
        """The model, trained on all but the held-out ground blocks and scored on those, with its signature and card."""
        record = make_model(loaded, store)
        folder = store.path(record)
        metrics = json.loads((folder / METRICS_FILE).read_text())
        tables = {"scores": dg.MetadataValue.md(metrics_table(metrics["scores"]))}
        tables["importances"] = dg.MetadataValue.md(importance_table(metrics["importances"]))
        return result(store, record, tables)

    return [training_data, model]


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


def make_training_data(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the merged samples, unless the very same are committed."""
    project, tiles = loaded.project, sampled_tiles(loaded, store)
    records = {tile.name: store.record("samples", tile.name) for tile in tiles.used}
    inputs = {name: record.digest for name, record in records.items() if record is not None}
    settings = {"reference": project.reference.name, "block_px": project.model.split.block_px}
    wanted = recipe("training_data", settings, "1", inputs)
    record = store.record("training_data", "training_data")
    if record is not None and record.recipe == wanted:
        return record
    folders = {tile.name: store.live("samples", tile.name) for tile in tiles.used}
    dates = time_axis.common_dates({name: time_axis.labels(read_timestamps(path)) for name, path in folders.items()})
    names = feature_plan(project.features, project.eopatches.data[project.features.bands].source).names
    with store.attempt("training_data", "training_data") as attempt:
        tables = [_tile_table(loaded, tile, index, folders[tile.name]) for index, tile in enumerate(tiles.used)]
        columns = zip(*tables)
        for name, parts in zip((FEATURES, project.reference.name, TILE_IDS, BLOCK_IDS), columns):
            np.save(attempt.folder / f"{name}.npy", np.concatenate(parts), allow_pickle=False)
        (attempt.folder / COLUMNS_FILE).write_text(json.dumps(time_axis.columns(dates, names), indent=1))
        (attempt.folder / TILES_FILE).write_text(json.dumps([tile.name for tile in tiles.used], indent=1))
        numbers = {
            "samples": sum(len(table[0]) for table in tables),
            "tiles": [tile.name for tile in tiles.used],
            "left_out": tiles.left_out,
            "dates": list(dates),
        }
        return store.commit("training_data", "training_data", attempt, wanted, numbers=numbers, inputs=inputs)


def _tile_table(
    loaded: LoadedProject, tile: Tile, index: int, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.generic], NDArray[np.int32], NDArray[np.int64]]:
    """Rows of one tile: features (n, column), labels, tile ids, ground blocks; unlabelled and invalid pixels dropped."""
    reference = loaded.project.reference
    values = open_array(folder, DATA, FEATURES)[:]
    labels = open_array(folder, DATA_TIMELESS, reference.name)[:].reshape(-1)
    pixels = open_array(folder, DATA_TIMELESS, PIXELS)[:].reshape(-1, 2)
    table = values.transpose(1, 2, 0, 3).reshape(len(labels), -1)
    keep = sampling.labelled(labels, reference.nodata) & ~np.isnan(table).all(axis=1)
    blocks = sampling.ground_blocks(pixels[keep], tile, loaded.project.model.split.block_px)
    return table[keep], labels[keep], np.full(int(keep.sum()), index, dtype=np.int32), blocks


def make_model(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the trained model, or the one that the project names, unless it is up to date."""
    settings = loaded.project.model
    if settings.source != "train":
        return _adopt_model(loaded, store)
    samples = store.record("training_data", "training_data")
    if samples is None:
        raise ModelError("there is no training data yet; run it first: --only training_data")
    said = settings.model_dump(mode="json")
    said["parameters"] = {k: v for k, v in said["parameters"].items() if k not in modelling.THREAD_PARAMETERS}
    wanted = recipe("model", {"model": said, "offset": _offset_handling(loaded)}, "1", {"training_data": samples.digest})
    record = store.record("model", "model")
    if record is not None and record.recipe == wanted:
        return record
    folder = store.path(samples)
    columns = tuple(json.loads((folder / COLUMNS_FILE).read_text()))
    table = modelling.Samples(
        np.load(folder / f"{FEATURES}.npy"), np.load(folder / f"{loaded.project.reference.name}.npy"),
        np.load(folder / f"{BLOCK_IDS}.npy"),
    )
    training = modelling.Training(settings.kind, settings.parameters, settings.split.train_fraction, settings.split.seed)
    trained = modelling.train(table, columns, training)
    with store.attempt("model", "model") as attempt:
        _write_model(loaded, trained, columns, attempt.folder, samples)
        numbers = {"samples": len(table.labels), "columns": len(columns), **_headline(trained)}
        inputs = {"training_data": samples.digest}
        return store.commit("model", "model", attempt, wanted, numbers=numbers, inputs=inputs)


def _write_model(
    loaded: LoadedProject, trained: modelling.TrainedModel, columns: tuple[str, ...], folder: Path, samples: OutputRecord
) -> None:
    signature = expected_signature(loaded, columns, trained.classes)
    trained.booster.save_model(folder / MODEL_FILE)
    (folder / SIGNATURE_FILE).write_text(json.dumps(signature.as_json(), indent=1))
    metrics = {"scores": trained.metrics, "importances": trained.importances}
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1))
    (folder / CARD_FILE).write_text(model_card(loaded, signature, trained.metrics, trained.importances, samples))


def _adopt_model(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """A model of another project or year: its file, with its signature beside it, which must be this project's."""
    path = store.store.path(loaded.project.model.source)
    if path.is_dir():
        path = path / MODEL_FILE
    beside = path.with_name(SIGNATURE_FILE)
    for file in (path, beside):
        if not file.is_file():
            raise ModelError(
                f"{loaded.file}: model.source: {loaded.project.model.source}: {file} does not exist; a reused model needs "
                f"its {SIGNATURE_FILE} beside it"
            )
    signature = modelling.Signature.from_json(json.loads(beside.read_text()))
    expected = expected_signature(loaded, signature.columns, signature.classes)
    difference = signature.difference(expected) or _unknown_feature(loaded, signature)
    if difference:
        raise ModelError(f"{loaded.file}: model.source: {path} does not fit this project: {difference}")
    wanted = recipe("model", {"source": checksum(path), "signature": checksum(beside)}, "1", {})
    record = store.record("model", "model")
    if record is not None and record.recipe == wanted:
        return record
    with store.attempt("model", "model") as attempt:
        for file in (path, beside):
            shutil.copyfile(file, attempt.folder / file.name.replace(path.name, MODEL_FILE))
        (attempt.folder / METRICS_FILE).write_text(json.dumps({"scores": {}, "importances": {}}))
        return store.commit("model", "model", attempt, wanted, numbers={"source": str(path)})


def _unknown_feature(loaded: LoadedProject, signature: modelling.Signature) -> str | None:
    """The first column whose feature, or place among the features of its date, is not this project's."""
    names = feature_plan(loaded.project.features, loaded.project.eopatches.data[loaded.project.features.bands].source).names
    for position, column in enumerate(signature.columns):
        expected = names[position % len(names)]
        if column.rpartition("_")[0] != expected:
            return f"column {position}: the model has {column}, the project makes {expected} there"
    return None


def expected_signature(
    loaded: LoadedProject, columns: tuple[str, ...], classes: tuple[int, ...]
) -> modelling.Signature:
    """The signature of a model that fits this project's features."""
    project = loaded.project
    return modelling.Signature(
        kind=project.model.kind,
        columns=columns,
        factor=project.eopatches.data[project.features.bands].factor,
        reference=project.reference.name,
        offset_handling=tuple(_offset_handling(loaded)),
        classes=classes,
    )


def _offset_handling(loaded: LoadedProject) -> list[str]:
    words = {None: "the service's default", True: "harmonised", False: "as delivered"}
    return [f"{source.collection}: {words[source.harmonize_values]}" for source in loaded.project.imagery.collections]


def _headline(trained: modelling.TrainedModel) -> dict[str, float]:
    scores = trained.metrics["held_out_blocks"].get("model", {})
    return {f"held_out_{name}": round(value, 4) for name, value in scores.items()}
