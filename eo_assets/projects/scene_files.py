"""What the demos' imagery is written as: COGs, an area, and the file that declares them to the local service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rasterio
import shapely
import yaml
from numpy.typing import NDArray
from pyproj import Transformer


def write_cog(path: Path, values: NDArray[Any], profile: dict[str, Any]) -> None:
    """(y, x) values as they are; `profile` says crs, transform and nodata."""
    height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="COG",
        dtype=values.dtype,
        count=1,
        height=height,
        width=width,
        compress="deflate",
        blocksize=256,
        **profile,
    ) as file:
        file.write(values, 1)


def outline_of(scene: Path, name: str, less_px: int = 1) -> str:
    """The scene's outline less some pixels, so that it does not touch the tiles beyond its edge, as GeoJSON."""
    with rasterio.open(scene) as grid:
        outline = shapely.box(*grid.bounds).buffer(-less_px * grid.res[0], join_style="mitre")
        to_lonlat = Transformer.from_crs(grid.crs, 4326, always_xy=True)
    lonlat = shapely.transform(shapely.segmentize(outline, 1000), to_lonlat.transform, interleaved=False)
    geometry = json.loads(shapely.to_geojson(lonlat))
    feature = {"type": "Feature", "properties": {"name": name}, "geometry": geometry}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def write_collections(path: Path, collections: list[dict[str, Any]]) -> None:
    """Written last and at once: the file's existence says that everything that it names is there."""
    part = path.with_suffix(".part")
    part.write_text(yaml.safe_dump({"collections": collections}, sort_keys=False))
    part.replace(path)
