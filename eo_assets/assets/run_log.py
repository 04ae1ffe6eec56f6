"""A log file for every run: `logs/<run>/run.log` under the project folder, whoever launched it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from eo_assets.assets.alive import show_alive
from eo_assets.errors import EoAssetsError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import in_bucket, machine_home, project_store

RUN_TAG = "eo-assets/run"
"""Runs that belong together carry one name in this tag; a run without it is named by its Dagster id."""

LOG_FILE = "run.log"
LOGGERS = ("eo_assets", "resources")


def log_folder(loaded: LoadedProject, run: str) -> Path:
    """Where the log and the report of a run are written."""
    return machine_home(loaded) / _key(loaded, run)


def log_place(loaded: LoadedProject, run: str, name: str) -> str:
    """Where a file of a run is found."""
    return project_store(loaded).place(f"{_key(loaded, run)}/{name}")


def keep_log(loaded: LoadedProject, run: str, name: str) -> None:
    """Put a file of a run where it is found, if it was written elsewhere."""
    file = log_folder(loaded, run) / name
    if in_bucket(loaded) and file.exists():
        project_store(loaded).put_file(f"{_key(loaded, run)}/{name}", file)


def _key(loaded: LoadedProject, run: str) -> str:
    return f"{loaded.project.folder('logs')}/{run}"


@contextlib.contextmanager
def run_log(loaded: LoadedProject, context: dg.AssetExecutionContext) -> Iterator[None]:
    """Write what the run logs, and what our own modules log meanwhile, to the run's file; and show that it lives."""
    show_alive(context.instance, context.run.run_id)
    if not loaded.project.logging.save:
        yield
        return
    name = context.run.tags.get(RUN_TAG, context.run.run_id)
    folder = log_folder(loaded, name)
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / LOG_FILE)
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)-7s %(message)s"))
    loggers = [context.log, *(logging.getLogger(name) for name in LOGGERS)]
    levels = [(logger, logger.level) for logger in loggers[1:]]
    for logger in loggers[1:]:
        logger.setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        context.log.info(f"{context.op_execution_context.op.name} of {loaded.project.name}")
        yield
    except BaseException as error:
        context.log.error(f"{type(error).__name__}: {error}")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        for logger, level in levels:
            logger.setLevel(level)
        handler.close()
        try:
            keep_log(loaded, name, LOG_FILE)
        except EoAssetsError as error:  # in the place of what the run says itself it would hide it
            context.log.warning(f"the log stays on this machine, in {folder}: {error}")


class _PlainFormatter(logging.Formatter):
    """Without the job, run and step that Dagster puts before every message: the file is about one run."""

    def format(self, record: logging.LogRecord) -> str:
        said = getattr(record, "dagster_meta", {}).get("orig_message")
        plain = logging.makeLogRecord({**record.__dict__, "msg": said, "args": ()}) if said else record
        return super().format(plain)
