"""What holds for every area on every grid, against point-by-point projection with pyproj."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cells import polygons
from eo_assets.core.grid import Grid, SentinelHubGrid, UtmGrid
from eo_assets.core.tile import Tile

GRIDS: list[Grid] = [
    SentinelHubGrid(0, 20),
    SentinelHubGrid(1, 10),
    SentinelHubGrid(2, 120, (10, 10)),
    SentinelHubGrid(3, 0.0002),
    UtmGrid(7_300, 10),
    UtmGrid(50_000, 20),
]
EDGE = 0.002  # degrees: places this close to a zone's or the area's edge are left to the exact tests
SPOT = 0.0005  # degrees, half a side: 13 m a side at 83 N, more than the twentieths of a pixel of two cells on any grid


@cache
def to_crs(epsg: int) -> Transformer:
    return Transformer.from_crs(4326, epsg, always_xy=True)


@st.composite
def areas(draw: st.DrawFn) -> BaseGeometry:
    """Small polygons with a hole or a second part, anywhere between 79 S and 83 N, often across a zone's edge."""
    lat = draw(st.floats(-79, 82.5))
    near_edge = st.builds(lambda zone, off: zone * 6.0 + off, st.integers(-29, 29), st.floats(-0.4, 0.4))
    lon = draw(st.one_of(st.floats(-179.9, 179.0), near_edge))
    width, height = draw(st.floats(0.02, 0.8)), draw(st.floats(0.02, 0.4))
    whole = shapely.box(lon, lat, min(lon + width, 180.0), lat + height)
    kind = draw(st.sampled_from(["box", "hole", "triangle", "parts"]))
    if kind == "hole":
        return whole.difference(shapely.affinity.scale(whole, 0.5, 0.5))
    left, bottom, right, top = whole.bounds
    if kind == "triangle":
        return shapely.Polygon([(left, bottom), (right, (bottom + top) / 2), (left, top)])
    if kind == "parts":
        return shapely.MultiPolygon([shapely.affinity.scale(whole, 0.2, 1, origin=(x, bottom)) for x in (left, right)])
    return whole


def places_in(area: BaseGeometry, seed: int, count: int = 40) -> np.ndarray:
    """Places (n, 2) well inside of the area, lon/lat."""
    left, bottom, right, top = area.bounds
    random = np.random.default_rng(seed).uniform((left, bottom), (right, top), (count * 4, 2))
    inner = area.buffer(-EDGE)
    return random[shapely.contains_xy(inner, random[:, 0], random[:, 1])][:count]


def holds(tile: Tile, places: np.ndarray) -> np.ndarray:
    """Which places (n, 2) lie in the tile's cell: a mask (n,)."""
    x, y = to_crs(tile.epsg).transform(places[:, 0], places[:, 1]) if tile.epsg != 4326 else places.T
    cell = tile.cell
    return (x >= cell.left) & (x <= cell.right) & (y >= cell.bottom) & (y <= cell.top)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: repr(grid)[:28])
