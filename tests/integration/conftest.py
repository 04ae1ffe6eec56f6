"""Whole graphs over a tiny made-up scene: two dates, three land covers, 64-pixel tiles; service and Ray are real."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from eo_assets.assets.area import tiles_of
from eo_assets.core.tile import Tile
from eo_assets.definitions import build_definitions, open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store
from jobs.launches import Launcher, LaunchResult, Request
from resources.local_sentinel_hub.server import stop
from resources.output_record import OutputRecord
from resources.ray_cluster import RayCluster
from resources.tile_store import TileStore

EPSG, RESOLUTION, TILE_M = 32633, 10, 640
LEFT, TOP = 640 * 782, 640 * 9064
"""Upper left corner of the scene: a corner of the tiles' lattice."""

SIDE = 128
"""Pixels of the scene, 2 x 2 tiles."""

FIELD = 16
"""Pixels of one field, which has one land cover."""

CODES = (10, 20, 40)
UNKNOWN = 0
DATES = ("2020-06-01T10:00:00Z", "2020-06-11T10:00:00Z")
BANDS = {"B04": 10, "B08": 10, "B11": 20}

EVALSCRIPT = """//VERSION=3
const BANDS = ["B04", "B08", "B11"];
function setup() {
  return {
    input: [{bands: BANDS.concat("dataMask"), units: "DN"}],
    output: BANDS.map((id) => ({id: id, bands: 1, sampleType: "UINT16"})).concat(
      [{id: "MASK", bands: 1, sampleType: "UINT8"}]),
    mosaicking: "ORBIT",
  };
}
function updateOutput(outputs, collection) {
  Object.values(outputs).forEach((output) => { output.bands = collection.scenes.length; });
}
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {dates: scenes.orbits.map((orbit) => orbit.tiles[0].date)};
}
function evaluatePixel(samples) {
  const pixel = {MASK: samples.map((sample) => sample.dataMask)};
  for (const band of BANDS) pixel[band] = samples.map((sample) => sample[band]);
  return pixel;
}
"""

PROJECT: dict[str, Any] = {
    "name": "fields",
    "year": 2020,
    "sources": ["made up for a test"],
    "storage": {"project_folder": "."},
    "area": {
        "files": "aoi.geojson",
        "grid": {"kind": "utm", "tile_size_m": TILE_M},
        "resolution": RESOLUTION,
        "buffer": 4,
    },
    "imagery": {
        "collections": [{"collection": "sentinel-2-l2a", "service": "local", "harmonize_values": True}],
        "time_interval": ["2020-06-01", "2020-06-30"],
        "evalscript": "fields.js",
        "tiff_outputs": [*BANDS, "MASK"],
        "expected_dates": 2,
    },
    "eopatches": {
        "data": {"BANDS": {"from": list(BANDS), "factor": 0.0001}},
        "masks": {"QUALITY_MASK": {"from": "MASK", "valid": [1]}},
    },
    "features": {"indices": {"NDVI": ["B08", "B04"]}, "include_bands": True},
    "reference": {
        "name": "LAND_COVER",
        "nodata": UNKNOWN,
        "source": {"kind": "vector", "file": "fields.geojson", "column": "code"},
    },
    "sampling": {"block_size": 32, "number": 6},
    "model": {
        "kind": "lightgbm_classifier",
        "parameters": {"n_estimators": 8, "num_leaves": 7, "min_data_in_leaf": 5},
        "split": {"block_px": FIELD},
    },
    "predictions": {"name": "COVER", "dtype": "uint8", "nodata": 255, "all_probabilities": True},
    "maps": {"dtype": "uint8", "nodata": 255, "cog": {"blocksize": 256}},
    "byoc": {"collection_name": "fields", "service": "local", "sensing_time": "2020-06-30"},
}


