"""Areas of interest from files: what is read, and what is refused by name."""

from __future__ import annotations

import json
import math
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from eo_assets.errors import AreaError
from resources.vector_files import read_area

SQUARE = shapely.box(10, 50, 11, 51)


def geojson(path: Path, *geometries: BaseGeometry | dict[str, Any] | None, crs: Any = "none") -> Path:
    features = [
        {"type": "Feature", "properties": {}, "geometry": mapping(g) if isinstance(g, BaseGeometry) else g}
        for g in geometries
    ]
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs != "none":
        content["crs"] = {"type": "name", "properties": {"name": crs}} if crs else None
    path.write_text(json.dumps(content))
    return path


def vector(path: Path, *geometries: BaseGeometry, crs: str | None = "EPSG:4326", layer: str | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a layer without a CRS is a warning on writing
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(geometries, dtype=object)),
            field_data=[np.arange(len(geometries))],
            fields=["n"],
            geometry_type="Unknown" if path.suffix == ".gpkg" else geometries[0].geom_type,
            crs=crs,
            **({"layer": layer} if layer else {}),
        )
    return path


def in_crs(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    return shapely.transform(geometry, Transformer.from_crs(4326, epsg, always_xy=True).transform, interleaved=False)


def same(one: BaseGeometry, other: BaseGeometry, share: float = 1e-9) -> bool:
    return shapely.symmetric_difference(one, other).area <= share * other.area


# What is read


def test_the_union_of_overlapping_parts_holes_and_many_files(tmp_path: Path) -> None:
    ring = SQUARE.difference(shapely.box(10.4, 50.4, 10.6, 50.6))
    one = geojson(tmp_path / "one.geojson", ring, shapely.box(10.5, 50.7, 12, 52))
    two = geojson(tmp_path / "two.json", shapely.MultiPolygon([shapely.box(20, 0, 21, 1), shapely.box(22, 0, 23, 1)]))
    area = read_area([one, two])
    expected = shapely.union_all(
        [ring, shapely.box(10.5, 50.7, 12, 52), shapely.box(20, 0, 21, 1), shapely.box(22, 0, 23, 1)]
    )
    assert area.geometry.equals(expected)
    assert area.geometry.is_valid


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp"])
@pytest.mark.parametrize("epsg", [32632, 3857, 4258, 2154])
def test_other_formats_and_crs(tmp_path: Path, suffix: str, epsg: int) -> None:
    dense = shapely.segmentize(shapely.box(2, 45, 3, 46), 0.001)
    area = read_area([vector(tmp_path / f"area{suffix}", in_crs(dense, epsg), crs=f"EPSG:{epsg}")])
    assert same(area.geometry, dense, 1e-6)


def test_straight_edges_of_a_projected_file_stay_straight_there(tmp_path: Path) -> None:
    box = shapely.box(300_000, 5_700_000, 400_000, 5_800_000)
    area = read_area([vector(tmp_path / "a.gpkg", box, crs="EPSG:32633")])
    back = shapely.transform(
        area.geometry, Transformer.from_crs(4326, 32633, always_xy=True).transform, interleaved=False
    )
    assert shapely.hausdorff_distance(back, shapely.segmentize(box, 500), densify=0.1) < 0.05


def test_all_layers_of_a_geopackage_and_no_table_without_geometry(tmp_path: Path) -> None:
    path = vector(tmp_path / "area.gpkg", SQUARE, layer="land")
    vector(path, in_crs(shapely.box(20, 0, 21, 1), 32634), crs="EPSG:32634", layer="islands")
    pyogrio.raw.write(
        path, geometry=None, field_data=[np.array([1, 2])], fields=["n"], layer="notes", geometry_type=None
    )
    assert len(read_area([path]).geometry.geoms) == 2


@pytest.mark.parametrize(
    "crs", ["none", "EPSG:4326", "urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326", None]
)
def test_a_geojson_is_lon_lat_whether_it_says_so_or_not(tmp_path: Path, crs: str | None) -> None:
    assert read_area([geojson(tmp_path / "a.geojson", SQUARE, crs=crs)]).geometry.equals(SQUARE)


def test_a_geojson_may_name_another_crs(tmp_path: Path) -> None:
    dense = shapely.segmentize(SQUARE, 0.001)
    path = geojson(tmp_path / "a.geojson", in_crs(dense, 32632), crs="urn:ogc:def:crs:EPSG::32632")
    assert same(read_area([path]).geometry, dense, 1e-6)


def test_a_lon_lat_shapefile_without_prj_is_taken_as_such(tmp_path: Path) -> None:
    assert read_area([vector(tmp_path / "a.shp", SQUARE, crs=None)]).geometry.equals(SQUARE)


def test_points_lines_nulls_and_heights_beside_polygons_are_left_out(tmp_path: Path) -> None:
    solid = shapely.force_3d(SQUARE, 7.0)
    mixed = shapely.GeometryCollection([solid, shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1)])])
    area = read_area([geojson(tmp_path / "a.geojson", None, shapely.Point(1, 1), mixed, shapely.Polygon())])
    assert area.geometry.equals(SQUARE) and not area.geometry.has_z


