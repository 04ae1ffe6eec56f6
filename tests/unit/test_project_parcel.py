"""A project sent to another machine is the same project there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.project_parcel import PROJECT_FILE, parcel


def sent(loaded: LoadedProject, environment: dict[str, str], to: Path) -> LoadedProject:
    """The project as another machine reads it, which has no variable and no other file of this one."""
    to.mkdir()
    for name, data in parcel(loaded, environment).items():
        assert "/" not in name
        (to / name).write_bytes(data)
    return open_project(str(to / PROJECT_FILE))


def meaning(loaded: LoadedProject) -> dict[str, Any]:
    """All but the names under which the evalscripts are kept."""
    said: dict[str, Any] = loaded.project.model_dump(mode="json")
    said["imagery"]["evalscript"] = loaded.evalscripts[said["imagery"]["evalscript"]]
    source = said["reference"]["source"]
    if "evalscript" in source:
        source["evalscript"] = loaded.evalscripts[source["evalscript"]]
    if isinstance(said["model"]["source"], dict):
        said["model"]["source"]["project"] = "named"
    return said


@pytest.mark.parametrize("name", ["demo", "west_africa", "landsat_series"])
def test_a_project_that_ships(name: str, tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(f"extends: {name}\nstorage: {{project_folder: s3://bucket/prefix}}\n")
    loaded = open_project(str(file))
    there = sent(loaded, {}, tmp_path / "there")
    assert meaning(there) == meaning(loaded) and there.project_folder == loaded.project_folder


def test_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "s3://bucket/of-a-variable")
    file = tmp_path / "project.yaml"
    file.write_text("extends: demo\nstorage: {project_folder: '${WHERE}'}\ndescription: '${UNSET:-told}'\n")
    loaded = open_project(str(file))
    monkeypatch.delenv("WHERE")
    there = sent(loaded, {"WHERE": "s3://bucket/of-a-variable"}, tmp_path / "there")
    assert (there.project_folder, there.project.description) == ("s3://bucket/of-a-variable", "told")


def test_the_project_whose_model_is_used_is_found(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text("extends: demo\nname: first\nstorage: {project_folder: s3://bucket/first}\n")
    file = tmp_path / "project.yaml"
    data = {
        "extends": "first.yaml",
        "name": "second",
        "storage": {"project_folder": "s3://bucket/second"},
        "model": {"source": {"project": "first.yaml"}},
    }
    file.write_text(yaml.safe_dump(data))
    loaded = open_project(str(file))
    there = sent(loaded, {}, tmp_path / "there")
    assert loaded.model_home is not None and there.model_home is not None
    assert there.model_home.project_folder == loaded.model_home.project_folder == "s3://bucket/first"
    assert meaning(there) == meaning(loaded)
