"""Covers of maps: what of a map lies in the area, down to areas of less than a pixel and over the antimeridian."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from eo_assets.core.cover import cover_of, geojson
from eo_assets.core.tile import Bounds

EPSG, PIXEL = 32633, 10.0
BOUNDS = Bounds(500_000, 5_790_000, 510_000, 5_800_000)
TO_LONLAT = Transformer.from_crs(EPSG, 4326, always_xy=True)


def lonlat(geometry: BaseGeometry) -> BaseGeometry:
    """A geometry of the map's CRS as an area."""
    return shapely.transform(shapely.segmentize(geometry, 500), TO_LONLAT.transform, interleaved=False)


def cover(area: BaseGeometry | None) -> BaseGeometry | None:
    return cover_of(area, EPSG, BOUNDS, PIXEL)


def test_without_an_area_all_of_the_map_is_shown() -> None:
    assert cover(None) == shapely.box(*BOUNDS)
    assert cover(lonlat(shapely.box(*BOUNDS).buffer(5_000))).equals(shapely.box(*BOUNDS))  # type: ignore[union-attr]


def test_an_area_cuts_the_map() -> None:
    half = shapely.box(BOUNDS.left - 3_000, BOUNDS.bottom - 3_000, 505_000, BOUNDS.top + 3_000)
    found, expected = cover(lonlat(half)), shapely.box(BOUNDS.left, BOUNDS.bottom, 505_000, BOUNDS.top)
    assert found is not None and shapely.symmetric_difference(found, expected).area < PIXEL**2


@pytest.mark.parametrize("east", [BOUNDS.left - 40_000, BOUNDS.left])
def test_an_area_that_does_not_reach_the_map_shows_nothing(east: float) -> None:
    beside = shapely.box(east - 1_000, BOUNDS.bottom, east, BOUNDS.top)
    assert cover(lonlat(beside)) is None or cover(lonlat(beside)).area <= 2 * PIXEL * 10_000  # type: ignore[union-attr]
    assert cover(shapely.box(-70, -20, -60, -10)) is None


def test_many_parts_become_a_multipolygon() -> None:
    parts = [shapely.box(x, y, x + 1_000, y + 1_000) for x in (501_000, 506_000) for y in (5_791_000, 5_796_000)]
    found = cover(lonlat(shapely.MultiPolygon(parts)))
    assert found is not None and found.geom_type == "MultiPolygon" and len(found.geoms) == 4
    told = geojson(found, EPSG)
    assert told["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    assert told["type"] == "MultiPolygon"


@given(st.floats(0, 9_999), st.floats(0, 9_999))
def test_an_area_of_less_than_a_pixel_shows_a_pixel_and_hardly_more(x: float, y: float) -> None:
    speck = shapely.box(0, 0, 1, 1)
    found = cover(lonlat(shapely.affinity.translate(speck, BOUNDS.left + x, BOUNDS.bottom + y)))
    assert found is not None and found.area < 4 * PIXEL**2
    centre = [np.clip(np.floor(value / PIXEL), 0, 999) * PIXEL + PIXEL / 2 for value in (x + 0.5, y + 0.5)]
    assert found.covers(shapely.Point(BOUNDS.left + centre[0], BOUNDS.bottom + centre[1]))


def test_a_sliver_is_widened_along_itself_only() -> None:
    sliver = shapely.LineString([(501_000, 5_791_000), (504_000, 5_794_000)]).buffer(0.005)
    found = cover(lonlat(sliver))
    assert found is not None and found.area < 4_300 * 2 * PIXEL


def test_a_map_in_degrees() -> None:
    bounds = Bounds(10.0, 50.0, 11.0, 51.0)
    found = cover_of(shapely.box(10.5, 49, 12, 52), 4326, bounds, 0.001)
    assert found is not None and found.equals(shapely.box(10.5, 50, 11, 51))


def test_a_map_over_the_antimeridian_shows_both_sides() -> None:
    bounds = Bounds(690_000, 100_000, 1_000_000, 200_000)
    both = shapely.MultiPolygon([shapely.box(179, 1.2, 180, 1.5), shapely.box(-180, 1.2, -179.5, 1.5)])
    found = cover_of(both, 32660, bounds, 100.0)
    assert found is not None
    back = Transformer.from_crs(32660, 4326, always_xy=True).transform(*shapely.get_coordinates(found).T)[0]
    assert np.isclose(np.min(back[back > 0]), 179, atol=0.01) and np.isclose(np.max(back[back < 0]), -179.5, atol=0.01)
    assert found.geom_type == "Polygon", "its two sides touch"


sizes = st.floats(0.5, 9_000)


@given(st.floats(495_000, 512_000), st.floats(5_786_000, 5_802_000), sizes, sizes, st.integers(3, 40))
def test_a_cover_is_valid_inside_the_map_and_holds_what_both_have(
    x: float, y: float, width: float, height: float, corners: int
) -> None:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    area = shapely.Polygon(np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1))
    found, box = cover(lonlat(area)), shapely.box(*BOUNDS)
    expected = shapely.intersection(area, box)
    if found is None:
        assert expected.area < PIXEL**2
        return
    assert found.is_valid and found.geom_type in ("Polygon", "MultiPolygon")
    assert box.buffer(0.01).contains(found)
    assert found.buffer(PIXEL / 5).contains(expected)
    assert cover(lonlat(area)).equals_exact(found), "its digest has to stay"  # type: ignore[union-attr]
