"""A run that could only fail on a cluster's head is refused before a machine is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eo_assets.command_cluster_checks import require_beginnable
from eo_assets.definitions import open_project
from eo_assets.errors import AreaError, ClusterError, ProjectError
from eo_assets.project import LoadedProject
from jobs.launches import Request

AREA = Path(__file__).parents[2] / "eo_assets/projects/west_africa/input-data/aoi.geojson"


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedProject:
    for name in ("SH_CLIENT_ID", "SH_CLIENT_SECRET"):
        monkeypatch.setenv(name, "something")
    file = tmp_path / "my.yaml"
    file.write_text("extends: west_africa\nstorage: {project_folder: made}\n")
    folder = tmp_path / "made/input-data"
    folder.mkdir(parents=True)
    shutil.copy(AREA, folder)
    return open_project(str(file))


def test_what_can_begin_is_let_through(loaded: LoadedProject) -> None:
    require_beginnable(loaded, Request())
    require_beginnable(loaded, Request(tiles=("222",)))
    require_beginnable(loaded, Request(rebuy=("all",)))


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (Request(tiles=("667",)), "-t 667: no such tile; give a name, or an index from 0 to 666"),
        (Request(rebuy=("30NXL",)), "--rebuy 30NXL: no such tile"),
    ],
)
def test_a_tile_that_is_none_is_told(loaded: LoadedProject, request_: Request, told: str) -> None:
    with pytest.raises(ProjectError, match=told):
        require_beginnable(loaded, request_)


def test_an_area_that_is_not_there_is_told(loaded: LoadedProject) -> None:
    (Path(loaded.project_folder) / "input-data" / AREA.name).unlink()
    with pytest.raises(AreaError, match=r"area\.files: aoi\.geojson: no file in .*input-data matches; put the area"):
        require_beginnable(loaded, Request())


def test_credentials_are_asked_for_where_a_service_is(loaded: LoadedProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SH_CLIENT_SECRET")
    told = r"my\.yaml: service sentinel_hub: SH_CLIENT_ID and SH_CLIENT_SECRET are not in this environment"
    with pytest.raises(ClusterError, match=told):
        require_beginnable(loaded, Request())
    require_beginnable(loaded, Request(only=("maps",)))
