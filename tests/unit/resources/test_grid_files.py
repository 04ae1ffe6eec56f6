"""Grids as GeoPackages: exact round trips, stable bytes, custom grids and what they refuse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from eo_assets.core.grid import SentinelHubGrid, UtmGrid
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import GridError
from resources.vector_files import read_custom_grid, read_grid, write_grid

AREA = shapely.box(11.9, 50, 12.4, 50.2)
UTM_TILES = SentinelHubGrid(1, 10, (3, 5)).tiles(AREA)
DEGREE_TILES = SentinelHubGrid(3, 0.0001, (10, 20)).tiles(AREA)
ODD_TILES = [Tile("odd", 32633, Bounds(0.1, 0.2, 0.1 + 0.7, 0.2 + 1.4), 0.1, (3, 7))]


@pytest.mark.parametrize("tiles", [UTM_TILES, DEGREE_TILES, ODD_TILES, UTM_TILES + DEGREE_TILES], ids=len)
def test_tiles_come_back_exactly(tmp_path: Path, tiles: list[Tile]) -> None:
    write_grid(tmp_path / "new" / "grid.gpkg", tiles[::-1])
    assert read_grid(tmp_path / "new" / "grid.gpkg") == sorted(tiles, key=lambda tile: tile.order)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.gpkg"]


def test_a_layer_a_crs_with_boxes_and_pixels_as_batch_v2_wants_them(tmp_path: Path) -> None:
    write_grid(tmp_path / "grid.gpkg", UTM_TILES)
    assert sorted(pyogrio.list_layers(tmp_path / "grid.gpkg")[:, 0]) == ["tiles_32632", "tiles_32633"]
    meta, _, boxes, values = pyogrio.raw.read(tmp_path / "grid.gpkg", layer="tiles_32633")
    columns = dict(zip(meta["fields"], values))
    tile = next(tile for tile in UTM_TILES if tile.epsg == 32633)
    assert meta["crs"] == "EPSG:32633"
    assert shapely.from_wkb(boxes[0]).bounds == tile.bounds
    assert (columns["identifier"][0], columns["height"][0], columns["width"][0]) == (tile.name, 1006, 1010)
    assert columns["width"].dtype == np.int32
    assert "resolution" not in columns  # the service takes it, or width and height


def test_equal_tiles_make_equal_bytes_at_another_time(tmp_path: Path) -> None:
    write_grid(tmp_path / "one.gpkg", UTM_TILES)
    time.sleep(1.1)  # a GeoPackage's clock ticks in seconds or less
    write_grid(tmp_path / "two.gpkg", UTM_TILES[::-1])
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_a_failed_write_leaves_the_old_grid(tmp_path: Path) -> None:
    path = tmp_path / "grid.gpkg"
    write_grid(path, UTM_TILES)
    with pytest.raises(Exception, match="EPSG:1"):
        write_grid(path, [*DEGREE_TILES, Tile("x", 1, Bounds(0, 0, 10, 10), 10)])
    assert read_grid(path) == UTM_TILES
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(GridError, match=r"grid\.gpkg: there are no tiles to write"):
        write_grid(path, [])


def write_cells(path: Path, names: list[Any], boxes: list[Any], crs: str | None = "EPSG:32633", **more: Any) -> Path:
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(boxes, dtype=object)),
        field_data=[np.array(names, dtype=object if any(isinstance(n, str) for n in names) else None)],
        fields=["name"],
        geometry_type="Polygon",
        crs=crs,
        **more,
    )
    return path


BOX, NEXT = shapely.box(500_000, 0, 501_000, 1_000), shapely.box(501_000, 0, 502_000, 1_000)


def test_another_file_is_no_tile_grid(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"a\.gpkg: layer a lacks identifier, width.* materialize tile_grid again"):
        read_grid(write_cells(tmp_path / "a.gpkg", ["x"], [BOX]))
    with pytest.raises(GridError, match="there is no such file"):
        read_grid(tmp_path / "none.gpkg")


def test_a_custom_grid_of_all_layers_with_names_and_boxes_as_given(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.gpkg", ["east", "far-east"], [BOX, NEXT], layer="east")
    write_cells(path, ["west"], [BOX], crs="EPSG:32632", layer="west")
    grid = read_custom_grid(path, "name", 10, (1, 2))
    assert grid.cells == (
        ("east", 32633, Bounds(*BOX.bounds)),
        ("far-east", 32633, Bounds(*NEXT.bounds)),
        ("west", 32632, Bounds(*BOX.bounds)),
    )
    assert grid.tile("west").shape == (102, 104)


def test_numbers_are_names_too(tmp_path: Path) -> None:
    grid = read_custom_grid(write_cells(tmp_path / "a.gpkg", [7, 8], [BOX, NEXT]), "name", 10)
    assert [name for name, _, _ in grid.cells] == ["7", "8"]


def test_a_grid_written_by_us_is_a_custom_grid_with_buffers_inside(tmp_path: Path) -> None:
    tiles = UtmGrid(5_000, 10, (10, 10)).tiles(AREA)
    write_grid(tmp_path / "grid.gpkg", tiles)
    again = read_custom_grid(tmp_path / "grid.gpkg", "identifier", 10)
    assert {(tile.name, tile.shape, tile.bounds) for tile in again.tiles(AREA)} >= {
        (tile.name, tile.shape, tile.bounds) for tile in tiles
    }


def diamond() -> shapely.Polygon:
    return shapely.affinity.rotate(BOX, 45)


@pytest.mark.parametrize(
    ("names", "boxes", "crs", "column", "message"),
    [
        (["a"], [BOX], "EPSG:32633", "id", r"layer g has no column 'id' \(its columns: name\)"),
        (["a", "a"], [BOX, NEXT], "EPSG:32633", "name", "2 cells called 'a': give every cell a name of its own"),
        (["a", None], [BOX, NEXT], "EPSG:32633", "name", "feature 2 has no name: name it"),
        (["a", ""], [BOX, NEXT], "EPSG:32633", "name", "feature 2 has no name"),
        (["a/b"], [BOX], "EPSG:32633", "name", "cell 'a/b' can't be a folder's name"),
        (["a"], [diamond()], "EPSG:32633", "name", "cell a is no upright box in its CRS"),
        (["a"], [None], "EPSG:32633", "name", "cell a is no upright box"),
        (
            ["a"],
            [shapely.box(0, 0, 15, 10)],
            "EPSG:32633",
            "name",
            "cell a .* is 15 wide, no whole number of pixels of 10",
        ),
        (["a"], [BOX], None, "name", "layer g (has no CRS|is in .*): assign or reproject"),
        (["a"], [BOX], "+proj=tmerc +lon_0=7.7 +datum=WGS84", "name", "which has no EPSG code: assign or reproject"),
    ],
)
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_broken_custom_grid_is_refused_naming_file_and_cell(
    tmp_path: Path, names: list[Any], boxes: list[Any], crs: str | None, column: str, message: str
) -> None:
    path = write_cells(tmp_path / "g.gpkg", names, boxes, crs)
    with pytest.raises(GridError, match=message) as refusal:
        read_custom_grid(path, column, 10)
    assert str(path) in str(refusal.value)
