"""The demo in a folder and in a bucket is one and the same, and goes from one to the other by copying its files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from eo_assets.projects.demo.prepare import prepare
from eo_assets.stages.build import TILE_STAGES
from eo_assets.status import project_status
from resources.local_sentinel_hub.server import stop
from resources.workspaces import machine_folder
from tests.seaweed import Seaweed

from .conftest import BUCKET, Demo, open_demo, project_file, reached

pytestmark = pytest.mark.demo

STAYS = (".dagster", "sentinel-hub")
"""Folders of a local project folder that belong to the machine."""

PREFIX = "moved here"
PUBLISHED = ("byoc_collection", "byoc_collection")


def files_of(demo: Demo, stage: str) -> dict[tuple[str, str], bytes]:
    """Every file of a stage's live outputs by (key, name within the output)."""
    store, found = demo.store.store, {}
    for key, record in demo.store.records(stage).items():
        for listed in store.under(record.attempt):
            found[key, listed.key.removeprefix(f"{record.attempt}/")] = store.get(listed.key) or b""
    return found


@pytest.fixture(scope="session")
def twin(imagery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Another demo, in a local folder."""
    place = tmp_path_factory.mktemp("twin") / "project"
    assert prepare(imagery, str(place)) is True
    made = open_demo(project_file(tmp_path_factory.mktemp("project-file"), str(place)))
    assert [result.failure for result in made.run() if not result.success] == []
    yield made
    stop(made.machine / "sentinel-hub")


@pytest.fixture
def moved(demo: Demo, server: Seaweed, tmp_path: Path) -> Iterator[Demo]:
    """The demo's files copied by others' programs: of a folder into a bucket, of a bucket into a folder."""
    with contextlib.ExitStack() as environment:
        if "://" in demo.loaded.project_folder:
            place = str(tmp_path / "project")
            download(server, demo.loaded.project_folder, Path(place))
        else:
            environment.enter_context(reached(server, tmp_path / "machine"))
            place = f"s3://{BUCKET}/{PREFIX}"
            upload(server, Path(demo.loaded.project_folder))
        (tmp_path / "project-file").mkdir()
        yield open_demo(project_file(tmp_path / "project-file", place))
        stop(machine_folder(place) / "sentinel-hub")
        empty(server)


def upload(server: Seaweed, folder: Path) -> None:
    client = server.client()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder)
        if name.parts[0] not in STAYS:
            client.upload_file(str(file), BUCKET, f"{PREFIX}/{name.as_posix()}")


def download(server: Seaweed, place: str, folder: Path) -> None:
    client, prefix = server.client(), f"{place.removeprefix(f's3://{BUCKET}/')}/"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for found in page["Contents"]:
            target = folder / found["Key"].removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(BUCKET, found["Key"], str(target))


def empty(server: Seaweed) -> None:
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/"):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=found["Key"])


def bought(demo: Demo) -> list[str]:
    """The calls by which the service of this machine was asked for pixels."""
    calls = (demo.machine / "sentinel-hub/requests.jsonl").read_text().splitlines()
    return [call for call in calls if "/process" in json.loads(call)["path"]]


def test_what_is_made_is_bit_for_bit_what_is_made_in_another_local_folder(demo: Demo, twin: Demo) -> None:
    for stage in (*TILE_STAGES, "training_data", "model", "maps"):
        here, there = files_of(demo, stage), files_of(twin, stage)
        assert here.keys() == there.keys() and here, stage
        assert [place for place in here if here[place] != there[place]] == [], stage
    map_file = "maps/utm32633_result.tiff"
    assert demo.store.store.get(map_file) == twin.store.store.get(map_file) is not None
    digests = [{place: record.digest for place, record in made.commits().items()} for made in (demo, twin)]
    assert {place for place in digests[0] if digests[0][place] != digests[1][place]} == {PUBLISHED}


def test_a_moved_project_is_up_to_date_but_for_its_collection_which_is_one_of_the_old_place(
    demo: Demo, moved: Demo
) -> None:
    assert moved.commits() == demo.commits()
    states = {state.asset: state for state in project_status(moved.loaded)}
    assert states.pop("byoc_collection").states == {"stale": 1}
    assert all(state.complete and "stale" not in state.states for state in states.values()), states


def test_a_moved_project_is_published_where_it_is_now_and_nothing_is_made_or_bought(
    demo: Demo, moved: Demo, imagery: Path
) -> None:
    assert prepare(imagery, moved.loaded.project_folder) is True
    assert [result.failure for result in moved.run() if not result.success] == []
    before, after = demo.commits(), moved.commits()
    assert {place for place in after if after[place] != before[place]} == {PUBLISHED}
    assert bought(demo) and not bought(moved)
    assert after[PUBLISHED].numbers["collection_id"] != before[PUBLISHED].numbers["collection_id"]
    tiles = [{"path": moved.served_as("maps/utm32633_(BAND).tiff"), "status": "INGESTED", "action": "created"}]
    assert after[PUBLISHED].numbers["tiles"] == tiles
    assert all(state.complete for state in project_status(moved.loaded))
    assert moved.run() == []
