"""A committed model: trained on the training data, or taken from another project or year if it fits this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from eo_assets.assets.model_card import model_card
from eo_assets.assets.training_data import BLOCK_IDS, COLUMNS_FILE
from eo_assets.core import model as modelling
from eo_assets.core.recipe import recipe
from eo_assets.errors import ModelError
from eo_assets.project import LoadedProject
from eo_assets.stages.features import FEATURES, feature_plan
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from resources.object_store import checksum
from resources.tile_store import OutputRecord, TileStore

METRICS_FILE, CARD_FILE = "metrics.json", "model_card.md"


def read_metrics(store: TileStore, record: OutputRecord) -> dict[str, Any]:
    """Scores and importances of a committed model."""
    metrics: dict[str, Any] = json.loads((store.path(record) / METRICS_FILE).read_text())
    return metrics


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
    wanted = recipe(
        "model", {"model": said, "offset": _offset_handling(loaded)}, "1", {"training_data": samples.digest}
    )
    record = store.record("model", "model")
    if record is not None and record.recipe == wanted:
        return record
    folder = store.path(samples)
    columns = tuple(json.loads((folder / COLUMNS_FILE).read_text()))
    table = modelling.Samples(
        np.load(folder / f"{FEATURES}.npy"),
        np.load(folder / f"{loaded.project.reference.name}.npy"),
        np.load(folder / f"{BLOCK_IDS}.npy"),
    )
    training = modelling.Training(
        settings.kind, settings.parameters, settings.split.train_fraction, settings.split.seed
    )
    trained = modelling.train(table, columns, training)
    with store.attempt("model", "model") as attempt:
        _write_model(loaded, trained, columns, attempt.folder, samples)
        numbers = {"samples": len(table.labels), "columns": len(columns), **_headline(trained)}
        inputs = {"training_data": samples.digest}
        return store.commit("model", "model", attempt, wanted, numbers=numbers, inputs=inputs)


def _write_model(
    loaded: LoadedProject,
    trained: modelling.TrainedModel,
    columns: tuple[str, ...],
    folder: Path,
    samples: OutputRecord,
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
                f"{loaded.file}: model.source: {loaded.project.model.source}: {file} does not exist; a reused model "
                f"needs its {SIGNATURE_FILE} beside it"
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
    names = feature_plan(
        loaded.project.features, loaded.project.eopatches.data[loaded.project.features.bands].source
    ).names
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
