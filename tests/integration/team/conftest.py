"""One deployment for all tests of this folder: Debian's Postgres, a bucket, a project of four tiles, the four units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.project_jobs import AREA
from tests.seaweed import Seaweed, seaweed
from tests.simulation.postgres import PROGRAMS, Postgres, postgres
from tests.simulation.proxy import NGINX, SECRET, Person, proxy
from tests.simulation.team import BUCKET, Team, team
from tests.simulation.world import Simulation, simulated

KEPT_DAYS = 90
STAGES = ("tiffs", "eopatches")


@pytest.fixture(scope="package")
def database() -> Iterator[Postgres]:
    """An empty database of Debian's server."""
    if not (PROGRAMS / "postgres").exists():
        pytest.skip(f"no {PROGRAMS}/postgres: apt-get install postgresql-15")
    with postgres() as server:
        yield server


@pytest.fixture(scope="package")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server with the bucket of the logs."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="package")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    """A project of four tiles."""
    with simulated(tmp_path_factory.mktemp("team") / "simulated", 4) as made:
        yield made


@pytest.fixture(scope="package")
def dagster(
    database: Postgres, bucket: Seaweed, simulation: Simulation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    """What the units start, over one instance for all tests here."""
    home = tmp_path_factory.mktemp("var") / "dagster"
    loaded = simulation.open({"automation": {"keep_runs_days": KEPT_DAYS}})
    secret = {"EO_ASSETS_PROXY_SECRET": SECRET}
    with team(loaded, home, database.url, bucket.environment(), **secret) as started:
        yield started


@pytest.fixture(scope="package")
def person(dagster: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who comes through nginx and is not signed in yet."""
    if not Path(NGINX).exists():
        pytest.skip(f"no {NGINX}: apt-get install nginx-light")
    with proxy(dagster, tmp_path_factory.mktemp("nginx"), dagster.port, dagster.ports["3001"]) as found:
        yield found


@pytest.fixture(scope="package")
def backfilled(dagster: Team) -> dict[str, Any]:
    """A backfill of two stages over all tiles, launched as the UI does, once it has ended."""
    assert dagster.wait_for_run(dagster.materialize(AREA)) == "SUCCESS", dagster.said("daemon")[-3000:]
    return dagster.wait_for_backfill(dagster.backfill(STAGES))
