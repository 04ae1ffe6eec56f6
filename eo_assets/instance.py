"""The Dagster instance of a project: `<project folder>/.dagster` unless DAGSTER_HOME says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from eo_assets.project import LoadedProject
from resources.object_store import open_store

CONFIG = """\
# The Dagster instance of this project: events and runs in SQLite beside this file.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def dagster_home(loaded: LoadedProject) -> Path:
    """The instance's folder, with a configuration in it."""
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named) if named else open_store(loaded.project_folder).path(".dagster")
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(CONFIG)
    return home.resolve()


def open_instance(loaded: LoadedProject) -> dg.DagsterInstance:
    """The instance that the UI shows too."""
    home = dagster_home(loaded)
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.from_config(str(home))