@given(area=areas(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_every_place_of_the_area_is_in_a_tile_and_tiles_come_back_by_name_in_order(
    grid: Grid, area: BaseGeometry, seed: int
) -> None:
    tiles = grid.tiles(area)
    places = places_in(area, seed)
    assert np.any([holds(tile, places) for tile in tiles], axis=0).all()
    assert [grid.tile(tile.name) for tile in tiles] == tiles
    assert [tile.order for tile in tiles] == sorted({tile.order for tile in tiles})


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: repr(grid)[:28])
@given(area=areas(), seed=st.integers(0, 2**32 - 1))
@example(area=shapely.box(0, 0, 0.70057, 0.125), seed=10485)  # a place less than 6 m inside of 30NZF_0_0
@settings(max_examples=15, deadline=None)
def test_a_tile_is_claimed_by_the_place_in_it_whatever_the_area_around(
    grid: Grid, area: BaseGeometry, seed: int
) -> None:
    """A small area around a place claims exactly the tiles of the large area's that hold the place."""
    large = grid.tiles(area)
    for lon, lat in places_in(area, seed, 3):
        spot = shapely.box(lon - SPOT, lat - SPOT, lon + SPOT, lat + SPOT)
        corners = shapely.get_coordinates(spot)[:4]
        inside = [holds(tile, corners) for tile in large]
        if any(mask.any() and not mask.all() for mask in inside):
            continue  # on an edge
        small = grid.tiles(spot)
        assert set(small) <= set(large)
        if isinstance(grid, SentinelHubGrid) and grid.grid_id in (2, 3):  # no zone rule: all that hold it are claimed
            assert set(small) == {tile for tile, mask in zip(large, inside) if mask.all()}


@given(area=areas(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_utm_tile_of_a_place_follows_from_arithmetic(area: BaseGeometry, seed: int) -> None:
    grid = UtmGrid(10_000, 10)
    names = {tile.name for tile in grid.tiles(area)}
    for lon, lat in places_in(area, seed):
        if abs(lon / 6 - round(lon / 6)) < EDGE or abs(lat) < EDGE:
            continue
        epsg = (32601 if lat > 0 else 32701) + math.floor((lon + 180) / 6)
        x, y = to_crs(epsg).transform(lon, lat)
        assert f"{epsg}_x{math.floor(x / 10_000):04d}_y{math.floor(y / 10_000):04d}" in names


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: repr(grid)[:28])
@given(area=areas(), share=st.floats(0.1, 0.9))
@example(area=shapely.MultiPolygon([shapely.box(0, 0, 0.1, 0.25), shapely.box(0.4, 0, 0.5, 0.25)]), share=0.8)
@example(area=shapely.box(0, 1.113e-308, 0.625, 0.0625), share=0.5)
@settings(max_examples=15, deadline=None)
def test_a_part_of_an_area_claims_a_part_of_its_tiles(grid: Grid, area: BaseGeometry, share: float) -> None:
    left, bottom, right, top = area.bounds
    common = area.intersection(shapely.box(left, bottom, left + share * (right - left), top))
    # A polygon that the box only touches leaves its edge as a line, which no grid takes for an area.
    part = shapely.union_all(polygons([common]))
    assert set(grid.tiles(part)) <= set(grid.tiles(area))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: repr(grid)[:28])
@given(area=areas())
@settings(max_examples=15, deadline=None)
def test_no_tile_is_claimed_that_the_area_does_not_reach(grid: Grid, area: BaseGeometry) -> None:
    for tile in grid.tiles(area):
        cell = shapely.segmentize(shapely.box(*tile.cell), (tile.cell.right - tile.cell.left) / 64)
        if tile.epsg != 4326:
            cell = shapely.transform(cell, lambda x, y, epsg=tile.epsg: unwrapped(epsg, area, x, y), interleaved=False)
        assert cell.intersects(area)


def unwrapped(epsg: int, area: BaseGeometry, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes on the area's side of the antimeridian."""
    lon, lat = to_crs(epsg).transform(x, y, direction="INVERSE")
    centre = area.centroid.x
    return (lon - centre + 180) % 360 - 180 + centre, lat


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_whole_globe_between_80_s_and_84_n_is_covered(seed: int) -> None:
    random = np.random.default_rng(seed)
    lat = math.degrees(math.asin(random.uniform(math.sin(math.radians(-79.99)), math.sin(math.radians(83.98)))))
    lon = random.uniform(-180, 179.99)
    spot = shapely.box(lon, lat, lon + 0.001, lat + 0.001)
    # Less than a twentieth of a pixel, 6 m on grid 2 at 120 m, claims no tile.
    corners = shapely.get_coordinates(spot.buffer(-2e-4, join_style="mitre"))[:4]
    for grid in GRIDS:
        assert np.any([holds(tile, corners) for tile in grid.tiles(spot)], axis=0).all()
