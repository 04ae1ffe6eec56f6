"""Labels from polygons and rasters: placed right, nothing invented, nodata as the project says."""

import dataclasses
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from shapely.geometry import Point, box

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import TileError
from eo_assets.project import Reference
from eo_assets.stages.reference import ReferenceStage, window_bounds
from eo_assets.stages.stage import TileInputs
from resources.eopatch_files import DATA_TIMELESS, open_array
from resources.sentinel_hub import ProcessAnswer, SentinelHub

LEFT, BOTTOM, RIGHT, TOP = 330_000, 5_800_000, 330_240, 5_801_300


def labels(world: Any) -> np.ndarray:
    outcome = world.run("reference")["reference"]
    assert outcome.status == "done", outcome
    name = world.reference["name"]
    return open_array(world.store.live("reference", world.tile.name), DATA_TIMELESS, name)[..., 0]


def refusal(world: Any) -> str:
    outcome = world.run("reference")["reference"]
    assert outcome.status == "failed", outcome
    return str(outcome.reason)


def polygons(world: Any, shapes: list[Any], crs: int = 32633, name: str = "labels.gpkg", **columns: list[Any]) -> None:
    world.input_folder.mkdir(exist_ok=True)
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=32633).to_crs(crs)
    frame.to_file(world.input_folder / name, engine="pyogrio")
    column = next(iter(columns), None)
    world.reference["source"] = {"kind": "vector", "file": name, "column": column}


@pytest.mark.parametrize("crs", [32633, 4326])
def test_polygons_are_burnt_where_their_pixel_centres_are(world: Any, crs: int) -> None:
    polygons(world, [box(LEFT, BOTTOM, LEFT + 50, TOP), Point(LEFT + 150, BOTTOM + 600).buffer(80)], crs, share=[0, 40])
    shapes = [(box(LEFT, BOTTOM, LEFT + 50, TOP), 0), (Point(LEFT + 150, BOTTOM + 600).buffer(80), 40)]
    whole = rasterize(shapes, out_shape=world.tile.shape, transform=world.tile.transform, fill=255, dtype="uint8")
    found = labels(world)
    np.testing.assert_array_equal(found, whole)
    assert set(np.unique(found)) == {0, 40, 255}, "0 is a label, 255 is nodata"
    assert world.store.record("reference", world.tile.name).numbers["labelled_pixels"] == (whole != 255).sum()


def test_later_polygons_lie_over_earlier_ones(world: Any) -> None:
    polygons(world, [box(LEFT, BOTTOM, RIGHT, TOP), box(LEFT, BOTTOM, LEFT + 50, TOP)], share=[10, 20])
    assert labels(world)[5, [0, 4, 5]].tolist() == [20, 20, 10]


def test_one_value_for_all_polygons(world: Any) -> None:
    polygons(world, [box(LEFT, BOTTOM, LEFT + 50, TOP)])
    world.reference["source"]["value"] = 7
    assert labels(world)[0, [4, 5]].tolist() == [7, 255]


def test_a_file_that_does_not_reach_the_tile_leaves_it_empty(world: Any) -> None:
    polygons(world, [box(LEFT - 5000, BOTTOM, LEFT - 4000, TOP)], share=[1])
    labels(world)
    record = world.store.record("reference", world.tile.name)
    assert (record.empty, record.reason) == (True, "no pixel has a label")


@pytest.mark.parametrize("value", [256, -1, 0.5, 1e9])
def test_a_label_that_does_not_fit_is_refused_and_not_wrapped(world: Any, value: float) -> None:
    polygons(world, [box(LEFT, BOTTOM, LEFT + 50, TOP)], share=[value])
    assert "do not fit reference.dtype uint8" in refusal(world)


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", float("nan")), ("uint16", 0)])
def test_any_nodata(world: Any, dtype: str, nodata: float) -> None:
    world.reference |= {"dtype": dtype, "nodata": nodata}
    polygons(world, [box(LEFT, BOTTOM, LEFT + 50, TOP)], share=[9])
    found = labels(world)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[0, :6], np.array([9, 9, 9, 9, 9, nodata], dtype))


def test_a_changed_shapefile_makes_its_labels_stale(world: Any) -> None:
    # The values lie in the .dbf, and the .shp stays the same to the byte.
    shape = box(LEFT, BOTTOM, LEFT + 50, TOP)
    polygons(world, [shape], name="labels.shp", share=[10])
    geometry = (world.input_folder / "labels.shp").read_bytes()
    assert labels(world)[0, 0] == 10
    polygons(world, [shape], name="labels.shp", share=[30])
    assert (world.input_folder / "labels.shp").read_bytes() == geometry
    assert labels(world)[0, 0] == 30


