"""A model that this project has not trained: where it is, and whether it fits, known before anything is bought."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eo_assets.core.signature import Signature
from eo_assets.errors import EoAssetsError, ModelError
from eo_assets.project import LoadedProject, ModelHome
from eo_assets.stages.build import tile_store
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from eo_assets.stages.signature import expected_signature, feature_names
from resources.object_store import open_store
from resources.tile_store import TileStore

REMEDIES: Mapping[str, str] = {
    "kind": "model.kind",
    "reference": "reference.name",
    "factor": "the factor of eopatches.data",
    "offset_handling": "imagery.collections and their harmonize_values",
    "composite": "features.composite",
    "periods": "features.composite.periods, and an imagery.time_interval of the same days of its own year",
    "period": "features.composite.periods, and an imagery.time_interval of the same days of its own year",
    "index": "features.indices",
    "column": "features.indices and features.include_bands, in that order",
}
"""By the first word of a difference, the keys that should say what the model's own project says."""


@dataclass(frozen=True, slots=True)
class ReusedModel:
    """The files of a model, and what to tell of where it is from."""

    model: Path
    signature: Path
    told: Mapping[str, Any] = field(default_factory=dict)


def check_model_fits(loaded: LoadedProject) -> ReusedModel:
    """The model that the project names. Raises ModelError where it is missing, or is not for this project's features.

    Asked before anything is bought. Where dates are taken as they are, those of a tile are known only when it has been
    delivered: of the model's only the names and places of features, and that its dates lie in the interval, are judged.
    """
    source = reused_model(loaded)
    difference = misfit(loaded, _read_signature(source.signature))
    if difference is None:
        return source
    keys = REMEDIES[difference.split(":")[0].split(" ")[0]]
    raise ModelError(
        f"{_key(loaded)}: {source.model} does not fit this project: {difference}; let {keys} say what the model's own "
        "project says, or train a model: model.source: train"
    )


def model_problem(loaded: LoadedProject) -> str | None:
    """What `check_model_fits` would refuse, in words; None for a model that fits or that is trained here."""
    if loaded.project.model.trained_here:
        return None
    try:
        check_model_fits(loaded)
    except EoAssetsError as error:
        return str(error)
    return None


def reused_model(loaded: LoadedProject) -> ReusedModel:
    """The files of the model that the project names: another project's live one, or a file of its own folder.

    Where those are gone, the copy that this project has made of them before: last year's folder may be put away.
    """
    home = loaded.model_home
    told = {"source_project": f"{home.project} {home.year}"} if home else {"source": str(_named_file(loaded))}
    try:
        found = _of_project(loaded, home) if home else _of_file(loaded)
    except ModelError:
        copy = tile_store(loaded).record("model", "model")
        if copy is None or any(copy.numbers.get(key) != value for key, value in told.items()):
            raise
        folder = tile_store(loaded).path(copy)
        return ReusedModel(folder / MODEL_FILE, folder / SIGNATURE_FILE, copy.numbers)
    return replace(found, told={"source": str(found.model), **told, **found.told})


def misfit(loaded: LoadedProject, model: Signature) -> str | None:
    """The first thing in which a model differs from what the project makes; None where nothing is known to differ."""
    expected = expected_signature(loaded.project, classes=model.classes)
    if expected.columns:
        return model.difference(expected)
    return (
        model.difference(replace(expected, columns=model.columns))
        or _unknown_feature(loaded, model)
        or _date_outside(loaded, model)
    )


def _named_file(loaded: LoadedProject) -> Path:
    model = tile_store(loaded).store.path(str(loaded.project.model.source))
    return model / MODEL_FILE if model.is_dir() else model


def _of_file(loaded: LoadedProject) -> ReusedModel:
    model = _named_file(loaded)
    beside = model.with_name(SIGNATURE_FILE)
    for file in (model, beside):
        if not file.is_file():
            raise ModelError(
                f"{_key(loaded)}: {file} does not exist; a reused model needs its {SIGNATURE_FILE} beside it"
            )
    return ReusedModel(model, beside)


def _of_project(loaded: LoadedProject, home: ModelHome) -> ReusedModel:
    """The live model of another project. Nothing is written there, not even who the folder belongs to."""
    store = TileStore(open_store(home.project_folder), home.project, {"model": home.folder})
    record, owner = store.record("model", "model"), store.owner("model")
    if record is None or owner != f"{home.project} {home.year}":
        of = f" of its own ({store.store.path(home.folder)} belongs to {owner})" if record is not None else ""
        raise ModelError(
            f"{_key(loaded)}: {home.project} {home.year} has no model{of} yet; train it first: "
            f"eo-assets run {home.file} --only model"
        )
    folder = store.path(record)
    return ReusedModel(folder / MODEL_FILE, folder / SIGNATURE_FILE, {"source_recipe": record.recipe[:12]})


def _key(loaded: LoadedProject) -> str:
    said = loaded.project.model.source
    return (
        f"{loaded.file}: model.source: {said}"
        if isinstance(said, str)
        else (f"{loaded.file}: model.source.project: {said.project}")
    )


def _read_signature(file: Path) -> Signature:
    try:
        return Signature.from_json(json.loads(file.read_text()))
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(f"{file} can't be read: {error}") from None


def _unknown_feature(loaded: LoadedProject, model: Signature) -> str | None:
    """The first column whose feature, or place among the features of its date, is not this project's."""
    names = feature_names(loaded.project)
    for position, column in enumerate(model.columns):
        expected = names[position % len(names)]
        if column.rpartition("_")[0] != expected:
            return f"column {position}: the model has {column}, the project makes {expected} there"
    if len(model.columns) % len(names):
        wanted = names[len(model.columns) % len(names)]
        return f"column {len(model.columns)}: the model has none, the project makes {wanted} there"
    return None


def _date_outside(loaded: LoadedProject, model: Signature) -> str | None:
    """The first column of a date that no tile of the project can have: a model of dates fits those dates alone."""
    first, last = loaded.project.imagery.time_interval
    days = {(first + dt.timedelta(days=day)).isoformat() for day in range((last - first).days + 1)}
    for position, column in enumerate(model.columns):
        if column.rpartition("_")[2] not in days:
            return (
                f"column {position}: the model has {column}, and imagery.time_interval is {first} to {last}; a model "
                "outlives its dates with features.composite alone"
            )
    return None
