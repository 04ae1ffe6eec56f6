"""Polygons for a tile: any CRS, the tile's own part, and a message for everything that can go wrong."""

from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from shapely.geometry import LineString, Point, box

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import TileError
from resources.vector_tiles import polygons_of

TILE = Tile("33UUU_3_7", 32633, Bounds(330_000, 5_800_000, 330_100, 5_800_100), 10.0)
LEFT_HALF = box(330_000, 5_800_000, 330_050, 5_800_100)
FAR_AWAY = box(430_000, 5_800_000, 430_100, 5_800_100)


def write(
    path: Path, shapes: list[Any], crs: int | None = 32633, layer: str | None = None, **columns: list[Any]
) -> Path:
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=32633 if crs else None)
    options = {"layer": layer} if layer else {}
    (frame.to_crs(crs) if crs else frame).to_file(path, engine="pyogrio", **options)
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