def test_a_bow_tie_is_made_valid(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]))
    assert read_area([path]).geometry.area == pytest.approx(2.0)


def test_an_area_split_at_the_antimeridian_is_two_parts(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179, -16))
    assert len(read_area([path]).geometry.geoms) == 2


def test_halves_of_the_globe_make_a_globe(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90))
    assert read_area([path]).area_km2 == pytest.approx(510_065_622, rel=1e-6)  # the WGS 84 ellipsoid's surface


def test_area_is_geodesic_and_leaves_holes_out(tmp_path: Path) -> None:
    whole = read_area([geojson(tmp_path / "a.geojson", shapely.box(0, 0, 1, 1))]).area_km2
    b, e, sine = 6356.752314245, 0.0818191908426, math.sin(math.radians(1))  # a zone of the ellipsoid in closed form
    zone = b**2 / 2 * (sine / (1 - (e * sine) ** 2) + math.atanh(e * sine) / e)
    assert whole == pytest.approx(math.radians(1) * zone, rel=1e-6)
    holed = shapely.box(0, 0, 1, 1).difference(shapely.box(0, 0.25, 0.5, 0.75))
    assert read_area([geojson(tmp_path / "b.geojson", holed)]).area_km2 == pytest.approx(whole * 0.75, rel=1e-4)


def test_the_digest_is_of_the_bytes_whatever_names_and_order(tmp_path: Path) -> None:
    a, b = geojson(tmp_path / "a.geojson", SQUARE), geojson(tmp_path / "b.geojson", shapely.box(20, 0, 21, 1))
    first = read_area([a, b])
    assert read_area([b, a]).digest == first.digest
    a.rename(tmp_path / "z.geojson")
    assert read_area([b, tmp_path / "z.geojson"]).digest == first.digest
    geojson(b, shapely.box(20, 0, 21, 2))
    assert read_area([b, tmp_path / "z.geojson"]).digest != first.digest


def test_a_shapefile_is_one_file_of_an_area_with_its_projection(tmp_path: Path) -> None:
    vector(tmp_path / "a.shp", in_crs(SQUARE, 32632), crs="EPSG:32632")
    matched = sorted(tmp_path.iterdir())
    assert len(matched) > 3
    assert read_area(matched) == read_area([tmp_path / "a.shp"])
    before = read_area(matched).digest
    vector(tmp_path / "a.shp", in_crs(SQUARE, 32632), crs="EPSG:32633")
    assert read_area(matched).digest != before


# What is refused


