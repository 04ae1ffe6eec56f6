"""Checks of the model: its parameters, of which LightGBM passes over those that it does not know, and its source."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eo_assets.project import Model, ModelHome, ModelOfProject
from eo_assets.project_problems import Finding, did_you_mean

PARAMETERS = "https://lightgbm.readthedocs.io/en/stable/Parameters.html"
SET_BY_KIND = frozenset({"objective", "num_class"})
SET_BY_TRAINING = frozenset({"seed", "deterministic", "force_row_wise", "verbosity"})
"""What `core.model` sets first. Under this name a project may override it; LightGBM passes over every other name."""

FILES_AND_MACHINES = frozenset({
    "config", "convert_model", "convert_model_language", "data", "forcedbins_filename", "forcedsplits_filename",
    "group_column", "header", "ignore_column", "input_model", "label_column", "local_listen_port",
    "machine_list_filename", "machines", "num_machines", "output_model", "output_result", "parser_config_file",
    "pre_partition", "precise_float_parser", "save_binary", "snapshot_freq", "task", "time_out", "tree_learner",
    "two_round", "valid", "weight_column",
})  # fmt: skip
"""LightGBM would read, write or listen where no project folder is looked after, or pass over them."""


def check_model_home(
    home: ModelHome, file: Path, project_folder: str, sections: Mapping[str, Any]
) -> Iterator[Finding]:
    """Another project's model is another project's, and lies where this one's will not."""
    named: ModelOfProject = sections["model"].source
    key = ("model", "source", "project")
    if home.file == file:
        yield Finding(key, named.project, "this project itself", "name the project that has trained it, or write train")
    elif "storage" in sections and "year" in sections and project_folder == home.project_folder:
        folder = sections["storage"].structure.model
        if folder.replace("{year}", str(sections["year"])) == home.folder:
            what = f"keeps its model where this project would: {project_folder}/{home.folder}"
            remedy = "give this project another storage.project_folder, or storage.structure.model: models/{year}"
            yield Finding(key, named.project, what, remedy)


def check_parameters(model: Model) -> Iterator[Finding]:
    """A parameter is one that LightGBM knows, given once, and nothing that another key or eo-assets decides."""
    if not model.parameters:
        return
    known = _known_parameters()
    given: dict[str, str] = {}
    for name, value in model.parameters.items():
        key, parameter = ("model", "parameters", name), known.get(name)
        if parameter is None:
            yield Finding(key, value, "not a parameter of LightGBM", f"{did_you_mean(name, known)}see {PARAMETERS}")
        elif fault := _refused(name, parameter, value):
            yield Finding(key, value, *fault)
        elif parameter in given:
            what = f"another name of {given[parameter]}, which is given too"
            yield Finding(key, value, what, "keep one of them")
        else:
            given[parameter] = name


@cache
def _known_parameters() -> Mapping[str, str]:
    """Every name that LightGBM understands, aliases too, with the parameter that it stands for."""
    return {alias: parameter for parameter, aliases in _aliases().items() for alias in (parameter, *aliases)}


def _aliases() -> Mapping[str, Sequence[str]]:
    """Other names by parameter, of LightGBM's library alone: its package brings scikit-learn, which takes seconds."""
    found = find_spec("lightgbm")
    assert found is not None and found.submodule_search_locations is not None
    library = ctypes.CDLL(str(Path(found.submodule_search_locations[0], "lib", "lib_lightgbm.so")))
    text, length = ctypes.create_string_buffer(1 << 20), ctypes.c_int64()
    if library.LGBM_DumpParamAliases(ctypes.c_int64(len(text)), ctypes.byref(length), text) or length.value > len(text):
        raise RuntimeError("LightGBM does not tell its parameters")
    names: dict[str, list[str]] = json.loads(text.value)
    return names


def _refused(name: str, parameter: str, value: object) -> tuple[str, str] | None:
    """What is wrong with a parameter that LightGBM knows, and what to do; None where nothing is."""
    if parameter in SET_BY_KIND:
        what = f"LightGBM's {parameter}, which model.kind and the labels set"
        return what, "remove it, and choose model.kind"
    if parameter in FILES_AND_MACHINES:
        return "about files or machines, which LightGBM is not told of here", "remove it"
    if parameter == "early_stopping_round":
        what = "nothing to stop on, since a model is trained without a validation set"
        return what, "remove it, and set n_estimators"
    if parameter in SET_BY_TRAINING and name != parameter:
        what = f"LightGBM would not look at it, since training sets {parameter}"
        return what, f"write {parameter}: {value}"
    return None
