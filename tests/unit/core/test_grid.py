"""Sentinel Hub's tiling grids: names and boxes known from elsewhere, what is refused, and the shipped area."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from eo_assets.core.grid import CustomGrid, Grid, SentinelHubGrid, UtmGrid
from eo_assets.core.sentinel2_squares import listed_squares, zone_squares
from eo_assets.core.tile import Bounds
from eo_assets.core.utm_zones import UTM_EPSG, central_meridian
from eo_assets.errors import AreaError, GridError

ROOT = Path(__file__).parents[3]
WEST_AFRICA = ROOT / "eo_assets/projects/west_africa/input-data/aoi.geojson"
SHARED_AREA = ROOT.parent / "shared/data/west_africa_aoi.geojson"


def area_of(path: Path) -> BaseGeometry:
    return shapely.union_all([shape(feature["geometry"]) for feature in json.loads(path.read_text())["features"]])


def utm_box(epsg: int, left: float, bottom: float, right: float, top: float) -> BaseGeometry:
    """A box of a UTM zone in lon/lat, its edges dense enough to stay straight in metres."""
    to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True).transform
    return shapely.transform(
        shapely.segmentize(shapely.box(left, bottom, right, top), 200), to_lonlat, interleaved=False
    )


# The corners of Sentinel-2's own tiles, from products and ESA's tile list, give the boxes of grids 0 and 2; grid 1 is
# anchored at the exact 100 km corner.
BOXES = [
    (1, 10, "33UUU_3_7", 32633, (330000, 5820000, 340000, 5830000)),
    (1, 10, "33UUU_4_7", 32633, (340000, 5820000, 350000, 5830000)),
    (1, 10, "33UUU_3_8", 32633, (330000, 5810000, 340000, 5820000)),
    (1, 10, "33UUU_4_8", 32633, (340000, 5810000, 350000, 5820000)),
    (1, 20, "28PBB_2_6", 32628, (220000, 1630000, 230000, 1640000)),
    (2, 120, "30NXL_0_0", 32630, (600000, 499920, 700080, 600000)),
    (2, 30, "33UUU_0_0", 32633, (300000, 5799960, 400080, 5900040)),
    (0, 10, "31UFU_0_0", 32631, (600000, 5880000, 620040, 5900040)),
    (0, 60, "31UFU_4_4", 32631, (680160, 5799840, 700200, 5819880)),
    (2, 60, "20HNH_0_0", 32720, (499980, 6199960, 600060, 6300040)),
    (2, 60, "53HNA_0_0", 32753, (499980, 5999920, 600060, 6100000)),
    (2, 60, "01CCV_0_0", 32701, (300000, 1899940, 400080, 2000020)),
    (3, 0.0001, "N05W003", 4326, (-3, 5, -2, 6)),
    (3, 0.0002, "S01E179", 4326, (179, -1, 180, 0)),
]


@pytest.mark.parametrize(("grid_id", "resolution", "name", "epsg", "box"), BOXES)
def test_named_tiles_lie_where_they_are_known_to_lie(
    grid_id: int, resolution: float, name: str, epsg: int, box: tuple[float, ...]
) -> None:
    tile = SentinelHubGrid(grid_id, resolution, (3, 5)).tile(name)
    assert (tile.name, tile.epsg, tile.cell) == (name, epsg, Bounds(*box))
    side = round((box[2] - box[0]) / resolution)
    assert tile.shape == (side + 6, side + 10)
    assert all(type(edge) is float for edge in tile.cell)


def test_the_demo_scene_claims_its_four_tiles_and_no_neighbour_that_it_only_touches() -> None:
    scene = utm_box(32633, 330000, 5814360, 345360, 5822040)
    names = [tile.name for tile in SentinelHubGrid(1, 10).tiles(scene)]
    assert names == ["33UUU_3_7", "33UUU_3_8", "33UUU_4_7", "33UUU_4_8"]


@pytest.mark.parametrize(("reach_m", "names"), [(5, {"31NBA_0_0"}), (7, {"30NZF_0_0", "31NBA_0_0"})])
def test_a_cell_is_claimed_by_more_than_a_twentieth_of_a_pixel(reach_m: float, names: set[str]) -> None:
    edge = SentinelHubGrid(2, 120).tile("30NZF_0_0").cell.right
    area = utm_box(32630, edge - reach_m, 10_000, edge + 1_000, 11_000)
    assert {tile.name for tile in SentinelHubGrid(2, 120).tiles(area)} == names


def test_the_shipped_area_on_grid_2() -> None:
    tiles = SentinelHubGrid(2, 120, (10, 10)).tiles(area_of(WEST_AFRICA))
    zones = Counter(tile.epsg for tile in tiles)
    assert zones == {32627: 3, 32628: 93, 32629: 127, 32630: 121, 32631: 118, 32632: 140, 32633: 65}
    assert {tile.shape for tile in tiles} == {(854, 854)}


@pytest.mark.shared
def test_west_africa_has_the_tiles_that_eo_grow_gave_it() -> None:
    tiles = SentinelHubGrid(2, 120, (10, 10)).tiles(area_of(SHARED_AREA))
    zones = Counter(tile.epsg for tile in tiles)
    assert zones == {32627: 1, 32628: 85, 32629: 120, 32630: 119, 32631: 117, 32632: 144, 32633: 73}
    assert (tiles[222].name, tiles[222].shape) == ("30NXL_0_0", (854, 854))


def test_every_listed_square_has_a_place() -> None:
    names = [name for epsg in UTM_EPSG for name in zone_squares(epsg).names]
    assert len(names) == len(set(names)) == len(listed_squares()) == 56_686
    assert set(names) == listed_squares()


def test_no_square_reaches_further_than_the_quick_test_assumes() -> None:
    for epsg in UTM_EPSG:
        squares = zone_squares(epsg)
        assert np.abs(np.concatenate([squares.west, squares.east]) - central_meridian(epsg)).max() < 14
        assert squares.south.min() > -14 if epsg < 32700 else squares.north.max() < 14


@pytest.mark.parametrize("grid", [SentinelHubGrid(0, 20), SentinelHubGrid(2, 120), UtmGrid(20000, 10)])
def test_an_area_split_at_the_antimeridian_gets_tiles_on_both_sides(grid: Grid) -> None:
    fiji = shapely.MultiPolygon([shapely.box(179.5, -17, 180, -16.5), shapely.box(-180, -17, -179.7, -16.5)])
    tiles = grid.tiles(fiji)
    assert {tile.epsg for tile in tiles} == {32701, 32760}
    assert all(tile.cell.left < 900_000 for tile in tiles)
    assert [grid.tile(tile.name) for tile in tiles] == tiles


def test_an_area_on_the_antimeridian_alone_claims_the_square_that_comes_from_the_other_side() -> None:
    east = SentinelHubGrid(2, 120).tiles(shapely.box(-180, 36.5, -179.99, 36.6))
    assert {tile.name for tile in east} == {"01SBA_0_0", "60SYF_0_0"}


def test_tiles_are_sorted_by_epsg_then_name_across_the_equator() -> None:
    tiles = SentinelHubGrid(1, 20).tiles(shapely.box(11.8, -0.2, 12.6, 0.2))
    assert [tile.order for tile in tiles] == sorted(tile.order for tile in tiles)
    assert {tile.epsg for tile in tiles} == {32632, 32633, 32732, 32733}


@pytest.mark.parametrize("area", [shapely.box(10, 83, 11, 85), shapely.box(10, -81, 11, -79)])
@pytest.mark.parametrize("grid", [SentinelHubGrid(0, 10), SentinelHubGrid(2, 120), UtmGrid(10000, 10)])
def test_an_area_beyond_utm_is_refused(area: BaseGeometry, grid: Grid) -> None:
    with pytest.raises(AreaError, match=r"latitudes .* but the grid covers -80 to 84: clip the area"):
        grid.tiles(area)


def test_degree_cells_reach_the_poles_and_know_their_neighbours() -> None:
    names = [tile.name for tile in SentinelHubGrid(3, 0.0001).tiles(shapely.box(-0.5, 89, 1, 90))]
    assert names == ["N89E000", "N89W001"]
    assert [tile.name for tile in SentinelHubGrid(3, 0.0001).tiles(shapely.box(-180, -90, -179.5, -89.5))] == [
        "S90W180"
    ]


@pytest.mark.parametrize(
    ("area", "message"),
    [
        (shapely.Point(1, 1), "non-polygonal geometry .Point.: give it polygons"),
        (shapely.Polygon(), "empty"),
        (shapely.box(170, 0, 190, 1), "longitudes 170 to 190, beyond -180 to 180: split it in two at the antimeridian"),
        (shapely.box(10, 50, 10 + 1e-9, 50.5), "claims no cell .* thinner than a twentieth of a pixel"),
    ],
)
def test_an_area_that_is_none_is_refused(area: BaseGeometry, message: str) -> None:
    with pytest.raises(AreaError, match=message):
        SentinelHubGrid(3, 0.0001).tiles(area)


def test_an_unknown_grid_and_a_resolution_that_it_lacks_are_refused() -> None:
    with pytest.raises(GridError, match="tiling grid 4 is not known here: choose one of 0, 1, 2, 3"):
        SentinelHubGrid(4, 10)
    with pytest.raises(GridError, match="tiling grid 2 has no resolution 10: choose one of 30, 60, 120, 240, 360"):
        SentinelHubGrid(2, 10)
    with pytest.raises(GridError, match=r"tiling grid 3 has no resolution 10: choose one of 0\.0001, 0\.0002"):
        SentinelHubGrid(3, 10)
    with pytest.raises(GridError, match=r"buffer \(-1, 0\) is not \(y, x\) in whole pixels"):
        SentinelHubGrid(2, 120, (-1, 0))


@pytest.mark.parametrize(
    ("grid_id", "resolution", "name"),
    [
        (1, 10, "33UUU_10_0"),
        (1, 10, "33UUU_3"),
        (1, 10, "33UUU_3_07"),
        (1, 10, "33IUU_3_7"),
        (1, 10, "61UUU_3_7"),
        (1, 10, "33uuu_3_7"),
        (1, 10, "33UUU_3_7\n"),
        (1, 10, "32UQD_5_7"),  # wholly in zone 33, which has squares of its own there
        (2, 120, "33UUU_1_0"),
        (0, 10, "33UUU_5_0"),
        (3, 0.0001, "33UUU_0_0"),
        (3, 0.0001, "N90E000"),
        (3, 0.0001, "N00E180"),
        (3, 0.0001, "S00E000"),
        (3, 0.0001, "N05W000"),
    ],
)
def test_a_name_that_the_grid_lacks_is_refused(grid_id: int, resolution: float, name: str) -> None:
    with pytest.raises(GridError, match=r"has no tile .*: a name is"):
        SentinelHubGrid(grid_id, resolution).tile(name)


def test_kinds_are_the_words_of_the_project_file() -> None:
    cell = ("a", 32633, Bounds(0, 0, 10, 10))
    grids: list[Grid] = [SentinelHubGrid(2, 120), UtmGrid(1000, 10), CustomGrid((cell,), 10)]
    assert [grid.kind for grid in grids] == ["sentinel_hub", "utm", "custom"]