@dataclass(frozen=True)
class Scene:
    """What is in the files. `numbers` by (date index, band) at the band's own size; `cover` (y, x) the true codes.

    `labels` is `cover` where a polygon or the raster tells it, 0 elsewhere.
    """

    numbers: Mapping[tuple[int, str], NDArray[np.uint16]]
    cover: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def at_10_m(self, date: int, band: str) -> NDArray[np.uint16]:
        """A band's digital numbers, those of 20 m twice in each direction."""
        values = self.numbers[date, band]
        return np.kron(values, np.ones((SIDE // len(values),) * 2, np.uint16))


@dataclass(frozen=True)
class Graph:
    """Projects in one Dagster instance. The first is the one that `run` runs if no other is named."""

    projects: tuple[LoadedProject, ...]
    definitions: dg.Definitions
    instance: dg.DagsterInstance

    @property
    def loaded(self) -> LoadedProject:
        """The first project."""
        return self.projects[0]

    @property
    def store(self) -> TileStore:
        """The committed outputs of the first project."""
        return tile_store(self.loaded)

    @property
    def tiles(self) -> list[Tile]:
        """The tiles of the first project."""
        return tiles_of(self.store)

    def run(self, *only: str, project: LoadedProject | None = None, rebuy: tuple[str, ...] = ()) -> list[LaunchResult]:
        """Launch assets and what they need (none named: all)."""
        launcher = Launcher(project or self.loaded, self.definitions, self.instance)
        return list(launcher.run(Request(only, rebuy=rebuy)))

    def beside(self, other: LoadedProject) -> Graph:
        """The first project and another one in the same instance."""
        return graph_of(self.loaded, other, instance=self.instance)

    def load(self, asset: str, partition_key: str | None = None) -> Any:
        """`defs.load_asset_value` of an asset of the first project."""
        key = dg.AssetKey([self.loaded.project.name, asset])
        return self.definitions.load_asset_value(key, instance=self.instance, partition_key=partition_key)

    def commits(self) -> dict[tuple[str, str], OutputRecord]:
        """Every live record of the first project by (stage, key)."""
        stages = (*TILE_STAGES, "aoi", "tile_grid", "training_data", "model", "maps", "byoc_collection")
        return {(stage, key): record for stage in stages for key, record in self.store.records(stage).items()}

    def materialized(self, asset: str, project: LoadedProject | None = None) -> set[str]:
        """The partitions of an asset that the instance has materializations of."""
        name = (project or self.loaded).project.name
        return set(self.instance.get_materialized_partitions(dg.AssetKey([name, asset])))


def graph_of(*projects: LoadedProject, instance: dg.DagsterInstance | None = None) -> Graph:
    """Projects side by side in one instance, a new one unless given."""
    definitions = build_definitions(projects, ray_cluster=RayCluster(workers=2))
    if instance is None:
        # A folder of its own would be removed when the instance is forgotten, with a warning, whenever that is.
        instance = dg.DagsterInstance.ephemeral(tempdir=tempfile.mkdtemp(prefix="eo-assets-artifacts-"))
    return Graph(projects, definitions, instance)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mappings merged key by key unless their `kind` differs."""
    result = dict(base)
    for key, value in changes.items():
        mine = result.get(key)
        both = isinstance(mine, dict) and isinstance(value, dict)
        same_kind = both and value.get("kind", mine.get("kind")) == mine.get("kind")
        result[key] = merged(mine, value) if same_kind else value
    return result


def write_project(folder: Path, changes: Mapping[str, Any] | None = None, file: str = "project.yaml") -> LoadedProject:
    """A project file in a folder that `write_world` filled."""
    (folder / file).write_text(yaml.safe_dump(merged(PROJECT, changes or {}), sort_keys=False))
    return open_project(str(folder / file))


def write_world(folder: Path) -> Scene:
    """Collections, evalscript, area and labels (as polygons and as a raster) of the made-up scene."""
    random = np.random.default_rng(11)
    scene = _draw_scene(random)
    (folder / "input-data").mkdir(parents=True)
    (folder / "fields.js").write_text(EVALSCRIPT)
    (folder / "input-data/aoi.geojson").write_text(_outline())
    (folder / "input-data/fields.geojson").write_text(_polygons(scene))
    _write_tiff(folder / "input-data/cover.tif", scene.labels, RESOLUTION, nodata=UNKNOWN)
    scenes = []
    for date, time in enumerate(DATES):
        files = {band: f"scenes/{date}_{band}.tif" for band in BANDS}
        for band, resolution in BANDS.items():
            _write_tiff(folder / "sentinel-hub" / files[band], scene.numbers[date, band], resolution, nodata=0)
        scenes.append({"time": time, "files": files})
    bands = {band: {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0} for band in BANDS}
    declared = [{"type": "sentinel-2-l2a", "bands": bands, "scenes": scenes}]
    (folder / "sentinel-hub/collections.yaml").write_text(yaml.safe_dump({"collections": declared}))
    return scene


def _draw_scene(random: np.random.Generator) -> Scene:
    """Fields of one cover each, about half of them labelled; the south-east corner has data on the second date only."""
    fields = random.choice(CODES, (SIDE // FIELD,) * 2).astype(np.uint8)
    known = random.random(fields.shape) < 0.5
    pixels = np.ones((FIELD, FIELD), np.uint8)
    cover, labels = np.kron(fields, pixels), np.kron(np.where(known, fields, UNKNOWN), pixels).astype(np.uint8)
    numbers = {}
    for date in range(len(DATES)):
        for offset, (band, resolution) in enumerate(BANDS.items()):
            step = resolution // RESOLUTION
            signal = cover[::step, ::step].astype(np.int64) * (40 + 7 * offset) + 300 * date
            values = (signal + random.integers(1, 400, signal.shape)).astype(np.uint16)
            if date == 0:
                values[-(20 // step) :, -(40 // step) :] = 0
            numbers[date, band] = values
    return Scene(numbers, cover, labels)


def _outline() -> str:
    """The scene less 100 m on each side, in longitude and latitude."""
    box = shapely.box(LEFT + 100, TOP - SIDE * RESOLUTION + 100, LEFT + SIDE * RESOLUTION - 100, TOP - 100)
    project = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
    lonlat = shapely.transform(shapely.segmentize(box, 200), project, interleaved=False)
    return json.dumps({"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(lonlat))})


def _polygons(scene: Scene) -> str:
    """The labelled fields as polygons with their code, in the scene's CRS."""
    features = []
    for row in range(0, SIDE, FIELD):
        for column in range(0, SIDE, FIELD):
            code = int(scene.labels[row, column])
            left, top = LEFT + column * RESOLUTION, TOP - row * RESOLUTION
            box = shapely.box(left, top - FIELD * RESOLUTION, left + FIELD * RESOLUTION, top)
            if code != UNKNOWN:
                geometry = json.loads(shapely.to_geojson(box))
                features.append({"type": "Feature", "properties": {"code": code}, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{EPSG}"}}
    return json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})


def _write_tiff(path: Path, values: NDArray[Any], resolution: int, nodata: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype.name,
        crs=f"EPSG:{EPSG}",
        transform=Affine(resolution, 0, LEFT, 0, -resolution, TOP),
        nodata=nodata,
    ) as tiff:
        tiff.write(values, 1)


@pytest.fixture(scope="session")
def fields_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project folder of the session's graph; its service ends with the session."""
    folder = tmp_path_factory.mktemp("fields")
    yield folder
    stop(folder / "sentinel-hub")


@pytest.fixture(scope="session")
def scene(fields_folder: Path) -> Scene:
    """The made-up scene, written into the session's project folder."""
    return write_world(fields_folder)


@pytest.fixture(scope="session")
def fields(scene: Scene, fields_folder: Path, local_ray: None) -> Graph:
    """The whole graph run once: a classifier on patchlets, over tiles that overlap by their buffers. Read only."""
    graph = graph_of(write_project(fields_folder))
    results = graph.run()
    assert [result.failure for result in results if not result.success] == []
    return graph


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray, if a test starts it in this process, ends with the session."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def copied(fields: Graph, fields_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Graph]]:
    """A copy of the session's project folder, with changes to its project file: free to be damaged."""
    stop(fields_folder / "sentinel-hub")  # so that its database is copied whole; it starts again when it is asked
    folder = tmp_path / "copy"
    shutil.copytree(fields_folder, folder)
    yield lambda changes=None: graph_of(write_project(folder, changes))
    stop(folder / "sentinel-hub")


@pytest.fixture
def world(tmp_path: Path, local_ray: None) -> Iterator[Path]:
    """A project folder with collections, area and labels, and nothing made yet."""
    folder = tmp_path / "world"
    write_world(folder)
    yield folder
    stop(folder / "sentinel-hub")


@pytest.fixture
def graph_in() -> Callable[..., Graph]:
    """`graph_in(folder, changes)`: the graph of a project in a world's folder, with a second project on request."""

    def make(
        folder: Path,
        changes: Mapping[str, Any] | None = None,
        second: tuple[Path, Mapping[str, Any]] | None = None,
        instance: dg.DagsterInstance | None = None,
    ) -> Graph:
        projects = [write_project(folder, changes)]
        if second is not None:
            projects.append(write_project(second[0], second[1], file="second.yaml"))
        return graph_of(*projects, instance=instance)

    return make


@pytest.fixture
def another_world() -> Iterator[Callable[[Path], None]]:
    """`another_world(folder)` fills one more project folder."""
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        write_world(folder)

    yield make
    for folder in made:
        stop(folder / "sentinel-hub")
