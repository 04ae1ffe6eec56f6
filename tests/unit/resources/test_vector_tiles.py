"""Polygons and points for a tile: any CRS, the tile's own part, and a message for everything that can go wrong."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from shapely.geometry import LineString, MultiPoint, Point, box

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import TileError
from resources.vector_tiles import PointColumns, check_points, points_of, polygons_of

TILE = Tile("33UUU_3_7", 32633, Bounds(330_000, 5_800_000, 330_100, 5_800_100), 10.0)
LEFT_HALF = box(330_000, 5_800_000, 330_050, 5_800_100)
FAR_AWAY = box(430_000, 5_800_000, 430_100, 5_800_100)


def write(
    path: Path, shapes: list[Any], crs: int | None = 32633, layer: str | None = None, **columns: list[Any]
) -> Path:
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=32633 if crs else None)
    options = {"layer": layer} if layer else {}
    placed = frame.to_crs(crs) if crs else frame
    placed.to_parquet(path) if path.suffix == ".parquet" else placed.to_file(path, engine="pyogrio", **options)
    return path


@pytest.mark.parametrize("crs", [32633, 4326, 3857, 32632, 3035])
@pytest.mark.parametrize("suffix", ["gpkg", "shp", "fgb"])
def test_polygons_come_in_the_tiles_crs(tmp_path: Path, crs: int, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", [LEFT_HALF, FAR_AWAY], crs, share=[40, 60])
    [(shape, value)] = polygons_of(path, None, "share", 1.0, TILE)
    assert value == 40
    assert shapely.symmetric_difference(shape, LEFT_HALF).area < 0.1


def test_one_value_for_all_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [LEFT_HALF, TILE_BOX], share=[1, 2])
    assert [value for _, value in polygons_of(path, None, None, 7.0, TILE)] == [7, 7]
    assert [value for _, value in polygons_of(path, None, "share", 7.0, TILE)] == [1, 2]


TILE_BOX = box(*TILE.bounds)


def test_points_lines_and_features_without_geometry_are_left_out(tmp_path: Path) -> None:
    shapes = [Point(330_010, 5_800_010), LineString([(330_000, 5_800_000), (330_100, 5_800_100)]), None, LEFT_HALF]
    path = write(tmp_path / "a.gpkg", shapes, share=[1, 2, 3, 4])
    assert [value for _, value in polygons_of(path, None, "share", 0.0, TILE)] == [4]


def test_polygons_without_an_area_are_left_out(tmp_path: Path) -> None:
    # GEOS refuses to place the first, GDAL warns of the second that it burns nothing.
    point, line = ([(330_010, 5_800_010)] * 3, [(330_010, 5_800_010), (330_010, 5_800_010), (330_010, 5_800_090)])
    shapes = [shapely.polygons(point), shapely.polygons(line), shapely.from_wkt("POLYGON EMPTY"), LEFT_HALF]
    path = write(tmp_path / "a.gpkg", shapes, share=[1, 2, 3, 4])
    assert [value for _, value in polygons_of(path, None, "share", 0.0, TILE)] == [4]


def test_a_file_that_does_not_reach_the_tile_has_nothing_for_it(tmp_path: Path) -> None:
    assert polygons_of(write(tmp_path / "a.gpkg", [FAR_AWAY]), None, None, 1.0, TILE) == []


def test_heights_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [shapely.force_3d(LEFT_HALF, 30.0)])
    [(shape, _)] = polygons_of(path, None, None, 1.0, TILE)
    assert not shape.has_z


def test_of_several_layers_one_must_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [LEFT_HALF], layer="roads")
    write(path, [TILE_BOX], layer="towns")
    assert polygons_of(path, "towns", None, 1.0, TILE)[0][0].area == pytest.approx(10_000)
    with pytest.raises(TileError, match=r"reference\.source\.layer: none is named; the file has roads, towns"):
        polygons_of(path, None, None, 1.0, TILE)
    with pytest.raises(TileError, match=r"layer: rivers; the file has roads, towns"):
        polygons_of(path, "rivers", None, 1.0, TILE)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"none\.gpkg does not exist"):
        polygons_of(tmp_path / "none.gpkg", None, None, 1.0, TILE)
    path = write(tmp_path / "a.gpkg", [LEFT_HALF], share=[1], name=["x"])
    with pytest.raises(TileError, match="has no column 'class'; it has share, name"):
        polygons_of(path, None, "class", 1.0, TILE)
    with pytest.raises(TileError, match="column name holds 'x': no number; give every feature a number"):
        polygons_of(path, None, "name", 1.0, TILE)


@pytest.mark.parametrize("values", [[1.0, None], [1, float("nan")]])
def test_a_polygon_without_a_number_is_refused(tmp_path: Path, values: list[Any]) -> None:
    path = write(tmp_path / "a.gpkg", [LEFT_HALF, LEFT_HALF], share=values)
    with pytest.raises(TileError, match=r"column share holds .*give every feature a number"):
        polygons_of(path, None, "share", 1.0, TILE)


def test_a_file_without_a_crs_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="crs"):
        path = write(tmp_path / "a.gpkg", [LEFT_HALF], None)
    with pytest.raises(TileError, match="has no CRS; set the one"):
        polygons_of(path, None, None, 1.0, TILE)


def test_a_file_that_is_no_vector_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").write_bytes(b"not a database")
    with pytest.raises(TileError, match="can't be read as a vector file"):
        polygons_of(tmp_path / "a.gpkg", None, None, 1.0, TILE)


def test_the_highest_of_a_column_comes_last_and_equals_keep_the_order_of_the_file(tmp_path: Path) -> None:
    shapes = [LEFT_HALF, TILE_BOX, LEFT_HALF, TILE_BOX]
    path = write(tmp_path / "a.gpkg", shapes, share=[1, 2, 3, 4], rank=[2.5, -1, 2.5, 0])
    assert [value for _, value in polygons_of(path, None, "share", 0.0, TILE, "rank")] == [2, 4, 1, 3]
    assert [value for _, value in polygons_of(path, None, "share", 0.0, TILE, "share")] == [1, 2, 3, 4]
    with pytest.raises(TileError, match="has no column 'height'"):
        polygons_of(path, None, "share", 0.0, TILE, "height")


COLUMNS = PointColumns(None, "id", "label", "date", "weight", "uint8", 255)
GOOD: dict[str, list[Any]] = {
    "id": ["a", "b", "c"],
    "label": [0, 20, 40],
    "date": ["2020-05-01", "2020-06-02T10:20:30Z", None],
    "weight": [1.0, 0.25, 3.0],
}
PLACES = [Point(330_000, 5_800_100), Point(330_099.9, 5_800_000.1), Point(330_100, 5_800_050)]


@pytest.mark.parametrize("crs", [32633, 4326])
@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
def test_points_come_on_their_pixels_with_all_they_say(tmp_path: Path, suffix: str, crs: int) -> None:
    # The third lies on the right edge, which is the next tile's; in degrees the first might fall off by rounding.
    places = [Point(330_000.5, 5_800_099.5), *PLACES[1:]] if crs == 4326 else PLACES
    path = write(tmp_path / f"a.{suffix}", places, crs, **GOOD)
    check_points(path, COLUMNS)
    found = points_of(path, COLUMNS, Tile("t", 32633, TILE.cell, 10.0, (3, 4)))
    assert found.pixels.tolist() == [[3, 4], [12, 13]]
    assert found.ids.tolist() == ["a", "b"] and found.ids.dtype.kind == "U"
    assert found.labels.tolist() == [0, 20] and found.labels.dtype == "uint8"
    assert found.dates.astype(str).tolist() == ["2020-05-01", "2020-06-02"]
    assert found.weights.tolist() == [1.0, 0.25] and found.weights.dtype == "float32"


def test_without_dates_and_weights_none_is_known_and_all_weigh_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", PLACES, id=[7, 8, 9], label=[1, 2, 3])
    found = points_of(path, PointColumns(None, "id", "label", None, None, "float32", -1), TILE)
    assert found.ids.tolist() == ["7", "8"]
    assert np.isnat(found.dates).all() and found.weights.tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["datetime64[ns]", "date"])
def test_columns_of_dates_need_no_text(tmp_path: Path, kind: str) -> None:
    days = pandas.to_datetime(["2020-05-01", None, "2020-06-30"])
    values = list(days.date) if kind == "date" else list(days)
    path = write(tmp_path / "a.parquet", PLACES, **{**GOOD, "date": values})
    assert points_of(path, COLUMNS, TILE).dates.astype(str).tolist() == ["2020-05-01", "NaT"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": ["a", "b", "a"]}, "feature 3: column id holds 'a': also the id of feature 1; give every point an id"),
        ({"id": ["a", None, "c"]}, "feature 2: column id holds None: no id; give every point one"),
        ({"label": [1, None, 3]}, "feature 2: column label holds nan: no number; give every feature a number"),
        ({"label": ["oak", "ash", "elm"]}, "feature 1: column label holds 'oak': no number"),
        ({"label": [1, 2, 256]}, "feature 3: column label holds 256: a label that reference.dtype uint8 can't hold"),
        ({"label": [1, 2, 0.5]}, "feature 3: column label holds 0.5: a label that reference.dtype uint8 can't hold"),
        ({"label": [1, 255, 3]}, "feature 2: column label holds 255: reference.nodata; choose another"),
        ({"weight": [1.0, 0.0, 2.0]}, "feature 2: column weight holds 0.0: no weight; give every point a weight above"),
        ({"weight": [1.0, -2.0, 2.0]}, "feature 2: column weight holds -2.0: no weight"),
        ({"weight": [1.0, None, 2.0]}, "feature 2: column weight holds nan: no number"),
        ({"date": ["2020-05-01", "May", "x"]}, "feature 2: column date holds 'May': not a date; write dates as YYYY"),
        ({"date": [2019, 2020, 2021]}, "feature 1: column date holds 2019: not a date; write dates as YYYY-MM-DD"),
    ],
)
def test_a_point_that_is_not_as_promised_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = write(tmp_path / "a.gpkg", PLACES, **{**GOOD, **changes})
    with pytest.raises(TileError) as caught:
        check_points(path, COLUMNS)
    assert str(caught.value).startswith(f"{path}: {told}")


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (LEFT_HALF, "feature 2 has a Polygon, and kind: points needs single points; take it out of the file"),
        (LineString([(330_000, 5_800_000), (330_100, 5_800_100)]), "feature 2 has a LineString"),
        (MultiPoint([(330_000, 5_800_000), (330_100, 5_800_100)]), "feature 2 has a MultiPoint of 2"),
        (None, "feature 2 has no geometry"),
        (Point(), "feature 2 has no geometry"),
    ],
)
def test_only_single_points_are_points(tmp_path: Path, shape: Any, told: str) -> None:
    path = write(tmp_path / "a.gpkg", [PLACES[0], shape, PLACES[2]], **GOOD)
    with pytest.raises(TileError, match=told):
        check_points(path, COLUMNS)


def test_a_multipoint_of_one_is_a_point(tmp_path: Path) -> None:
    # What programs write that make every layer a multi-layer.
    path = write(tmp_path / "a.gpkg", [MultiPoint([place]) for place in PLACES], **GOOD)
    check_points(path, COLUMNS)
    assert points_of(path, COLUMNS, TILE).pixels.tolist() == [[0, 0], [9, 9]]


def test_a_points_file_without_a_column_or_crs_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", PLACES, id=[1, 2, 3], label=[1, 2, 3])
    with pytest.raises(TileError, match="has no column 'date'; it has id, label: name one of them"):
        check_points(path, COLUMNS)
    with pytest.warns(UserWarning, match="crs"):
        path = write(tmp_path / "b.gpkg", PLACES, None, **GOOD)
    with pytest.raises(TileError, match="has no CRS; set the one"):
        check_points(path, COLUMNS)
