"""The sensor that ends a project's cluster which nobody uses: always on, since a forgotten cluster costs every hour."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import dagster as dg

from eo_assets.cluster import aws_account, cluster_settings
from eo_assets.errors import ClusterError
from eo_assets.project import LoadedProject
from jobs.project_jobs import UNFINISHED_RUNS, project_jobs
from resources.ec2.machines import Machine, end, forgotten, machines

SECONDS = 60
RECENT = 200
"""Runs that are looked at, the latest first, for when the project's last one ended."""


def cluster_guard(loaded: LoadedProject) -> dg.SensorDefinition:
    """`<project>_cluster_guard`: looks at EC2 once a minute; starts nothing."""
    cluster, project = cluster_settings(loaded), loaded.project.name

    @dg.sensor(
        name=f"{project}_cluster_guard",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends the project's machines on EC2 when no run uses them, or when they are too old.",
        target=dg.AssetSelection.assets([project, "aoi"]),
    )
    def guard(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        aws = aws_account(cluster)
        try:
            found = machines(aws, project)
            why = forgotten(found) or (found and _idle(context.instance, loaded, cluster.end_idle_after_minutes, found))
            if not why:
                return dg.SkipReason(f"{len(found)} machines, in use" if found else "no machine is there")
            return dg.SkipReason(f"{why}: {end(aws, project)} machines ended")
        except ClusterError as error:
            return dg.SkipReason(f"EC2 could not be asked: {error}")

    return guard


def _idle(instance: dg.DagsterInstance, loaded: LoadedProject, minutes: int | None, found: Sequence[Machine]) -> str:
    """Why nobody uses the machines; "" if there are none, or somebody does, or did a short while ago.

    Of a run that `eo-assets run --ray ec2` has begun this instance knows nothing: the head itself tells of it.
    """
    project, jobs = loaded.project.name, {job.name for job in project_jobs(loaded)}
    unfinished = instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED_RUNS)))
    if minutes is None or not found or any(_is_of(run, jobs, project) for run in unfinished):
        return ""
    records = instance.get_run_records(limit=RECENT)
    ended = [record.end_time or 0.0 for record in records if _is_of(record.dagster_run, jobs, project)]
    seen = [at.timestamp() for one in found for at in (one.launched, one.used) if at is not None]
    idle = (time.time() - max([*ended, *seen])) / 60
    return f"no run of {project} for {idle:.0f} minutes" if idle > minutes else ""


def _is_of(run: dg.DagsterRun, jobs: Collection[str], project: str) -> bool:
    return run.job_name in jobs or any(key.path[0] == project for key in run.asset_selection or ())