def test_a_raster_on_the_grid_is_copied(world: Any) -> None:
    world.label()
    expected = np.arange(np.prod(world.tile.shape)).reshape(world.tile.shape) % 10 * 10
    expected[:, -1] = 255
    np.testing.assert_array_equal(labels(world), expected)


def test_a_raster_in_another_crs_is_placed(world: Any) -> None:
    # 0.001 degrees a pixel, its value the number of its column: the labels rise from west to east.
    values = np.arange(60, dtype=np.uint8)[None, :].repeat(60, axis=0)
    transform = rasterio.Affine(0.001, 0, 12.46, 0, -0.001, 52.35)
    world.label(values, crs="EPSG:4326", transform=transform)
    found = labels(world)
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True)
    for row, column in [(0, 0), (64, 12), (129, 23)]:
        x, _ = to_degrees.transform(LEFT + (column + 0.5) * 10, TOP - (row + 0.5) * 10)
        assert abs(int(found[row, column]) - int((x - 12.46) / 0.001)) <= 1


@pytest.mark.parametrize("declared", [None, 255])
def test_what_a_raster_does_not_cover_is_nodata(world: Any, declared: int | None) -> None:
    small = np.full((10, 10), 3, np.uint8)
    world.label(small, nodata=declared)
    found = labels(world)
    assert (found[:10, :10] == 3).all()
    assert (found == 255).sum() == found.size - 100


def test_a_raster_elsewhere_leaves_the_tile_empty(world: Any) -> None:
    world.label(np.ones((10, 10), np.uint8), transform=rasterio.Affine(10, 0, 600_000, 0, -10, 5_000_000))
    assert (labels(world) == 255).all()
    assert world.store.record("reference", world.tile.name).empty


def test_the_rasters_own_nodata_becomes_the_projects_and_no_label_moves(world: Any) -> None:
    # 0 is nodata in the file; 254 and 255 are labels there, and 255 is the project's nodata.
    values = np.resize(np.array([0, 1, 254, 255], np.uint8), world.tile.shape)
    world.reference |= {"dtype": "int16", "nodata": -1}
    world.label(values, nodata=0)
    np.testing.assert_array_equal(labels(world), np.where(values == 0, -1, values.astype(np.int16)))


def test_no_label_is_moved_out_of_the_way_of_nodata(world: Any) -> None:
    values = np.resize(np.array([0, 1, 254, 255], np.uint8), world.tile.shape)
    world.label(values, nodata=0)
    np.testing.assert_array_equal(labels(world), np.where(values == 0, 255, values))


def test_a_float_raster_with_nan(world: Any) -> None:
    values = np.linspace(0, 1, np.prod(world.tile.shape), dtype=np.float32).reshape(world.tile.shape)
    values[::3] = np.nan
    world.reference |= {"dtype": "float32", "nodata": float("nan")}
    world.label(values, nodata=float("nan"))
    np.testing.assert_array_equal(labels(world), values)


def test_a_raster_whose_values_do_not_fit_is_refused(world: Any) -> None:
    world.label(np.full(world.tile.shape, 300, np.uint16))
    assert "values 300..300 (uint16) do not fit reference.dtype uint8" in refusal(world)


def test_nan_labels_for_a_whole_type_are_refused(world: Any) -> None:
    world.label(np.full(world.tile.shape, np.nan, np.float32))
    assert "do not fit reference.dtype uint8" in refusal(world)


@pytest.mark.parametrize("kind", ["raster", "vector"])
def test_a_missing_file_is_named_with_the_remedy(world: Any, kind: str) -> None:
    world.reference["source"] = {"kind": kind, "file": "none.tiff"}
    assert "reference.source.file: " in refusal(world)
    assert "none.tiff does not exist; put the labels there" in refusal(world)


def test_a_missing_column_and_band_are_named(world: Any) -> None:
    polygons(world, [box(LEFT, BOTTOM, RIGHT, TOP)], share=[1])
    world.reference["source"]["column"] = "class"
    assert "has no column 'class'; it has share" in refusal(world)
    world.label()
    world.reference["source"] = {"kind": "raster", "file": "labels.tiff", "band": 2}
    assert "has 1 bands; reference.source.band: 2" in refusal(world)


