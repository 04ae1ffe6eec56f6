"""Old runs of a project are deleted from Postgres by the sensor, and the UI tells of every tile what it told before."""

from __future__ import annotations

from typing import Any

from tests.integration.team.conftest import KEPT_DAYS, STAGES
from tests.simulation.daemon import LOCATION, REPOSITORY, Servers
from tests.simulation.postgres import Postgres
from tests.simulation.team import Team

LOOK = """mutation($sensor: SensorSelector!) { sensorDryRun(selectorData: $sensor, cursor: null) { __typename
  ... on DryRunInstigationTick { evaluationResult { skipReason error { message } } }
  ... on PythonError { message } } }"""


def look(dagster: Servers) -> str:
    """What the sensor says after a look, as the UI's button makes it take one."""
    name = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "sensorName": "simulated_run_retention"}
    result = dagster.ask(LOOK, sensor=name)["sensorDryRun"]["evaluationResult"]
    assert result["error"] is None, result
    return str(result["skipReason"])


def runs(database: Postgres) -> set[str]:
    """The runs that are there."""
    return {run for (run,) in database.rows("SELECT run_id FROM runs")}


def test_old_runs_go_but_for_those_that_tell_what_is_made(
    backfilled: dict[str, Any], dagster: Team, database: Postgres
) -> None:
    again = dagster.wait_for_backfill(dagster.backfill(STAGES))
    superseded, live = ({run["runId"] for run in each["runs"]} for each in (backfilled, again))
    assert superseded | live <= runs(database) and not superseded & live
    states = {stage: dagster.partition_states(stage) for stage in STAGES}
    assert look(dagster).startswith("deleted 0 runs"), "none is old"

    unfinished = min(superseded)
    database.write("UPDATE runs SET update_timestamp = update_timestamp - interval '91 days'")
    database.write(f"UPDATE runs SET status = 'NOT_STARTED' WHERE run_id = '{unfinished}'")
    told = look(dagster)
    left = runs(database)
    assert superseded & left == {unfinished} and live < left, told
    database.write(f"UPDATE runs SET status = 'SUCCESS' WHERE run_id = '{unfinished}'")
    assert look(dagster) == f"deleted 1 runs that ended more than {KEPT_DAYS} days ago"

    assert runs(database) == left - {unfinished}
    events = {run for (run,) in database.rows("SELECT DISTINCT run_id FROM event_logs WHERE run_id <> ''")}
    assert events <= runs(database), "no event of a run that is gone"
    assert {stage: dagster.partition_states(stage) for stage in STAGES} == states
    assert look(dagster).startswith("deleted 0 runs"), "what tells the state of an asset stays"
