"""What is compared on: the tiles of a made-up batch delivery, what they hold, and where both systems find it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from eo_assets.core.tile import Bounds, Tile

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
MASK, REFERENCE = "QM", "GHSL_120"
INDICES = {"NDVI": ("B08", "B04"), "NDWI": ("B03", "B08"), "NDBI": ("B11", "B08")}
YEAR, RESOLUTION, ZONES = 2020, 120, (32631, 32632)
EASTING, NORTHING = 500_040, 600_000
"""Where the lower left cell of a zone begins: whole pixels, far from the zone's edges."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`invalid` is the share of pixels that no date sees; of the others `cloud` of all (pixel, date) are not seen.

    `noisy` pixels have nothing in common with their neighbours, which is what a predictor of image patches likes least.
    """

    tiles: int = 8
    dates: int = 12
    cell_px: int = 833
    buffer_px: int = 10
    invalid: float = 0.0
    cloud: float = 0.1
    noisy: bool = False
    seed: int = 42

    @property
    def key(self) -> str:
        """A name that tells, and differs whenever anything does."""
        said = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:6]
        return f"{self.tiles}x{self.cell_px + 2 * self.buffer_px}px-T{self.dates}-{said}"

    @property
    def days(self) -> tuple[dt.date, ...]:
        """Dates spread evenly over the year, the same for every tile."""
        return tuple(dt.date(YEAR, 1, 1) + dt.timedelta(days=365 * date // self.dates) for date in range(self.dates))


def scene_tiles(scene: Scene) -> list[Tile]:
    """Half of the tiles in each zone (one zone, if there is one tile), named as eo-grow names those of a UTM grid."""
    zones = ZONES[: min(2, scene.tiles)]
    digits = len(str(scene.tiles - 1))
    tiles: list[Tile] = []
    for order, epsg in enumerate(zones):
        number = scene.tiles // len(zones) + (order < scene.tiles % len(zones))
        columns = math.isqrt(number - 1) + 1
        for place in range(number):
            row, column = divmod(place, columns)
            name = f"eopatch-id-{len(tiles):0{digits}}-col-{column}-row-{row}"
            tiles.append(Tile(name, epsg, _cell(scene, row, column), RESOLUTION, (scene.buffer_px,) * 2))
    return tiles


def _cell(scene: Scene, row: int, column: int) -> Bounds:
    size = scene.cell_px * RESOLUTION
    left, bottom = EASTING + column * size, NORTHING + row * size
    return Bounds(left, bottom, left + size, bottom + size)


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """Where a scene lies: written once, read by both systems, changed by none."""

    folder: Path

    @property
    def tiffs(self) -> Path:
        """`<tile>/<band>.tif` and `<tile>/userdata.json`, as Sentinel Hub's batch service delivers."""
        return self.folder / "tiffs"

    @property
    def reference(self) -> Path:
        """`<tile>/`: EOPatches with labels, as eo-grow's download pipeline writes them."""
        return self.folder / "raster-reference"

    @property
    def area(self) -> Path:
        """A GeoJSON of the area."""
        return self.folder / "aoi.geojson"

    @property
    def cells(self) -> Path:
        """A GeoPackage of the cells without their buffers."""
        return self.folder / "cells.gpkg"

    @property
    def boxes(self) -> Path:
        """A GeoPackage of the cells with their buffers: what eo-grow's custom grid takes."""
        return self.folder / "boxes.gpkg"
