"""The sensor that deletes old runs: Dagster itself keeps every run, and every event of it, for ever.

`DagsterInstance.delete_run` takes a run's row and all its events. Among them are the materializations by which Dagster
knows that a tile is made, and the attempts by which it knows that one has failed: without them a tile would be missing,
and automation would ask for it again. So the run that an asset's or a tile's present state comes from is kept, however
old. What is committed in the project folder knows nothing of runs and is not touched.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from itertools import islice

import dagster as dg
import sqlalchemy as sa
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.tags import BACKFILL_ID_TAG

from eo_assets.project import LoadedProject
from jobs.project_jobs import UNFINISHED_RUNS, project_jobs

MOST = 200
"""Runs that one look deletes: Dagster gives a sensor a minute."""

PAGE = 200
SECONDS = 3600

EVENTS, CHECKS = SqlEventLogStorageTable, AssetCheckExecutionsTable
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION.value
TRIED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value


def run_retention_sensor(loaded: LoadedProject) -> dg.SensorDefinition:
    """`<project>_run_retention`, for a project that says how long: looks every hour, and starts nothing."""
    project, days = loaded.project.name, loaded.project.automation.keep_runs_days
    assert days is not None

    @dg.sensor(
        name=f"{project}_run_retention",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Deletes runs of {project} that ended more than {days} days ago. Starts nothing.",
        target=dg.AssetSelection.assets([project, "aoi"]),
    )
    def run_retention(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        deleted = delete_old_runs(context.instance, loaded, dt.datetime.now(dt.UTC) - dt.timedelta(days=days))
        context.log.info(f"deleted: {', '.join(deleted) or 'nothing'}")
        return dg.SkipReason(f"deleted {len(deleted)} runs that ended more than {days} days ago")

    return run_retention


def delete_old_runs(instance: dg.DagsterInstance, loaded: LoadedProject, before: dt.datetime) -> list[str]:
    """Delete a project's finished runs that were last changed before a time, `MOST` at once; returns their ids.

    Kept are runs that an asset's state comes from, that belong to an unfinished backfill, or that an unfinished run
    tries again.
    """
    old = [run for run in _finished(instance, before) if _is_of(run, loaded)]
    if not old:
        return []
    kept = live_runs(instance, loaded.project.name) | _waited_for(instance)
    deleted = []
    for run in islice((run for run in old if run.run_id not in kept and not _backfills_on(instance, run)), MOST):
        instance.delete_run(run.run_id)
        deleted.append(run.run_id)
    return deleted


def live_runs(instance: dg.DagsterInstance, project: str) -> set[str]:
    """The runs that hold the latest materialization or attempt of an asset or a partition, or evaluation of a check.

    Why a tile has failed is observed in the run that has tried it last.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise dg.DagsterInvariantViolationError(f"runs of {type(storage).__name__} can't be told old from live")
    mine = EVENTS.c.asset_key.startswith(f'["{project}", ', autoescape=True)
    found: set[str] = set()
    with storage.index_connection() as connection:
        for kind in (MADE, TRIED):
            latest = (
                sa.select(sa.func.max(EVENTS.c.id))
                .where(mine, EVENTS.c.dagster_event_type == kind)
                .group_by(EVENTS.c.asset_key, EVENTS.c.partition)
            )
            asked = sa.select(EVENTS.c.run_id).where(EVENTS.c.id.in_(latest)).distinct()
            found.update(connection.execute(asked).scalars())
    return found | _checking_runs(storage, project)


def _checking_runs(storage: SqlEventLogStorage, project: str) -> set[str]:
    """The runs of the latest evaluation of every check."""
    mine = CHECKS.c.asset_key.startswith(f'["{project}", ', autoescape=True)
    latest = sa.select(sa.func.max(CHECKS.c.id)).where(mine).group_by(CHECKS.c.asset_key, CHECKS.c.check_name)
    with storage.index_connection() as connection:
        return set(connection.execute(sa.select(CHECKS.c.run_id).where(CHECKS.c.id.in_(latest))).scalars())


def _finished(instance: dg.DagsterInstance, before: dt.datetime) -> Iterator[dg.DagsterRun]:
    """Finished runs that nothing has changed since, oldest first."""
    filters = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    cursor: str | None = None
    while runs := instance.get_runs(filters, cursor=cursor, limit=PAGE, ascending=True):
        yield from runs
        cursor = runs[-1].run_id


def _is_of(run: dg.DagsterRun, loaded: LoadedProject) -> bool:
    """Is it one of the project's jobs, or of assets of this project alone?"""
    if run.job_name in {job.name for job in project_jobs(loaded)}:
        return True
    chosen: Collection[dg.AssetKey] = run.asset_selection or ()
    return bool(chosen) and all(key.path[0] == loaded.project.name for key in chosen)


def _waited_for(instance: dg.DagsterInstance) -> set[str]:
    """The runs that unfinished ones try again."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED_RUNS)))
    return {run for each in unfinished for run in (each.parent_run_id, each.root_run_id) if run}


def _backfills_on(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Is its backfill unfinished?"""
    backfill = instance.get_backfill(run.tags[BACKFILL_ID_TAG]) if BACKFILL_ID_TAG in run.tags else None
    return backfill is not None and backfill.status not in BULK_ACTION_TERMINAL_STATUSES
