"""Whole graphs over the made-up scene in a bucket of a real S3 server: one server, a new project for each test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eo_assets.project import LoadedProject
from resources.bucket_requests import forget_clients
from resources.local_sentinel_hub.server import stop
from resources.workspaces import HOME_VARIABLE, machine_folder
from tests.integration.conftest import Graph, graph_of, write_project, write_world
from tests.seaweed import Seaweed, seaweed

BUCKET = "projects"
ROOT = Path(__file__).parents[3]
AWS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command said, on both of its outputs, and how it ended."""

    code: int
    said: str


@dataclass(frozen=True)
class InBucket:
    """A project in a bucket, its inputs there, nothing made yet. `s3` is a plain boto3 client of the server's admin."""

    file: Path
    loaded: LoadedProject
    server: Seaweed
    s3: Any

    @property
    def prefix(self) -> str:
        """The project folder's prefix."""
        return self.loaded.project_folder.removeprefix(f"s3://{BUCKET}/")

    @property
    def machine(self) -> Path:
        """What the project keeps on this machine."""
        return machine_folder(self.loaded.project_folder)

    def put(self, key: str, body: bytes) -> None:
        """Upload a file of the project as anybody does."""
        self.s3.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}", Body=body)

    def get(self, key: str) -> bytes:
        """A file of the project."""
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}")["Body"].read())

    def keys(self, prefix: str = "") -> dict[str, int]:
        """The keys under a prefix, and their sizes."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/{prefix}")
        found = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(f"{self.prefix}/"): entry["Size"] for entry in found}

    def start(self, *words: str, **environment: str | None) -> subprocess.Popen[str]:
        """`eo-assets WORDS PROJECT`, as a user runs it; None takes a variable out of its environment."""
        now = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", words[0], str(self.file), *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in now.items() if value is not None},
            cwd=self.file.parent,
            start_new_session=True,
        )

    def command(self, *words: str, timeout_s: float = 240, **environment: str | None) -> Answer:
        """The same, to its end."""
        process = self.start(*words, **environment)
        said, _ = process.communicate(timeout=timeout_s)
        return Answer(process.returncode, said)


def children(pid: int) -> set[int]:
    """A process and all that it started and that still know it as their ancestor, or its session."""
    found = {pid}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == pid or int(fields[1]) in found:
                found.add(int(entry.name))
    return found


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        running.make_bucket(BUCKET)
        yield running


@contextlib.contextmanager
def reached(server: Seaweed, folder: Path) -> Iterator[None]:
    """The admin's key and the server in the environment, and nothing of the user's AWS configuration."""
    with pytest.MonkeyPatch.context() as environment:
        for name in AWS:
            environment.delenv(name, raising=False)
        for name, value in server.environment().items():
            environment.setenv(name, value)
        environment.setenv("AWS_CONFIG_FILE", str(folder / "aws-config"))
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "aws-credentials"))
        environment.setenv(HOME_VARIABLE, str(folder / "machine"))
        forget_clients()
        yield
    forget_clients()


@pytest.fixture
def s3_environment(s3_server: Seaweed, tmp_path: Path) -> Iterator[None]:
    """The environment of somebody who works in a bucket of the server, for a test."""
    with reached(s3_server, tmp_path):
        yield


@pytest.fixture
def in_bucket(s3_server: Seaweed, s3_environment: None, tmp_path: Path) -> Iterator[Callable[..., InBucket]]:
    """`in_bucket(changes)`: the project of the made-up scene under a new prefix."""
    made: list[InBucket] = []

    def make(changes: Mapping[str, Any] | None = None, upload: bool = True) -> InBucket:
        made.append(new_project(s3_server, tmp_path / f"project-{len(made)}", changes, upload))
        return made[-1]

    yield make
    for project in made:
        stop(project.machine / "sentinel-hub")


@pytest.fixture(scope="module")
def fields_in_bucket(s3_server: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """The whole graph in a bucket, run once by a command, seen from a process that made none of it."""
    folder = tmp_path_factory.mktemp("fields-in-bucket")
    with reached(s3_server, folder):
        project = new_project(s3_server, folder / "project")
        try:
            answer = project.command("run")
            assert answer.code == 0, answer.said
            graph = graph_of(project.loaded)
            assert graph.run("tile_grid"), "registers the partitions in this process's own instance"
            yield graph
        finally:
            stop(project.machine / "sentinel-hub")


def new_project(
    server: Seaweed, folder: Path, changes: Mapping[str, Any] | None = None, upload: bool = True
) -> InBucket:
    """The project of the made-up scene under a new prefix; its file and inputs are in `folder` too."""
    write_world(folder)
    address = f"s3://{BUCKET}/{secrets.token_hex(4)}/a map"
    loaded = write_project(folder, {**(changes or {}), "storage": {"project_folder": address}})
    project = InBucket(folder / "project.yaml", loaded, server, server.client())
    shutil.move(folder / "sentinel-hub", project.machine / "sentinel-hub")
    if upload:
        for path in (folder / "input-data").iterdir():
            project.put(f"input-data/{path.name}", path.read_bytes())
    return project
