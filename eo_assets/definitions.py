"""The code location: every project's assets, jobs and what they stand on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from eo_assets.assets.area_graph import area_assets
from eo_assets.assets.byoc import byoc_assets
from eo_assets.assets.cost_estimate import cost_assets
from eo_assets.assets.maps import map_assets
from eo_assets.assets.progress import LogProgress
from eo_assets.assets.tile_stages import tile_assets
from eo_assets.assets.training import training_assets
from eo_assets.errors import ProjectError
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from eo_assets.stages.build import in_bucket, s3_access, tile_store
from jobs.aoi_sensor import aoi_sensor
from jobs.automation import automated, automation_sensor
from jobs.cluster_guard import cluster_guard
from jobs.lost_runs import lost_runs_sensor
from jobs.project_jobs import project_jobs
from jobs.run_retention import run_retention_sensor
from jobs.schedules import retry_schedule
from resources.dagster_s3 import s3_key, s3_resource
from resources.io_managers import CogIOManager, EOPatchIOManager, ModelIOManager, TableIOManager, TiffsIOManager
from resources.local_sentinel_hub.evalscript import inspect_script
from resources.ray_cluster import ray_cluster

PROJECTS_VARIABLE = "EO_ASSETS_PROJECTS"


def open_project(name_or_path: str) -> LoadedProject:
    """A checked project, as every command and the code location read it."""
    return load_project(name_or_path, inspect_script=inspect_script, environment=os.environ, working_folder=Path.cwd())


def build_definitions(projects: Sequence[LoadedProject], **resource_overrides: Any) -> dg.Definitions:
    """All assets and jobs of the projects. Keys are prefixed with the project's name, so projects never touch.

    `resource_overrides` replace resources by name: `ray_cluster`, `progress`, the IO managers, `<project>_s3`.
    """
    names = [loaded.project.name for loaded in projects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        files = ", ".join(str(loaded.file) for loaded in projects if loaded.project.name in twice)
        raise ProjectError(f"{files}: name: {twice[0]}: two projects have one name; rename one of them")
    stores = {loaded.project.name: tile_store(loaded) for loaded in projects}
    resources: dict[str, Any] = {
        "ray_cluster": ray_cluster(),
        "progress": dg.ResourceDefinition.hardcoded_resource(LogProgress()),
        "eopatch_io_manager": EOPatchIOManager(stores),
        "tiffs_io_manager": TiffsIOManager(stores),
        "table_io_manager": TableIOManager(stores),
        "model_io_manager": ModelIOManager(stores),
        "cog_io_manager": CogIOManager(stores),
        **{
            s3_key(loaded.project.name): s3_resource(s3_access(loaded.project.storage.s3))
            for loaded in projects
            if in_bucket(loaded)
        },
        **resource_overrides,
    }
    builders = (area_assets, cost_assets, tile_assets, training_assets, map_assets, byoc_assets)
    with warnings.catch_warnings():
        # Backfill policies are marked as beta by Dagster; they are pinned with its minor version.
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [asset for loaded in projects for build in builders for asset in automated(loaded, build(loaded))]
        sensors = [automation_sensor(loaded) for loaded in projects]
    return dg.Definitions(
        assets=assets,
        jobs=[job for loaded in projects for job in project_jobs(loaded)],
        sensors=[
            *sensors,
            *(aoi_sensor(loaded) for loaded in projects),
            *map(lost_runs_sensor, names),
            *(
                run_retention_sensor(loaded)
                for loaded in projects
                if loaded.project.automation.keep_runs_days is not None
            ),
            *(cluster_guard(loaded) for loaded in projects if loaded.project.cluster is not None),
        ],
        schedules=[retry_schedule(loaded) for loaded in projects if loaded.project.automation.retry_failed],
        resources=resources,
        executor=dg.in_process_executor,
    )


def named_projects() -> list[LoadedProject]:
    """The projects named in EO_ASSETS_PROJECTS, separated by commas: files, or names of projects that ship."""
    named = os.environ.get(PROJECTS_VARIABLE, "demo").split(",")
    return [open_project(name.strip()) for name in named if name.strip()]


@dg.definitions
def defs() -> dg.Definitions:
    """Of the projects named in EO_ASSETS_PROJECTS."""
    return build_definitions(named_projects())
