"""The Dagster instance of a project: what its configuration says, and that a configuration of one's own stays."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import PoolGranularity

from eo_assets.definitions import build_definitions, open_project
from eo_assets.instance import dagster_home, open_instance
from eo_assets.pools import pools
from resources.dagster_s3 import BucketLogs
from resources.workspaces import HOME_VARIABLE
from tests.simulation.daemon import ROOT
from tests.simulation.team import setting
from tests.simulation.world import write_simulation

PASSWORD = "postgresql+psycopg2://somebody:secret@localhost/events"


@pytest.fixture(autouse=True)
def _no_instance_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")  # taken note of, so that what a test sets is forgotten again
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.delenv("EO_ASSETS_POSTGRES_URL", raising=False)


def test_runs_wait_for_one_another_in_every_project(tmp_path: Path) -> None:
    loaded = write_simulation(tmp_path, 4).open()
    other = loaded.model_copy(update={"project": loaded.project.model_copy(update={"name": "other"})})
    with open_instance(loaded, other) as instance:
        settings = instance.get_concurrency_config()
        assert settings.pool_config.pool_granularity is PoolGranularity.RUN
        assert settings.run_queue_config is not None and settings.run_queue_config.max_concurrent_runs == 4
        assert instance.run_monitoring_enabled and not instance.telemetry_enabled
        limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    assert limits == dict.fromkeys([*pools("simulated"), *pools("other")], 1)
    graph = build_definitions([loaded]).resolve_asset_graph()
    used = {pool for key in graph.get_all_asset_keys() for pool in graph.get(key).pools or ()}
    assert used == set(pools("simulated"))


def test_a_deployment_knows_its_pools_before_its_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command of the code location's unit: what a person has set since stays."""
    loaded = write_simulation(tmp_path, 4).open()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "instance"))
    monkeypatch.setenv("EO_ASSETS_PROJECTS", str(loaded.file))
    program, *words = shlex.split(setting("code", "ExecStartPre"))
    assert program == "/opt/eo-assets/bin/python"
    for wanted in (1, 3):
        subprocess.run([sys.executable, "-W", "ignore", *words], check=True, cwd=ROOT)
        with dg.DagsterInstance.from_config(str(tmp_path / "instance")) as instance:
            limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
            instance.event_log_storage.set_concurrency_slots("simulated_tiles", 3)
        assert limits == {**dict.fromkeys(pools("simulated"), 1), "simulated_tiles": wanted}


def test_a_limit_that_a_person_has_set_stays(tmp_path: Path) -> None:
    loaded = write_simulation(tmp_path, 4).open()
    with open_instance(loaded) as instance:
        instance.event_log_storage.set_concurrency_slots("simulated_tiles", 3)
    with open_instance(loaded) as instance:
        limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    assert limits["simulated_tiles"] == 3


def test_a_configuration_of_ones_own_is_not_touched(tmp_path: Path) -> None:
    loaded = write_simulation(tmp_path, 4).open()
    (tmp_path / ".dagster").mkdir()
    (tmp_path / ".dagster/dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert (dagster_home(loaded) / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_events_go_to_postgres_where_the_environment_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EO_ASSETS_POSTGRES_URL", PASSWORD)
    text = (dagster_home(write_simulation(tmp_path, 4).open()) / "dagster.yaml").read_text()
    assert yaml.safe_load(text)["storage"] == {"postgres": {"postgres_url": {"env": "EO_ASSETS_POSTGRES_URL"}}}
    assert "secret" not in text and os.environ["EO_ASSETS_POSTGRES_URL"] == PASSWORD


def test_every_launch_is_a_job_over_its_partitions(tmp_path: Path) -> None:
    definitions = build_definitions([write_simulation(tmp_path, 4).open()])
    partitions = {"tiles": "simulated/tiles", "predict": "simulated/tiles", "map": "simulated/zones"}
    for launch in ("area", "plan", "tiles", "train", "predict", "map", "publish"):
        found = definitions.resolve_job_def(f"simulated_{launch}").partitions_def
        assert (found.name if isinstance(found, dg.DynamicPartitionsDefinition) else None) == partitions.get(launch)


def test_compute_logs_of_a_bucket_go_into_it_by_the_profile_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[profile other]\naws_access_key_id = A\naws_secret_access_key = B\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # dagster-aws makes a client without the profile first
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    file = tmp_path / "project.yaml"
    file.write_text("extends: demo\nstorage: {project_folder: s3://bucket/prefix, s3: {profile: other}}\n")
    with open_instance(open_project(str(file))) as instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, BucketLogs)
        assert (manager._s3_bucket, manager._s3_prefix) == ("bucket", "prefix/logs/dagster")
        assert manager._s3_session._request_signer._credentials.access_key == "A"
