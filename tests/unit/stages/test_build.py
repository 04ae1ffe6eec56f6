"""Where a project's local service finds its collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import collections_file
from resources.workspaces import HOME_VARIABLE, local_home

NAME = "sentinel-hub/collections.yaml"


def project_in(place: str, folder: Path) -> LoadedProject:
    file = folder / "project.yaml"
    file.write_text(f"extends: demo\nstorage: {{project_folder: {place}}}\n")
    return open_project(str(file))


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collections file beside the project file; the bucket is on AWS."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    (tmp_path / "sentinel-hub").mkdir()
    (tmp_path / NAME).write_text("")
    return tmp_path / NAME


def test_of_a_project_in_a_bucket_they_lie_beside_the_project_file(beside: Path, tmp_path: Path) -> None:
    assert collections_file(project_in("s3://bucket/prefix", tmp_path), NAME) == beside


def test_or_where_the_project_keeps_what_stays_on_this_machine(beside: Path, tmp_path: Path) -> None:
    loaded, kept = project_in("s3://bucket/prefix", tmp_path), local_home("s3://bucket/prefix") / NAME
    beside.unlink()
    assert collections_file(loaded, NAME) == beside, "what a person is told to make"
    kept.parent.mkdir(parents=True)
    kept.write_text("")
    assert collections_file(loaded, NAME) == kept


def test_of_a_project_in_a_folder_they_lie_in_that_folder(beside: Path, tmp_path: Path) -> None:
    assert collections_file(project_in("data", tmp_path), NAME) == tmp_path / "data" / NAME
