"""A disk that fills up, a folder that refuses writes, in the middle of a run: told once, nothing torn, gone on with.

Real small file systems where this machine lets tests mount them; a file in a folder's place and a limit on the size of
files everywhere.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eo_assets.core.tile import Tile
from eo_assets.stages.build import SERVICE_FOLDER, tile_store
from resources.local_sentinel_hub.server import stop
from resources.object_store import checksum
from resources.tile_store import ATTEMPT
from tests.integration.conftest import write_project, write_world
from tests.integration.production import NAMES, ROOT, TWELVE, Production, in_production, make_twelve, until

Mount = Callable[..., None]
STAGES = ("tiffs", "eopatches", "features")


@pytest.fixture
def mount() -> Iterator[Mount]:
    """`mount(folder, "size=1m")`: a file system of its own, or its options changed; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(folder: Path, options: str) -> None:
        changed = folder in mounted
        place = ["-o", f"remount,{options}"] if changed else ["-t", "tmpfs", "-o", options, "tmpfs"]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(["mount", *place, str(folder)], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode and not changed:
            pytest.skip(f"this machine does not let tests mount a file system: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.extend([] if changed else [folder])

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def twelve(world: Path, graph_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Production]:
    """The project of twelve tiles, nothing made yet; its service delivers slowly, so that there is a middle."""
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_FAULTS", "1")
    make_twelve(world)
    with in_production(world, graph_in(world, TWELVE).loaded) as production:
        production.control.set(slow_s=0.4)
        yield production


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a run makes that nothing disturbs: the checksum of every output."""
    folder = tmp_path_factory.mktemp("clean")
    write_world(folder)
    make_twelve(folder)
    with in_production(folder, write_project(folder, TWELVE)) as production:
        code, said = run(production)
        assert code == 0, said
        yield made(production)
    stop(folder / SERVICE_FOLDER)


def made(production: Production) -> dict[str, str]:
    """The checksum of every committed output by stage and tile."""
    store = tile_store(production.loaded)
    records = {(stage, key): record for stage in STAGES for key, record in store.records(stage).items()}
    return {f"{stage}/{key}": checksum(store.intact(record)) for (stage, key), record in records.items()}


def leftovers(production: Production) -> list[Path]:
    """Halves of objects, and attempts that no record names."""
    store = tile_store(production.loaded)
    live = {store.path(record) for stage in STAGES for record in store.records(stage).values()}
    folders = [store.store.path(store.folder(stage)) for stage in STAGES]
    found = [path for folder in folders for path in folder.rglob("*")]
    attempts = [path for path in found if ATTEMPT.fullmatch(path.name) and path not in live]
    return [*attempts, *(path for path in found if path.name.endswith((".part", ".partial")))]


def run(production: Production, *arguments: str) -> tuple[int, str]:
    process = production.start("--only", "features", *arguments)
    return process.wait(180), production.said(process)


def assert_resumed(
    production: Production, before: dict[str, str], clean: dict[str, str], stuck: Sequence[Path] = ()
) -> None:
    """What was committed is as it was, the rest is made, all equals a clean run, and nothing is left behind.

    But for attempts that are `stuck`: they wait for the sweep.
    """
    production.control.clear()
    ordered = production.created()
    code, said = run(production)
    assert code == 0, said
    after = made(production)
    assert sorted(after) == sorted(f"{stage}/{name}" for stage in STAGES for name in NAMES)
    assert {place: after[place] for place in before} == before
    assert production.created() == ordered, "imagery was ordered a second time"
    assert set(leftovers(production)) <= set(stuck)
    assert after == clean


def test_a_disk_that_fills_up_ends_the_run_with_one_clear_error(
    twelve: Production, mount: Mount, clean: dict[str, str]
) -> None:
    mount(twelve.folder / "features", "size=300k")
    code, said = run(twelve)
    assert code == 1
    assert "the disk is full" in said and "free some space" in said
    assert str(twelve.folder / "features/2020") in said
    assert "nothing more is begun" in said and "Traceback" not in said
    before = made(twelve)
    features = [place for place in before if place.startswith("features/")]
    assert 0 < len(features) < len(NAMES), "the disk was to fill up in the middle"
    assert leftovers(twelve) == []

    mount(twelve.folder / "features", "size=30m")
    assert_resumed(twelve, before, clean)


def test_a_folder_that_becomes_read_only_in_mid_run(twelve: Production, mount: Mount, clean: dict[str, str]) -> None:
    features = twelve.folder / "features"
    mount(features, "size=30m")
    process = twelve.start("--only", "features")
    until(lambda: twelve.committed("features"), "the first tile")
    until(lambda: made_read_only(features), "a moment without a file that is open for writing")
    code, said = process.wait(180), twelve.said(process)
    assert code == 1, said
    assert "is read-only; give that user permission to read and write there" in said
    assert str(features / "2020") in said and "Traceback" not in said
    before, stuck = made(twelve), leftovers(twelve)  # who was at work could not remove its attempt

    mount(features, "rw")
    assert_resumed(twelve, before, clean, stuck)


def made_read_only(folder: Path) -> bool:
    """Have the file system refuse writes from now on; it won't while a file is open for writing."""
    return subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=False, capture_output=True).returncode == 0


def test_records_that_can_no_longer_be_put(twelve: Production, clean: dict[str, str]) -> None:
    """The way that needs no rights: a file lies where the records of a stage are put."""
    commits = twelve.folder / "features/2020/_commits"
    process = twelve.start("--only", "features")
    until(lambda: twelve.committed("features"), "the first tile")
    aside = commits.with_name("_kept")
    commits.rename(aside)
    commits.write_bytes(b"")
    code, said = process.wait(180), twelve.said(process)
    assert code == 1, said
    assert "Traceback" not in said and "nothing more is begun" in said
    assert str(commits) in said and "something else lies where a folder has to be; move it away" in said

    commits.unlink()
    aside.rename(commits)
    before = made(twelve)
    assert 0 < len([place for place in before if place.startswith("features/")]) < len(NAMES)
    assert_resumed(twelve, before, clean)


WALK = """
import resource, sys
from pathlib import Path
from eo_assets.definitions import open_project
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.stages.walk import TileWork
from eo_assets.assets.area import make_aoi, make_tile_grid, tiles_of

loaded = open_project(sys.argv[1])
store = tile_store(loaded)
make_aoi(loaded, store)
make_tile_grid(loaded, store)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
[outcome] = tile_walk(loaded)(TileWork(tiles_of(store)[0], ("reference",)))
print(outcome.status, outcome.refused, outcome.reason)
"""


def test_a_limit_on_the_size_of_files_is_told_and_leaves_nothing(world: Path, graph_in: Callable[..., Any]) -> None:
    loaded = graph_in(world).loaded
    store = tile_store(loaded)

    def walk(limit: int) -> str:
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WALK), str(loaded.file), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return done.stdout

    said = walk(100)
    assert said.startswith("failed True ") and "no file of this size is allowed here; raise the limit" in said
    assert store.records("reference") == {}
    assert [path for path in (world / "raster-reference").rglob("*") if path.is_file() and path.suffix != ".json"] == []
    assert walk(1 << 20).startswith("done False")
    tile: Tile = graph_in(world).tiles[0]
    assert list(store.records("reference")) == [tile.name]
