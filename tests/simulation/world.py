"""A simulated project of any number of tiny tiles: two dates, three bands, labels everywhere; all made up.

Everything else is real: the local Sentinel Hub renders and delivers, the graph commits files. Tiles can be made to fail
for good, each in another stage, as tiles do in life: an evalscript that throws, a file with a bad block, a date too
many.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import yaml
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from resources.local_sentinel_hub.server import stop

EPSG, RESOLUTION = 32633, 10
LEFT, TOP = 640 * 782, 640 * 9064
"""Upper left corner of the scene: a corner of the lattice of tiles of 160, 320 and 640 m."""

DATES = ("2020-06-01T10:00:00Z", "2020-06-11T10:00:00Z")
THIRD_DATE = "2020-06-21T10:00:00Z"
BANDS = ("B04", "B08", "B11")
CODES = (10, 20, 40)
POISON = 9999
PROJECT_FILE, SERVICE = "project.yaml", "sentinel-hub"

EVALSCRIPT = f"""//VERSION=3
const BANDS = {json.dumps(BANDS)};
function setup() {{
  return {{
    input: [{{bands: BANDS.concat("dataMask"), units: "DN"}}],
    output: BANDS.map((id) => ({{id: id, bands: 1, sampleType: "UINT16"}})).concat(
      [{{id: "MASK", bands: 1, sampleType: "UINT8"}}]),
    mosaicking: "ORBIT",
  }};
}}
function updateOutput(outputs, collection) {{
  Object.values(outputs).forEach((output) => {{ output.bands = collection.scenes.length; }});
}}
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {{
  outputMetadata.userData = {{dates: scenes.orbits.map((orbit) => orbit.tiles[0].date)}};
}}
function evaluatePixel(samples) {{
  if (samples.some((sample) => sample.B04 === {POISON})) throw new Error("poisoned pixel");
  const pixel = {{MASK: samples.map((sample) => sample.dataMask)}};
  for (const band of BANDS) pixel[band] = samples.map((sample) => sample[band]);
  return pixel;
}}
"""

Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Simulation:
    """A project folder with `columns` x `rows` tiles of `pixels` x `pixels`."""

    folder: Path
    columns: int
    rows: int
    pixels: int

    @property
    def names(self) -> list[str]:
        """Every tile, in the order of the project."""
        return sorted(self._name(column, row) for column in range(self.columns) for row in range(self.rows))

    @property
    def sampled(self) -> list[str]:
        """The tiles that the model is trained on: some forty, spread over the area."""
        return self.names[:: max(1, len(self.names) // 40)]

    @property
    def file(self) -> Path:
        """The project file."""
        return self.folder / PROJECT_FILE

    def open(self, changes: Changes | None = None) -> LoadedProject:
        """Write the project file, sections of it changed key by key, and open it."""
        said: dict[str, Any] = self._project()
        for section, values in (changes or {}).items():
            said[section] = {**said.get(section, {}), **values}
        self.file.write_text(yaml.safe_dump(said, sort_keys=False))
        return open_project(str(self.file))

    def poison_imagery(self, tile: str) -> int:
        """Let the evalscript throw over a tile, so that it is never delivered; returns the value to mend it with."""
        return self.set_pixel(tile, POISON)

    def set_pixel(self, tile: str, value: int) -> int:
        """Change one pixel of a tile on the first date; returns what it was."""
        path = self.folder / SERVICE / "scenes/0_B04.tif"
        column, row = self._place(tile)
        with rasterio.open(path) as tiff:
            values = tiff.read(1)
        y, x = row * self.pixels + 3, column * self.pixels + 3
        before, values[y, x] = int(values[y, x]), value
        self._write(path, values)
        return before

    def add_date(self, tile: str) -> None:
        """Give one tile a third date: its columns are not the model's, so that it can't be predicted."""
        column, row = self._place(tile)
        values = np.full((self.pixels, self.pixels), 700, np.uint16)
        files = {}
        for band in BANDS:
            files[band] = f"scenes/extra_{tile}_{band}.tif"
            self._write(self.folder / SERVICE / files[band], values, column, row, inset=2)
        path = self.folder / SERVICE / "collections.yaml"
        declared = yaml.safe_load(path.read_text())
        declared["collections"][0]["scenes"].append({"time": THIRD_DATE, "files": files})
        path.write_text(yaml.safe_dump(declared))

    def damage_labels(self, tile: str) -> None:
        """Overwrite the block of the label raster that lies under a tile: reading it fails, reading others does not."""
        column, row = self._place(tile)
        path = self.folder / "input-data/cover.tif"
        with rasterio.open(path) as tiff:
            assert tiff.block_shapes[0] == (self.pixels, self.pixels)
            offset, size = (
                int(tiff.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")
            )
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * size)

    def _name(self, column: int, row: int) -> str:
        tile_m = self.pixels * RESOLUTION
        return f"{EPSG}_x{LEFT // tile_m + column:05d}_y{TOP // tile_m - 1 - row:05d}"

    def _place(self, tile: str) -> tuple[int, int]:
        return next(
            (column, row)
            for column in range(self.columns)
            for row in range(self.rows)
            if self._name(column, row) == tile
        )

    def _project(self) -> dict[str, Any]:
        return {
            "name": "simulated",
            "year": 2020,
            "sources": ["simulated"],
            "storage": {"project_folder": "."},
            "area": {
                "files": "aoi.geojson",
                "grid": {"kind": "utm", "tile_size_m": self.pixels * RESOLUTION},
                "resolution": RESOLUTION,
                "buffer": 0,
            },
            "imagery": {
                "collections": [{"collection": "sentinel-2-l2a", "service": "local", "harmonize_values": True}],
                "time_interval": ["2020-06-01", "2020-06-30"],
                "evalscript": "simulated.js",
                "tiff_outputs": [*BANDS, "MASK"],
                "expected_dates": 2,
            },
            "eopatches": {
                "data": {"BANDS": {"from": list(BANDS), "factor": 0.0001}},
                "masks": {"QUALITY_MASK": {"from": "MASK", "valid": [1]}},
            },
            "features": {"indices": {"NDVI": ["B08", "B04"]}, "include_bands": True},
            "reference": {"name": "LAND_COVER", "nodata": 0, "source": {"kind": "raster", "file": "cover.tif"}},
            "sampling": {"number": 20, "tiles": self.sampled},
            "model": {
                "kind": "lightgbm_classifier",
                "parameters": {"n_estimators": 8, "num_leaves": 7, "min_data_in_leaf": 5, "learning_rate": 0.1},
                "split": {"block_px": 4},
            },
            "predictions": {"name": "COVER", "dtype": "uint8", "nodata": 255},
            "maps": {"dtype": "uint8", "nodata": 255, "cog": {"blocksize": 256}},
            "byoc": {"collection_name": "simulated", "service": "local", "sensing_time": "2020-06-30"},
        }

    def _fill(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        shape = (self.rows * self.pixels, self.columns * self.pixels)
        field = np.ones((4, 4), np.uint8)
        cover = np.kron(random.choice(CODES, (shape[0] // 4, shape[1] // 4)).astype(np.uint8), field)
        scenes = []
        for date, time in enumerate(DATES):
            files = {band: f"scenes/{date}_{band}.tif" for band in BANDS}
            for offset, band in enumerate(BANDS):
                values = cover.astype(np.int64) * (40 + 7 * offset) + 300 * date + random.integers(1, 400, shape)
                self._write(self.folder / SERVICE / files[band], values.astype(np.uint16))
            scenes.append({"time": time, "files": files})
        bands = {band: {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0} for band in BANDS}
        declared = [{"type": "sentinel-2-l2a", "bands": bands, "scenes": scenes}]
        (self.folder / SERVICE / "collections.yaml").write_text(yaml.safe_dump({"collections": declared}))
        (self.folder / "simulated.js").write_text(EVALSCRIPT)
        blocks = {"tiled": True, "blockxsize": self.pixels, "blockysize": self.pixels, "compress": "deflate"}
        self._write(self.folder / "input-data/cover.tif", cover, driver="GTiff", **blocks)
        (self.folder / "input-data/aoi.geojson").write_text(self.outline())

    def outline(self, columns: slice = slice(None), rows: slice = slice(None)) -> str:
        """The area of some columns and rows, a pixel short on each side, as GeoJSON."""
        tile_m = self.pixels * RESOLUTION
        (left, right, _), (north, south, _) = columns.indices(self.columns), rows.indices(self.rows)
        box = shapely.box(
            LEFT + left * tile_m + RESOLUTION,
            TOP - south * tile_m + RESOLUTION,
            LEFT + right * tile_m - RESOLUTION,
            TOP - north * tile_m - RESOLUTION,
        )
        project = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
        lonlat = shapely.transform(shapely.segmentize(box, 1000), project, interleaved=False)
        return json.dumps({"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(lonlat))})

    def _write(
        self,
        path: Path,
        values: NDArray[Any],
        column: int = 0,
        row: int = 0,
        *,
        inset: int = 0,
        driver: str = "COG",
        **options: Any,
    ) -> None:
        """Write a raster whose corner is that of a tile; `inset` pixels on each side are left out."""
        path.parent.mkdir(parents=True, exist_ok=True)
        inner = values[inset : len(values) - inset, inset : values.shape[1] - inset]
        left = LEFT + (column * self.pixels + inset) * RESOLUTION
        top = TOP - (row * self.pixels + inset) * RESOLUTION
        height, width = inner.shape
        shape = {"height": height, "width": width, "count": 1, "dtype": inner.dtype.name, "nodata": 0}
        place = {"crs": f"EPSG:{EPSG}", "transform": Affine(RESOLUTION, 0, left, 0, -RESOLUTION, top)}
        with rasterio.open(path, "w", driver=driver, **shape, **place, **options) as tiff:
            tiff.write(inner, 1)


def write_simulation(folder: Path, tiles: int, *, pixels: int = 16, seed: int = 4) -> Simulation:
    """Fill a folder with a project of exactly `tiles` tiles, as square as their number allows.

    `pixels` is the side of a tile: 16, 32 or 64, which the label raster's blocks and the lattice ask for.
    """
    rows = max(divisor for divisor in range(1, math.isqrt(tiles) + 1) if tiles % divisor == 0)
    simulation = Simulation(folder, tiles // rows, rows, pixels)
    simulation._fill(seed)
    simulation.open()
    return simulation


@contextlib.contextmanager
def simulated(folder: Path, tiles: int, **options: Any) -> Iterator[Simulation]:
    """A simulation whose local service has ended when it ends."""
    try:
        yield write_simulation(folder, tiles, **options)
    finally:
        stop(folder / SERVICE)
