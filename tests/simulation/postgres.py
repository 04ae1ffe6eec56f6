"""A Postgres of this machine for a test or a measurement: Debian's server, a private folder, a free port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import yaml

from tests.simulation.daemon import free_port

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
"""Postgres refuses to run as root: it runs as the user that Debian made for it."""


@dataclass(frozen=True)
class Postgres:
    """A running server with an empty database."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address; SQLAlchemy has to be told the driver."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def config(self) -> str:
        """The `storage` section of a dagster.yaml."""
        return yaml.safe_dump({"storage": {"postgres": {"postgres_url": self.url}}})

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        address = f"host=127.0.0.1 port={self.port} user={USER} dbname=postgres"
        with contextlib.closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def write(self, statement: str) -> None:
        """Change what is stored, behind the back of whoever stored it."""
        address = f"host=127.0.0.1 port={self.port} user={USER} dbname=postgres"
        with contextlib.closing(psycopg2.connect(address)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def size_mb(self) -> float:
        """Bytes of the database in MB: tables with their indices."""
        return float(round(self.rows("SELECT pg_database_size('postgres')")[0][0] / 1e6, 1))


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A server on a free port, as Debian configures it but for the address; nothing of it is left behind."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    process = None
    try:
        if os.getuid() == 0:
            shutil.chown(folder, USER)
        data, port = folder / "data", free_port()
        initdb = [str(PROGRAMS / "initdb"), "-D", str(data), "-U", USER, "-A", "trust"]
        subprocess.run([*_as_postgres(), *initdb], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
        server = [*_as_postgres(), str(PROGRAMS / "postgres"), "-D", str(data), *options]
        process = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        _wait_for(port)
        yield Postgres(port, process.pid)
    finally:
        if process is not None:
            process.terminate()
            process.wait(60)
        shutil.rmtree(folder)


def _as_postgres() -> list[str]:
    """Become the user where we are root; the process keeps its id, so that it can be ended."""
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam(USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres").close()
            return
        time.sleep(0.2)
    raise TimeoutError(f"Postgres does not answer on port {port}")
