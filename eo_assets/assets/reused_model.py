"""A model that this project has not trained: where it is, and whether it fits, known before anything is bought."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from eo_assets.core.model_file import features_of
from eo_assets.core.signature import Signature
from eo_assets.errors import EoAssetsError, ModelError, StorageRefused, StoreError
from eo_assets.project import LoadedProject, ModelHome
from eo_assets.stages.build import project_store, s3_access, tile_store
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from eo_assets.stages.signature import expected_signature, feature_names
from resources.input_files import InputFiles
from resources.stores import open_store
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
    "column": "features.indices, features.include_bands and the order of the bands in eopatches.data",
}
"""By the first word of a difference, the keys that should say what the model's own project says."""


@dataclass(frozen=True, slots=True)
class ReusedModel:
    """The files of a model, and what to tell of where it is from; `note` is why they are a copy, if they are one."""

    model: Path
    signature: Path
    told: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None


def check_model_fits(loaded: LoadedProject) -> ReusedModel:
    """The model that the project names. Raises ModelError where it is missing, or is not for this project's features.

    Asked before anything is bought. Where dates are taken as they are, those of a tile are known only when it has been
    delivered: of the model's only the names and places of features, and that its dates lie in the interval, are judged.
    """
    source = reused_model(loaded)
    signature = _read_signature(source.signature)
    difference = misfit(loaded, signature)
    if difference is None:
        _check_trees(loaded, source.model, signature)
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


def model_note(loaded: LoadedProject) -> str | None:
    """What a person should know of a model that can be used all the same: that it is a copy, and why."""
    if loaded.project.model.trained_here:
        return None
    try:
        return reused_model(loaded).note
    except EoAssetsError:
        return None  # `model_problem` tells it


def reused_model(loaded: LoadedProject) -> ReusedModel:
    """The files of the model that the project names: another project's live one, or a file of its own folder.

    Where those are gone, or damaged, the copy that this project has made of them before: last year's folder may be put
    away. A copy from another folder than the one that is named now is of another model.
    """
    home = loaded.model_home
    try:
        found = _of_project(loaded, home) if home else _of_file(loaded)
    except (ModelError, StorageRefused) as error:
        copy = _copy(loaded, error)
        if copy is None:
            raise
        return copy
    return replace(found, told={"source": str(found.model), **_origin(loaded), **found.told})


def _origin(loaded: LoadedProject) -> dict[str, str]:
    """What a copy must have been made of."""
    home = loaded.model_home
    if home is None:
        return {"source": str(_named_file(loaded))}
    return {
        "source_project": f"{home.project} {home.year}",
        "source_folder": f"{home.project_folder}/{home.folder}",
    }


def _copy(loaded: LoadedProject, error: EoAssetsError) -> ReusedModel | None:
    """This project's copy of the model that it names, with the error that makes it needed; None where there is none."""
    store = tile_store(loaded)
    record = store.record("model", "model")
    if record is None or any(record.numbers.get(key) != value for key, value in _origin(loaded).items()):
        return None
    try:
        folder = store.intact(record)
    except StoreError:
        return None
    note = f"{error}; the copy that {loaded.project.name} made of it ({record.created}) is used"
    return ReusedModel(folder / MODEL_FILE, folder / SIGNATURE_FILE, record.numbers, note)


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
    """A file of the project folder, or the model in a folder of it: with its signature, which lies beside it."""
    store, source = project_store(loaded), PurePosixPath(str(loaded.project.model.source))
    name = source / MODEL_FILE if store.exists(str(source / MODEL_FILE)) else source
    files = InputFiles(store, "")
    files.path(str(name.with_name(SIGNATURE_FILE)))
    return files.path(str(name))


def _of_file(loaded: LoadedProject) -> ReusedModel:
    return _files(loaded, _named_file(loaded))


def _files(loaded: LoadedProject, model: Path, told: Mapping[str, Any] | None = None) -> ReusedModel:
    """A model and its signature, both of which must be there."""
    beside = model.with_name(SIGNATURE_FILE)
    for file in (model, beside):
        if not file.is_file():
            raise ModelError(
                f"{_key(loaded)}: {file} does not exist; a reused model needs its {SIGNATURE_FILE} beside it"
            )
    return ReusedModel(model, beside, told or {})


def _of_project(loaded: LoadedProject, home: ModelHome) -> ReusedModel:
    """The live model of another project. Nothing is written there, not even who the folder belongs to."""
    store = TileStore(open_store(home.project_folder, s3_access(home.s3)), home.project, {"model": home.folder})
    train = f"eo-assets run {home.file} --only model"
    try:
        record, owner = store.record("model", "model"), store.owner("model")
        if record is None or owner != f"{home.project} {home.year}":
            of = f" of its own ({store.store.place(home.folder)} belongs to {owner})" if record is not None else ""
            raise ModelError(
                f"{_key(loaded)}: {home.project} {home.year} has no model{of} yet; train it first: {train}"
            )
        folder = store.intact(record)
    except StorageRefused:
        raise  # it says itself what to do
    except (StoreError, OSError) as error:
        raise ModelError(f"{_key(loaded)}: {error}: {train}") from None
    return _files(loaded, folder / MODEL_FILE, {"source_recipe": record.recipe[:12]})


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


def _check_trees(loaded: LoadedProject, model: Path, signature: Signature) -> None:
    """Is the file a model, and of as many features as its signature says? Its trees are not loaded for that."""
    remedy = f"put a whole model there, with the {SIGNATURE_FILE} of its training, or train one: model.source: train"
    try:
        with model.open(errors="replace") as lines:
            features = features_of(lines)
    except (OSError, ModelError) as error:
        raise ModelError(f"{_key(loaded)}: {model} can't be used: {error}; {remedy}") from None
    if features != len(signature.columns):
        raise ModelError(
            f"{_key(loaded)}: {model} takes {features} features, and {SIGNATURE_FILE} beside it has "
            f"{len(signature.columns)} columns; {remedy}"
        )


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
