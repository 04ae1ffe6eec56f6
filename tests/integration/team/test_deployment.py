"""The Dagster of a team as deploy/dagster/ describes it: Debian's Postgres, logs in a bucket, what the units start."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.project_jobs import AREA
from tests.integration.team.conftest import STAGES
from tests.seaweed import Seaweed
from tests.simulation.daemon import Servers
from tests.simulation.postgres import Postgres
from tests.simulation.team import BUCKET, Team
from tests.simulation.world import Simulation

LOGS = """query($run: ID!) { runOrError(runId: $run) { ... on Run { eventConnection(limit: 1000) { events {
  ... on LogsCapturedEvent { fileKey } } } } } }"""
BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } } }"
TEXT = "query($key: [String!]!) { capturedLogs(logKey: $key) { stdout stderr } }"


def test_a_backfill_is_completed_and_all_its_events_are_in_postgres(
    backfilled: dict[str, Any], dagster: Team, database: Postgres, simulation: Simulation
) -> None:
    assert backfilled["status"] == "COMPLETED_SUCCESS"
    for stage in STAGES:
        assert sorted(dagster.partition_states(stage)["materialized"]) == simulation.names
    counts = dict(
        database.rows(
            "SELECT asset_key, count(DISTINCT partition) FROM event_logs "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition IS NOT NULL GROUP BY asset_key"
        )
    )
    assert {stage: counts[f'["simulated", "{stage}"]'] for stage in STAGES} == dict.fromkeys(STAGES, 4)
    runs = {run for (run,) in database.rows("SELECT run_id FROM runs WHERE status = 'SUCCESS'")}
    assert {run["runId"] for run in backfilled["runs"]} < runs
    assert not list(dagster.home.rglob("*.db")), "no SQLite beside it"


def test_what_runs_print_is_in_the_bucket_and_is_shown_by_the_ui(
    backfilled: dict[str, Any], dagster: Team, bucket: Seaweed
) -> None:
    for run in backfilled["runs"]:
        prefix = f"dagster-logs/storage/{run['runId']}/"
        keys = [found["Key"] for found in bucket.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
        assert {key.rpartition(".")[2] for key in keys} == {"out", "err"}
        events = dagster.ask(LOGS, run=run["runId"])["runOrError"]["eventConnection"]["events"]
        (name,) = (event["fileKey"] for event in events if event)
        shown = dagster.ask(TEXT, key=[run["runId"], "compute_logs", name])["capturedLogs"]
        stored = bucket.client().get_object(Bucket=BUCKET, Key=next(key for key in keys if key.endswith(".err")))
        assert shown["stderr"] == stored["Body"].read().decode()


def test_guests_see_what_is_made_and_launch_nothing(backfilled: dict[str, Any], dagster: Team) -> None:
    guest: Servers = dagster.as_guest()
    seen = guest.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]
    assert [found["status"] for found in seen] == [backfilled["status"]]
    with pytest.raises(RuntimeError, match="UnauthorizedError"):
        guest.backfill(STAGES)
    with pytest.raises(RuntimeError, match="UnauthorizedError"):
        guest.materialize(AREA)
