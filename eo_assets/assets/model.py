"""A committed model: trained on the training data, or taken from another project or year if it fits this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from eo_assets.assets.model_card import model_card
from eo_assets.assets.offset_check import DARK, TRAINED_ON_FILE, darkness_of
from eo_assets.assets.reused_model import check_model_fits, reused_model
from eo_assets.assets.shared_outputs import Wanted, ensure, live_record
from eo_assets.assets.training_data import BLOCK_IDS, COLUMNS_FILE, TILES_FILE, WEIGHTS
from eo_assets.core import model as modelling
from eo_assets.core.ensemble.answers import Answers
from eo_assets.core.ensemble.predictor import verified_predictor
from eo_assets.core.recipe import recipe
from eo_assets.project import LoadedProject
from eo_assets.stages.features import FEATURES
from eo_assets.stages.predictions import (
    ANSWERS_FILE,
    EVALUATOR,
    METRICS_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    load_booster,
)
from eo_assets.stages.signature import expected_signature, feature_names, offset_handling
from resources.object_store import checksum
from resources.output_record import OutputRecord
from resources.tile_store import TileStore

CARD_FILE = "model_card.md"


def read_metrics(store: TileStore, record: OutputRecord) -> dict[str, Any]:
    """Scores and importances of a committed model."""
    metrics: dict[str, Any] = json.loads(store.text(record, METRICS_FILE))
    return metrics


def wanted_model(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The model that the committed training data make, or the one that the project names."""
    if not loaded.project.model.trained_here:
        # With what the project calls for: a model that fitted once is compared again when the project changes.
        source = reused_model(loaded)
        files = {path.name: checksum(path) for path in (source.model, source.signature)}
        called_for = {**expected_signature(loaded.project).as_json(), "features": list(feature_names(loaded.project))}
        return Wanted(recipe("model", {"files": files, "signature": called_for}, "1", {}))
    said = loaded.project.model.model_dump(mode="json")
    said["parameters"] = {k: v for k, v in said["parameters"].items() if k not in modelling.THREAD_PARAMETERS}
    inputs = {"training_data": live_record(store, "training_data", "training_data").digest}
    return Wanted(
        recipe("model", {"model": said, "offset": list(offset_handling(loaded.project))}, "1", inputs), inputs
    )


def make_model(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the trained model, or the one that the project names, unless it is up to date."""
    write = _write_trained if loaded.project.model.trained_here else _write_reused
    return ensure(store, "model", "model", wanted_model(loaded, store), lambda folder: write(loaded, store, folder))


def _write_trained(loaded: LoadedProject, store: TileStore, folder: Path) -> dict[str, Any]:
    settings, samples = loaded.project.model, live_record(store, "training_data", "training_data")
    source = store.intact(samples)
    columns = tuple(json.loads((source / COLUMNS_FILE).read_text()))
    weights = np.load(source / f"{WEIGHTS}.npy") if (source / f"{WEIGHTS}.npy").exists() else None
    features = np.load(source / f"{FEATURES}.npy", mmap_mode="r")
    labels, blocks = (np.load(source / f"{name}.npy") for name in (loaded.project.reference.name, BLOCK_IDS))
    split = settings.split
    training = modelling.Training(settings.kind, settings.parameters, split.train_fraction, split.seed)
    trained = modelling.train(modelling.Samples(features, labels, blocks, weights), columns, training)
    signature = expected_signature(loaded.project, columns, trained.classes)
    (folder / MODEL_FILE).write_text(modelling.model_text(trained.booster))
    (folder / SIGNATURE_FILE).write_text(json.dumps(signature.as_json(), indent=1))
    metrics = {"scores": trained.metrics, "importances": trained.importances, EVALUATOR: trained.evaluator}
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1))
    _write_answers(folder, trained.answers)
    tiles = json.loads((source / TILES_FILE).read_text())
    dark, _ = darkness_of(store, set(tiles))
    trained_on = {"training_data": samples.digest, "tiles": tiles, **({DARK: dark} if dark else {})}
    (folder / TRAINED_ON_FILE).write_text(json.dumps(trained_on, indent=1))
    (folder / CARD_FILE).write_text(model_card(loaded, signature, trained.metrics, trained.importances, samples, tiles))
    return {
        "samples": samples.numbers["samples"],
        "trained_on_tiles": len(tiles),
        "columns": len(columns),
        EVALUATOR: trained.evaluator,
        **_headline(trained),
    }


def _write_reused(loaded: LoadedProject, store: TileStore, folder: Path) -> dict[str, Any]:
    """A model of another project or year, copied with its signature, which must be this project's."""
    source = check_model_fits(loaded)
    shutil.copyfile(source.model, folder / MODEL_FILE)
    shutil.copyfile(source.signature, folder / SIGNATURE_FILE)
    for beside in (TRAINED_ON_FILE, CARD_FILE):
        if (file := source.model.with_name(beside)).is_file():
            shutil.copyfile(file, folder / beside)
    predictor = verified_predictor(load_booster(folder))
    (folder / METRICS_FILE).write_text(json.dumps({"scores": {}, "importances": {}, EVALUATOR: predictor.told}))
    _write_answers(folder, predictor.answers())
    told = {key: value for key, value in source.told.items() if key.startswith("source")}
    return {**told, EVALUATOR: predictor.told}


def _write_answers(folder: Path, answers: Answers | None) -> None:
    if answers is not None:
        (folder / ANSWERS_FILE).write_bytes(answers.as_bytes())


def _headline(trained: modelling.TrainedModel) -> dict[str, float]:
    scores = trained.metrics["held_out_blocks"].get("model", {})
    return {f"held_out_{name}": round(value, 4) for name, value in scores.items()}
