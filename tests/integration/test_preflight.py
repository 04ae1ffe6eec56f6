"""Preflight against the service on this machine: it signs in, lists, probes, and nothing is ordered."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from eo_assets.cli import main
from eo_assets.command_preflight import preflight
from resources.local_sentinel_hub.server import stop


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The demo's project file over an empty project folder; no imagery is needed to ask."""
    file = tmp_path / "project.yaml"
    file.write_text("extends: demo\nstorage: {project_folder: data}\n")
    collections = tmp_path / "data/sentinel-hub/collections.yaml"
    collections.parent.mkdir(parents=True)
    collections.write_text("collections: [{type: sentinel-2-l1c, bands: {B02: {sample_type: UINT16}}, scenes: []}]\n")
    yield file
    stop(tmp_path / "data/sentinel-hub")


def test_a_local_project_passes(project: Path) -> None:
    checks = {check.what: (check.good, check.found) for check in preflight(str(project))}
    assert checks == {
        "signs in": (True, "the token is good for 60 min"),
        "may use Batch": (True, "it lists the account's batch requests"),
        "units left": (None, "the local service counts units and asks for none"),
        "delivery": (True, "we can write, read and delete under tiffs/2017"),
    }
    folder = project.parent / "data/tiffs/2017"
    folder.rmdir()
    folder.write_text("in the way")
    result = CliRunner().invoke(main, ["preflight", str(project)])
    assert result.exit_code == 1
    assert "nothing was ordered" in " ".join(result.output.split())
