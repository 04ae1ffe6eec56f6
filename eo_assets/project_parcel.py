"""A project as a handful of files that mean the same on another machine: nothing extended, no variable, no path out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from eo_assets.project import LoadedProject
from eo_assets.project_problems import Finding, KeyPath
from eo_assets.project_variables import substitute
from eo_assets.project_yaml import Text, find_project, read_text

PROJECT_FILE = "project.yaml"
MODEL_HOME_FILE = "model_home.yaml"
SCRIPTS: tuple[KeyPath, ...] = (("imagery", "evalscript"), ("reference", "source", "evalscript"))


def parcel(loaded: LoadedProject, environment: Mapping[str, str]) -> dict[str, bytes]:
    """The files by name, `project.yaml` among them, of a project that was checked in this environment.

    Values of variables stand in it in clear: it is for the eyes of its user only.
    """
    text = read_text(loaded.file)
    data = _filled(text, environment)
    data["storage"] = {**data["storage"], "project_folder": loaded.project_folder}
    files: dict[str, bytes] = {}
    for key in SCRIPTS:
        holder = _inner(data, key[:-1])
        if holder is not None and isinstance(holder.get(key[-1]), str):
            name = f"{key[0]}.js"
            files[name] = (text.origin(key).parent / holder[key[-1]]).read_bytes()
            holder[key[-1]] = name
    source = (_inner(data, ("model",)) or {}).get("source")
    if loaded.model_home is not None and isinstance(source, dict):
        files[MODEL_HOME_FILE] = _dumped(_model_home(loaded.model_home.file, loaded, environment))
        source["project"] = MODEL_HOME_FILE
    return {PROJECT_FILE: _dumped(data), **files}


def _model_home(file: Path, loaded: LoadedProject, environment: Mapping[str, str]) -> dict[str, Any]:
    """What is read of the project whose model is used: whose it is, and where it lies."""
    data = _filled(read_text(find_project(file, file.parent)), environment)
    said = {key: data[key] for key in ("name", "year", "storage")}
    home = loaded.model_home
    said["storage"] = {**said["storage"], "project_folder": home.project_folder if home else ""}
    return said


def _filled(text: Text, environment: Mapping[str, str]) -> dict[str, Any]:
    nothing: list[Finding] = []  # whatever is wrong was told when the project was loaded
    filled: dict[str, Any] = substitute(text.data, environment, nothing)
    return filled


def _inner(data: Any, key: KeyPath) -> dict[str, Any] | None:
    for part in key:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def _dumped(data: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120).encode()
