"""The Dagster instance of a project: `<project folder>/.dagster` unless DAGSTER_HOME says otherwise.

Of a project in a bucket it lies on this machine, see `resources/workspaces.py`; a team shares one in Postgres.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from eo_assets.pools import pools
from eo_assets.project import LoadedProject
from eo_assets.stages.build import in_bucket, machine_home
from resources.local_folder import LocalFolder

POSTGRES_VARIABLE = "EO_ASSETS_POSTGRES_URL"

CONFIG = """\
# The Dagster instance of this project. Written once: what is changed here stays.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  # Of all projects together, whatever was launched: the others wait in the queue.
  runs:
    max_concurrent_runs: 4
  # Each project has a pool for its tiles and one for each step that spans them: one run at a time in each.
  pools:
    granularity: run
    default_limit: 1
run_monitoring:
  enabled: true
  # Until a run starts an event is stored for each of its tiles and stages: minutes for a thousand on a busy machine.
  start_timeout_seconds: 1800
  poll_interval_seconds: 20
# A run whose process vanished is started once more, and goes on from what is committed. One that failed is not.
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false
"""

POSTGRES = f"""\
# Events, runs and schedules in Postgres; the address with its password stays in the variable.
storage:
  postgres:
    postgres_url:
      env: {POSTGRES_VARIABLE}
"""


COMPUTE_LOGS = """\
# What runs print, beside the project's own logs in the bucket: every machine's UI shows it.
compute_logs:
  module: resources.dagster_s3
  class: BucketLogs
  config:
"""


def dagster_home(loaded: LoadedProject) -> Path:
    """The instance's folder, with a configuration in it: that which is there, or a new one.

    A new one keeps events in SQLite beside it, or in Postgres if EO_ASSETS_POSTGRES_URL says where.
    """
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named) if named else machine_home(loaded) / ".dagster"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        config = CONFIG + (POSTGRES if os.environ.get(POSTGRES_VARIABLE) else "") + _compute_logs(loaded)
        LocalFolder(home).create("dagster.yaml", config.encode())  # whole at once: another run may be reading it
    return home.resolve()


def _compute_logs(loaded: LoadedProject) -> str:
    s3 = loaded.project.storage.s3
    if not in_bucket(loaded):
        return ""
    bucket, _, prefix = loaded.project_folder.removeprefix("s3://").partition("/")
    said = {
        "bucket": bucket,
        "prefix": "/".join(part for part in (prefix, loaded.project.folder("logs"), "dagster") if part),
        "endpoint_url": s3.endpoint,
        "region": s3.region,
        "profile": s3.profile,
        "addressing": s3.addressing,
    }
    return COMPUTE_LOGS + "".join(f"    {key}: {json.dumps(value)}\n" for key, value in said.items() if value)


def open_instance(*projects: LoadedProject) -> dg.DagsterInstance:
    """The instance that the UI shows too, of one project or of several that share the first one's."""
    home = dagster_home(projects[0])
    os.environ["DAGSTER_HOME"] = str(home)
    # Two that make the tables of a new home at once would be in one another's way.
    with LocalFolder(home).exclusive("instance", waiting=lambda: None):
        instance = dg.DagsterInstance.from_config(str(home))
        _make_tables(instance)
        _make_pools_known(instance, projects)
    return instance


def _make_tables(instance: dg.DagsterInstance) -> None:
    """Dagster makes the tables of a storage when it is first looked at."""
    instance.get_runs_count()
    instance.all_instigator_state()


def _make_pools_known(instance: dg.DagsterInstance, projects: Sequence[LoadedProject]) -> None:
    """The run queue overlooks the limit of a pool that it meets for the first time. A limit that is set stays."""
    events = instance.event_log_storage
    known = {limit.name for limit in events.get_pool_limits()}
    for name in (pool for loaded in projects for pool in pools(loaded.project.name)):
        if name not in known:
            events.initialize_concurrency_limit_to_default(name)
