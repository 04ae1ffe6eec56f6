"""Which zone's map a place belongs to: against pyproj, pixel by pixel, and as areas that add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from eo_assets.core.mosaic import Lattice, lattice_of, map_bounds, mosaic_rows
from eo_assets.core.tile import Bounds, Tile
from eo_assets.core.zones import Zone, edge_x, foreign_claims

ZONES = st.builds(lambda hemisphere, number: hemisphere + number, st.sampled_from([32600, 32700]), st.integers(1, 60))


def to_utm(epsg: int) -> Transformer:
    return Transformer.from_crs(4326, epsg, always_xy=True)


def tile_at(name: str, epsg: int, longitude: float, latitude: float, size: float, resolution: float) -> Tile:
    """A tile whose upper left corner is near a place, on the lattice."""
    x, y = (round(v / resolution) * resolution for v in to_utm(epsg).transform(longitude, latitude))
    return Tile(name, epsg, Bounds(x, y - size, x + size, y), resolution)


def ones(tile: Tile, rows: slice) -> np.ndarray:
    return np.ones((rows.stop - rows.start, tile.shape[1]), np.uint8)


def zone_maps(tiles: list[Tile]) -> dict[int, tuple[Lattice, np.ndarray]]:
    maps = {}
    for epsg in {tile.epsg for tile in tiles}:
        own = [tile for tile in tiles if tile.epsg == epsg]
        lattice = lattice_of(own)
        claims = foreign_claims(lattice, tiles)
        blocks = [
            mosaic_rows(lattice, own, rows, ones, dtype="uint8", nodata=0, claims=claims)
            for rows in lattice.row_blocks(64)
        ]
        maps[epsg] = lattice, np.concatenate(blocks)
    return maps


def pixel_places(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """(longitude, latitude) of every pixel centre."""
    height, width = lattice.shape
    x = lattice.bounds.left + (np.arange(width) + 0.5) * lattice.resolution
    grid_x, grid_y = np.meshgrid(x, lattice.row_centres(slice(0, height)))
    return Transformer.from_crs(lattice.epsg, 4326, always_xy=True).transform(grid_x, grid_y)


def inside(tiles: list[Tile], longitude: np.ndarray, latitude: np.ndarray, margin: float) -> np.ndarray:
    """Which places lie in one of the tiles grown by a margin in metres."""
    found = np.zeros(longitude.shape, bool)
    for tile in tiles:
        x, y = to_utm(tile.epsg).transform(longitude, latitude)
        box = map_bounds(tile)
        found |= (x > box.left - margin) & (x < box.right + margin) & (y > box.bottom - margin) & (y < box.top + margin)
    return found


@given(ZONES, st.integers(-3, 3).filter(bool), st.floats(0.0, 83.0))
@settings(max_examples=80, deadline=None)
def test_edges_lie_on_their_meridian(epsg: int, zones_east: int, latitude: float) -> None:
    zone = Zone.of(epsg)
    assert zone is not None
    y = to_utm(epsg).transform(zone.central_meridian, latitude if zone.north else -latitude)[1]
    ys = np.array([y, y + 1234.5])
    longitude, _ = Transformer.from_crs(epsg, 4326, always_xy=True).transform(edge_x(epsg, zones_east, ys), ys)
    off = (longitude - zone.central_meridian - 3 * zones_east + 180) % 360 - 180
    assert np.max(np.abs(off)) < 1e-11  # degrees: a micrometre


@given(
    st.integers(1, 60), st.integers(-80, 83), st.booleans(),
    st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-0.2, 0.2),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_strip_decides_where_both_zones_have_tiles(
    number: int, latitude: int, swap: bool, west: float, east: float, south: float
) -> None:
    """Two tiles around a zone edge, zones 60 and 1 among them, against pyproj for each pixel."""
    base = 32600 if latitude >= 0 else 32700
    edge = number * 6.0 - 180.0
    shrink = np.cos(np.radians(latitude))
    tiles = [
        tile_at("b" if swap else "a", base + number, edge - (0.3 + west) / shrink, latitude, 60_000, 2_000),
        tile_at(
            "a" if swap else "b", base + number % 60 + 1, edge - (0.3 + east) / shrink, latitude + south, 60_000, 2_000
        ),
    ]
    for epsg, (lattice, result) in zone_maps(tiles).items():
        zone = Zone.of(epsg)
        assert zone is not None
        longitude, latitudes = pixel_places(lattice)
        from_edge = (longitude - edge + 180) % 360 - 180
        foreign_side = from_edge >= 0 if epsg == base + number else from_edge < 0
        others = [tile for tile in tiles if tile.epsg != epsg]
        surely, perhaps = (inside(others, longitude, latitudes, margin) for margin in (-0.01, 0.01))
        clear = (np.abs(from_edge) > 1e-9) & (surely == perhaps)
        np.testing.assert_array_equal(result[clear] == 0, (foreign_side & surely)[clear])


@given(st.floats(-8, 8), st.floats(-0.4, 0.4), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_areas_add_up_at_the_crossing_of_an_edge_and_the_equator(lon: float, lat: float, number: int) -> None:
    """Tiles of four zones in a heap at the equator: every covered place is in one map, but for pixels along edges."""
    edge = number * 6.0 - 180.0
    tiles = [
        tile_at(f"{i}{epsg}", epsg, edge + lon / 40 - 0.3 + 0.1 * i, lat + 0.3 - 0.05 * i, 60_000, 1_000)
        for i, epsg in enumerate((32600 + number, 32600 + number % 60 + 1, 32700 + number, 32700 + number % 60 + 1))
    ]
    maps = zone_maps(tiles)
    random = np.random.default_rng(0)
    longitude, latitude = edge + lon / 40 + random.uniform(-0.5, 0.5, 4000), lat + random.uniform(-0.5, 0.5, 4000)
    count = np.zeros(longitude.shape, int)
    for epsg, (lattice, result) in maps.items():
        x, y = to_utm(epsg).transform(longitude, latitude)
        column = np.floor((x - lattice.bounds.left) / lattice.resolution).astype(int)
        row = np.floor((lattice.bounds.top - y) / lattice.resolution).astype(int)
        here = (row >= 0) & (column >= 0) & (row < lattice.shape[0]) & (column < lattice.shape[1])
        count[here] += result[row[here], column[here]]
    surely = inside(tiles, longitude, latitude, -1_500)
    nearest_edge = (
        np.abs((longitude - edge + 180) % 360 - 180) * 111_000 < 1_500,
        np.abs(latitude) * 111_000 < 1_500,
        *(inside([tile], longitude, latitude, 1_500) & ~inside([tile], longitude, latitude, -1_500) for tile in tiles),
    )
    clear = surely & ~np.logical_or.reduce(nearest_edge)
    assert (count[clear] == 1).all()


def test_a_neighbour_keeps_what_the_strip_s_own_zone_does_not_cover() -> None:
    """The tile list drops squares along zone edges: without this rule their land would be in no map."""
    reaching = tile_at("a", 32630, -0.4, 10.0, 100_000, 1_000)  # most of it east of 0 degrees, in zone 31
    distant = tile_at("b", 32631, 3.0, 10.0, 100_000, 1_000)
    lattice, result = zone_maps([reaching, distant])[32630]
    assert result.all()
    assert edge_x(32630, 1, lattice.row_centres(slice(0, 1)))[0] < lattice.bounds.right - 40_000


def test_svalbard_splits_at_the_midpoint_of_zones_two_apart() -> None:
    """Zone 32 has no squares north of 72 degrees; 31 and 33 meet at 9 degrees east."""
    tiles = [tile_at("a", 32631, 7.5, 79.0, 60_000, 1_000), tile_at("b", 32633, 7.5, 79.0, 60_000, 1_000)]
    lattice, result = zone_maps(tiles)[32631]
    longitude, latitude = pixel_places(lattice)
    taken = inside([tiles[1]], longitude, latitude, 0.0) & (longitude >= 9.0)
    assert 0 < taken.mean() < 1
    np.testing.assert_array_equal(result == 0, taken)


def test_a_tile_placed_off_its_cell_claims_the_pixels_it_really_fills() -> None:
    """At 120 m a cell at phase 60 moves by half a pixel: its outer edge claims what the map shows, not the cell."""
    other = Tile("b", 32631, Bounds(166_020, 1_100_040, 178_020, 1_112_040), 120)
    assert map_bounds(other).left - other.bounds.left == 60
    lattice = lattice_of([tile_at("a", 32630, 0.0, 10.05, 12_000, 120)])
    longitude, latitude = pixel_places(lattice)
    mask = foreign_claims(lattice, [other]).mask(slice(0, lattice.shape[0]))
    assert mask is not None
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(mask, inside([other], longitude, latitude, 0.0) & (longitude >= 0))


@pytest.mark.parametrize("epsg", [4326, 3035, 32600, 32661])
def test_other_reference_systems_stand_alone(epsg: int) -> None:
    assert Zone.of(epsg) is None
    lattice = Lattice(epsg, 10, Bounds(0, 0, 1000, 1000))
    assert foreign_claims(lattice, [tile_at("a", 32630, 0.0, 0.0, 1000, 10)]).mask(slice(0, 100)) is None
    with pytest.raises(ValueError, match="no UTM zone"):
        edge_x(epsg, 1, np.zeros(1))


def test_zone_60_and_zone_1_are_neighbours() -> None:
    assert Zone(60, True).zones_east(Zone(1, True)) == 1
    assert Zone(1, True).zones_east(Zone(60, True)) == -1
    assert Zone(2, False).zones_east(Zone(58, False)) == -4