def test_a_raster_that_is_none_or_has_no_crs_is_refused(world: Any) -> None:
    world.label(crs=None)
    assert "has no CRS" in refusal(world)
    (world.input_folder / "labels.tiff").write_bytes(b"no raster")
    assert "can't be read as a raster" in refusal(world)


def test_labels_of_a_file_are_made_again_when_it_changes(world: Any) -> None:
    world.label()
    first = world.run("reference")["reference"]
    assert world.run("reference")["reference"].status == "up_to_date"
    world.label(np.zeros(world.tile.shape, np.uint8))
    second = world.run("reference")["reference"]
    assert second.status == "done"
    assert second.record.digest != first.record.digest


@dataclasses.dataclass(frozen=True)
class Priced(SentinelHub):
    """A service that answers every window with its number of pixels, and tells what that cost."""

    prices: tuple[float | None, ...] = ()
    asked: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def process(self, data: Any, evalscript: str, bounds: Bounds, epsg: int, shape: tuple[int, int]) -> ProcessAnswer:
        self.asked.append(shape)
        price = self.prices[len(self.asked) - 1]
        return ProcessAnswer(np.ones((*shape, 1), np.uint8), price, {"requests": 2, "throttled": 1})


@pytest.mark.parametrize(("prices", "told"), [((0.5, 1.25), 1.75), ((0.5, None), "not told by the service")])
def test_what_the_windows_of_a_tile_cost_is_added_up(tmp_path: Path, prices: Any, told: Any) -> None:
    service = Priced("priced", prices=prices)
    collection = {"collection": "byoc-a", "service": "priced"}
    source = {"kind": "collection", "evalscript": "e.js", "collection": collection}
    reference = Reference.model_validate({"name": "L", "source": source, "nodata": 255})
    tile = Tile("t", 32633, Bounds(0, 0, 40, 25_000), 10.0)
    result = ReferenceStage(reference, tmp_path, service, "").run(tile, TileInputs({}, {}), tmp_path)
    assert service.asked == [(2432, 4), (68, 4)], "whole blocks of rows, no side above 2500 pixels"
    assert result.numbers["processing_units"] == told
    assert (result.numbers["requests"], result.numbers["throttled"]) == (4, 2)


@pytest.mark.parametrize("kind", ["vector", "raster"])
def test_a_file_that_no_tile_could_use_is_found_before_any_is_made(world: Any, kind: str) -> None:
    world.label()
    world.reference["source"] = {"kind": kind, "file": "none.gpkg"}
    [stage] = world.walk().selected(["reference"])
    with pytest.raises(TileError, match=r"none\.gpkg does not exist; put the reference there"):
        stage.check_file()
    polygons(world, [box(LEFT, BOTTOM, RIGHT, TOP)], share=[1])
    world.walk().selected(["reference"])[0].check_file()
    world.reference["source"]["order_by"] = "rank"
    [stage] = world.walk().selected(["reference"])
    with pytest.raises(TileError, match="has no column 'rank'; it has share"):
        stage.check_file()


def test_fractions_need_not_be_exact_in_float32(world: Any) -> None:
    # 0.1 has no exact float32: it is stored as the nearest, not refused as one that does not fit.
    world.reference |= {"dtype": "float32", "nodata": -1}
    polygons(world, [box(LEFT, BOTTOM, LEFT + 50, TOP)], share=[0.1])
    assert labels(world)[0, 0] == np.float32(0.1)


def test_a_window_of_a_tile(world: Any) -> None:
    tile = Tile("t", 32633, Bounds(0, 0, 100, 100), 10.0, (1, 2))
    assert window_bounds(tile, slice(0, 12), slice(0, 14)) == tile.bounds
    assert window_bounds(tile, slice(1, 3), slice(2, 3)) == Bounds(0, 80, 10, 100)


def test_a_virtual_raster_that_calls_itself_a_tiff_shows_no_file_of_this_machine(world: Any, tmp_path: Path) -> None:
    """Whoever may put files under input-data must not have a worker publish what lies elsewhere."""
    world.input_folder.mkdir(exist_ok=True)
    (tmp_path / "secret").write_bytes(b"TOPSECRET" * 100)
    (world.input_folder / "labels.tiff").write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><SRS>EPSG:32633</SRS><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{tmp_path / "secret"}</SourceFilename>'
        "<PixelOffset>1</PixelOffset><LineOffset>9</LineOffset></VRTRasterBand></VRTDataset>"
    )
    assert "can't be read as a raster" in refusal(world)