def raw(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def with_nan(path: Path) -> Path:
    """A GeoPackage whose polygon has a NaN, which GeoJSON can't hold."""
    triangle = shapely.Polygon([(0, 0), (1, 0.25), (1, 1)])
    content = vector(path, triangle).read_bytes()
    x, nan = struct.pack("<d", 0.25), struct.pack("<d", float("nan"))
    blob = shapely.to_wkb(triangle, byte_order=1)
    spoiled = content.replace(blob, blob.replace(x, nan))
    assert spoiled != content
    return raw(path, spoiled)


BROKEN: dict[str, tuple[Any, str]] = {
    "missing": (lambda d: d / "nowhere.geojson", r"nowhere\.geojson: there is no such file: check the path"),
    "empty": (lambda d: raw(d / "a.geojson", ""), r"a\.geojson: the file is empty \(0 bytes\)"),
    "text": (lambda d: raw(d / "a.geojson", "hello"), r"a\.geojson: can't be read as GeoJSON: .*export it again as"),
    "truncated": (
        lambda d: raw(d / "a.geojson", '{"type": "Polygon", "coordinates": [[[0, 0], [1'),
        r"a\.geojson: can't be read as GeoJSON",
    ),
    "not a database": (lambda d: raw(d / "a.gpkg", b"no database"), r"a\.gpkg: can't be read as GPKG"),
    "another format": (
        lambda d: vector(d / "a.fgb", SQUARE).rename(d / "a.gpkg"),
        r"a\.gpkg: can't be read as GPKG: its content is FlatGeobuf",
    ),
    "unread format": (
        lambda d: raw(d / "a.kml", "<kml/>"),
        r"a\.kml: files of the kind '\.kml' are not read: save it as",
    ),
    "no features": (lambda d: geojson(d / "a.geojson"), r"a\.geojson: it has no features: draw at least one polygon"),
    "nulls": (
        lambda d: geojson(d / "a.geojson", None, shapely.Polygon()),
        r"a\.geojson: every feature's geometry is null or empty",
    ),
    "points and lines": (
        lambda d: geojson(d / "a.geojson", shapely.Point(1, 1), shapely.LineString([(0, 0), (1, 1)])),
        r"a\.geojson: it holds no polygons, only LineString, Point: an area needs polygons",
    ),
    "metres without a crs": (
        lambda d: vector(d / "a.shp", in_crs(SQUARE, 32632), crs=None),
        r"a\.shp: layer a, feature 1: coordinates such as .* are not longitude and latitude, and there is no CRS: name",
    ),
    "metres in a plain geojson": (
        lambda d: geojson(d / "a.geojson", SQUARE, in_crs(SQUARE, 32632)),
        r"feature 2: coordinates such as .* are not longitude and latitude, and the CRS is EPSG:4326, as in every Geo",
    ),
    "unknown crs": (
        lambda d: geojson(d / "a.geojson", SQUARE, crs="EPSG:999999"),
        r"a\.geojson: can't be read as GeoJSON: its crs .*EPSG:999999.* is not known",
    ),
    "wrong crs": (
        lambda d: vector(d / "a.gpkg", shapely.box(1e9, 1e9, 2e9, 2e9), crs="EPSG:32633"),
        r"a\.gpkg: layer a, feature 1: coordinates such as .* lie outside of WGS 84 / UTM zone 33N: .* wrong CRS",
    ),
    "infinite": (
        lambda d: raw(d / "a.geojson", '{"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [1, 1], [0, 0]]]}'),
        r"a\.geojson: layer a, feature 1: a coordinate is NaN or infinite",
    ),
    "nan": (lambda d: with_nan(d / "a.gpkg"), r"a\.gpkg: layer a, feature 1: a coordinate is NaN or infinite"),
    "unclosed": (
        lambda d: raw(d / "a.geojson", '{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}'),
        r"a\.geojson: can't be read as GeoJSON: .*closed linestring",
    ),
    "a needle": (
        lambda d: geojson(d / "a.geojson", shapely.Polygon([(0, 0), (1, 1), (2, 2), (0, 0)])),
        r"a\.geojson: layer a, feature 1: the polygon can't be made valid, no area is left of it .*: draw it again",
    ),
    "across the antimeridian": (
        lambda d: geojson(d / "a.geojson", shapely.Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)])),
        r"feature 1: a polygon spans longitudes -179 to 179: it crosses the antimeridian .* split it",
    ),
    "beyond the antimeridian": (
        lambda d: geojson(d / "a.geojson", shapely.box(170, 0, 190, 1)),
        r"spans longitudes 170 to 190: it crosses the antimeridian",
    ),
    "across the antimeridian in metres": (
        lambda d: vector(d / "a.gpkg", shapely.box(700_000, 1_000, 900_000, 2_000), crs="EPSG:32660"),
        r"crosses the antimeridian",
    ),
    "over a pole": (
        lambda d: vector(d / "a.gpkg", shapely.box(-1e6, -1e6, 1e6, 1e6), crs="EPSG:3995"),
        r"crosses the antimeridian or covers half the globe",
    ),
    "nested without end": (lambda d: raw(d / "a.geojson", "[" * 100_000), r"a\.geojson: can't be read as GeoJSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name_with_the_remedy(tmp_path: Path, case: str) -> None:
    make, message = BROKEN[case]
    path = make(tmp_path)
    good = geojson(tmp_path / "good.geojson", SQUARE)
    with pytest.raises(AreaError, match=message) as refusal:
        read_area([good, path])
    assert str(path) in str(refusal.value)


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(AreaError, match=r"no vector file matches area\.files: put one under the project's input-data"):
        read_area([])
