"""Labels by Process requests of the real local service: a tile larger than a request, several collections at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from eo_assets.core.cost import processing_units
from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import Reference
from eo_assets.stages.reference import ReferenceStage
from eo_assets.stages.stage import StageResult, TileInputs
from resources.eopatch_files import DATA_TIMELESS, open_array
from resources.local_sentinel_hub.server import stop
from resources.sentinel_hub import MAX_REQUEST_PX, LocalDeployment, SentinelHub

LEFT, TOP, EPSG = 500_000, 5_800_000, 32633
LARGE = Tile("large", EPSG, Bounds(LEFT, TOP - 25_900, LEFT + 26_900, TOP), 10.0, (5, 5))
SMALL = Tile("small", EPSG, Bounds(LEFT + 100, TOP - 700, LEFT + 740, TOP - 100), 10.0)
METRES = Affine(30, 0, LEFT - 307.3, 0, -30, TOP + 411.9)
DEGREES = Affine(0.0003, 0, 14.99, 0, -0.0002, 52.36)
ONE_BAND = """//VERSION=3
function setup() { return {input: ["V"], output: {bands: 1, sampleType: "FLOAT32"}}; }
function evaluatePixel(s) { return [s.V]; }
"""
FUSED = """//VERSION=3
function setup() {
  return {input: [{datasource: "old", bands: ["V"]}, {datasource: "new", bands: ["V"]}],
          output: {bands: 1, sampleType: "FLOAT32"}};
}
function evaluatePixel(samples) { return [samples.new[0].V - samples.old[0].V]; }
"""


def write(path: Path, values: NDArray[np.float32], crs: str, transform: Affine) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    with rasterio.open(
        path, "w", driver="COG", height=height, width=width, count=1, dtype="float32", crs=crs, transform=transform
    ) as raster:
        raster.write(values, 1)


def declared(kind: str, scenes: dict[str, str]) -> dict[str, Any]:
    bands = {"V": {"sample_type": "FLOAT32"}}
    return {"type": kind, "bands": bands, "scenes": [{"time": t, "files": {"V": f}} for t, f in scenes.items()]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelHub]:
    """A service with a raster of noise at 30 m off the tile's pixels, one in degrees, and two years of a constant."""
    folder = tmp_path_factory.mktemp("reference")
    noise = np.random.default_rng(3).random((950, 980)).astype(np.float32) * 1000
    write(folder / "noise.tif", noise, "EPSG:32633", METRES)
    numbered = np.arange(1400 * 1500, dtype=np.float32).reshape(1400, 1500)
    write(folder / "degrees.tif", numbered, "EPSG:4326", DEGREES)
    for year, value in (("2018", 7), ("2020", 40)):
        write(folder / f"{year}.tif", np.full((200, 200), value, np.float32), "EPSG:32633", METRES)
    collections = [
        declared("byoc-noise", {"2020-01-01T00:00:00Z": "noise.tif"}),
        declared("byoc-degrees", {"2020-01-01T00:00:00Z": "degrees.tif"}),
        declared("byoc-years", {"2018-06-01T00:00:00Z": "2018.tif", "2020-06-01T00:00:00Z": "2020.tif"}),
    ]
    (folder / "collections.yaml").write_text(yaml.safe_dump({"collections": collections}))
    try:
        yield SentinelHub("local", local=LocalDeployment(folder / "state", folder / "collections.yaml", folder))
    finally:
        stop(folder / "state")


def run(hub: SentinelHub, tile: Tile, folder: Path, script: str, **source: Any) -> tuple[NDArray[Any], StageResult]:
    """The labels (y, x) that the stage writes, and what it says of them."""
    said = {"kind": "collection", "evalscript": "e.js", **source}
    reference = Reference.model_validate({"name": "V", "source": said, "dtype": "float32", "nodata": float("nan")})
    folder.mkdir(exist_ok=True)
    result = ReferenceStage(reference, folder, hub, script).run(tile, TileInputs({}, {}), folder)
    return open_array(folder, DATA_TIMELESS, "V")[..., 0], result


def in_one(file: Path, tile: Tile, resampling: Resampling) -> NDArray[np.float32]:
    """The whole tile rendered at once, by GDAL alone."""
    place = {"crs": f"EPSG:{tile.epsg}", "transform": tile.transform, "height": tile.shape[0], "width": tile.shape[1]}
    with rasterio.open(file) as raster, WarpedVRT(raster, resampling=resampling, tolerance=1e-6, **place) as warped:
        return np.asarray(warped.read(1))


@pytest.mark.parametrize(("upsampling", "exact"), [("NEAREST", True), ("BILINEAR", False)])
def test_a_tile_larger_than_a_request_has_no_seam(
    hub: SentinelHub, tmp_path: Path, upsampling: str, exact: bool
) -> None:
    # 2600 x 2700 pixels of 10 m from one of 30 m, off by fractions of a pixel: four windows, cut at row 2432 and
    # column 2500. Interpolated values agree to the last bits of float32, since a window's coordinates are rounded from
    # another origin; a seam would be off by hundreds.
    assert LARGE.shape == (2600, 2700) and max(LARGE.shape) > MAX_REQUEST_PX
    collection = {"collection": "byoc-noise", "service": "local", "upsampling": upsampling}
    found, result = run(hub, LARGE, tmp_path / "large", ONE_BAND, collection=collection)
    assert hub.local is not None
    whole = in_one(hub.local.project_folder / "noise.tif", LARGE, Resampling[upsampling.lower()])
    difference = np.abs(found - whole)
    assert difference.max() == 0 if exact else difference.max() < 1e-3
    windows = [(2432, 2500), (2432, 200), (168, 2500), (168, 200)]
    units = processing_units(windows, bands=1, samples=1, float32=True, mode="process")
    assert result.numbers["processing_units"] == pytest.approx(units, abs=1e-3)
    assert result.numbers["requests"] >= 4 and result.numbers["requests_per_second"] > 0
    assert result.numbers["labelled_share"] == 1.0


def test_from_another_crs_every_pixel_comes_from_where_it_lies(hub: SentinelHub, tmp_path: Path) -> None:
    # The service places pixels of another CRS to within an eighth of a source pixel, in each window by itself; the
    # numbers of the source's pixels tell from where each was taken, on the cuts as anywhere else.
    collection = {"collection": "byoc-degrees", "service": "local"}
    found, _ = run(hub, LARGE, tmp_path / "large", ONE_BAND, collection=collection)
    columns, rows = np.meshgrid(np.arange(LARGE.shape[1]) + 0.5, np.arange(LARGE.shape[0]) + 0.5)
    x, y = LARGE.transform @ (columns.ravel(), rows.ravel())
    lon, lat = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(x, y)
    column, row = ~DEGREES @ (lon, lat)
    taken_row, taken_column = np.divmod(found.ravel().astype(np.int64), 1500)
    off = np.maximum(np.abs(taken_row + 0.5 - row), np.abs(taken_column + 0.5 - column)) - 0.5
    assert off.max() <= 0.125


def test_several_collections_reach_the_script_each_with_its_own_interval(hub: SentinelHub, tmp_path: Path) -> None:
    years = {"collection": "byoc-years", "service": "local"}
    collections = [
        {**years, "id": "old", "time_interval": ["2018-01-01", "2018-12-31"]},
        {**years, "id": "new"},
    ]
    found, _ = run(
        hub, SMALL, tmp_path / "small", FUSED, collections=collections, time_interval=["2020-01-01", "2020-12-31"]
    )
    assert found.shape == (60, 64)
    assert np.unique(found).tolist() == [33]
