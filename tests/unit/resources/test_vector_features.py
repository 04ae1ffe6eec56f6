"""Features of every kind of file: the same polygons and points, whatever the format and CRS; GeoParquet in detail."""

import json
import socket
from pathlib import Path
from typing import Any

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import Point, box

from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import AreaError, TileError
from resources.vector_features import read_features, read_header
from resources.vector_layers import read_layers

TILE = Tile("33UUU_3_7", 32633, Bounds(330_000, 5_800_000, 330_100, 5_800_100), 10.0)
SHAPES = [box(*TILE.bounds), box(430_000, 5_800_000, 430_100, 5_800_100), Point(330_050, 5_800_050), None]


def write(path: Path, crs: int = 32633, **columns: list[Any]) -> Path:
    frame = geopandas.GeoDataFrame(columns or {"share": [1, 2, 3, 4]}, geometry=SHAPES, crs=32633).to_crs(crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path, engine="pyogrio")
    return path


def without_crs(path: Path, *, said: bool) -> None:
    """Take the CRS out of a GeoParquet's metadata: null is unknown, none said is longitude and latitude."""
    table = pq.read_table(path)
    geo = json.loads(table.schema.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    if said:
        column["crs"] = None
    else:
        del column["crs"]
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)


@pytest.mark.parametrize("crs", [32633, 4326, 3035, 32632])
@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
def test_formats_agree(tmp_path: Path, suffix: str, crs: int) -> None:
    path = write(tmp_path / f"a.{suffix}", crs)
    found = read_features(path, None, ["share"], TILE)
    assert sorted(found.columns["share"].tolist()) == [1, 3], "the far one and the one without geometry are left out"
    placed = dict(zip(found.columns["share"].tolist(), found.placed(32633)))
    assert shapely.symmetric_difference(placed[1], SHAPES[0]).area < 0.1
    assert placed[3].distance(SHAPES[2]) < 0.01
    assert len(read_features(path, None, [], None).shapes) == 4
    assert read_features(path, None, [], None).columns == {}


def test_a_geoparquet_without_a_crs_is_in_longitude_and_latitude(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 4326)
    without_crs(path, said=False)
    assert read_features(path, None, ["share"], TILE).columns["share"].tolist() == [1, 3]
    without_crs(path, said=True)
    with pytest.raises(TileError, match=r"a\.parquet has no CRS; set the one"):
        read_features(path, None, [], TILE)


def test_what_is_amiss_with_a_parquet_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    with pytest.raises(TileError, match="has no column 'class'; it has share: name one of them"):
        read_header(path, None, ["class"])
    with pytest.raises(TileError, match=r"reference\.source\.layer: towns; a Parquet file has no layers"):
        read_header(path, "towns", [])
    pq.write_table(pa.table({"a": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(TileError, match=r"plain\.parquet has no `geo` metadata, so it is no GeoParquet"):
        read_header(tmp_path / "plain.parquet", None, [])
    geo = {"primary_column": "a", "columns": {"a": {"encoding": "point"}}}
    native = pa.table({"a": [1]}).replace_schema_metadata({"geo": json.dumps(geo)})
    pq.write_table(native, tmp_path / "native.parquet")
    with pytest.raises(TileError, match="column a is encoded as point; write its geometry as WKB"):
        read_header(tmp_path / "native.parquet", None, [])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(TileError, match=r"broken\.parquet can't be read as a vector file"):
        read_features(tmp_path / "broken.parquet", None, [], None)
    with pytest.raises(TileError, match=r"none\.parquet does not exist; put the reference there"):
        read_header(tmp_path / "none.parquet", None, [])


def test_many_batches_keep_their_order_and_numbers(tmp_path: Path) -> None:
    count = 150_000  # pyarrow reads 65,536 rows at a time
    shapes = shapely.points([330_050 + (i % 2) * 50_000 for i in range(count)], 5_800_050)
    frame = geopandas.GeoDataFrame({"n": range(count)}, geometry=shapes, crs=32633)
    frame.to_parquet(tmp_path / "a.parquet")
    found = read_features(tmp_path / "a.parquet", None, ["n"], TILE)
    assert found.columns["n"].tolist() == list(range(0, count, 2)) == found.numbers.tolist()


@pytest.mark.parametrize("suffix", ["gpkg", "parquet"])
def test_a_point_on_the_edge_of_the_tile_is_found_in_any_crs(tmp_path: Path, suffix: str) -> None:
    # The upper edge of a 100 km tile is a curve in longitude and latitude: it is highest on the zone's meridian, which
    # lies between two of the places that the box in degrees is made from.
    tile = Tile("33XWG", 32633, Bounds(452_160, 8_400_000, 552_240, 8_500_080), 120.0)
    shapes = [Point(452_161 + 100.08 * i, y) for i in range(1000) for y in (8_400_000.01, 8_500_079.99)]
    frame = geopandas.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=32633).to_crs(4326)
    path = tmp_path / f"a.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path, engine="pyogrio")
    assert len(read_features(path, None, [], tile).shapes) == len(shapes)


def test_a_virtual_file_is_refused_before_anything_that_it_names_is_read(tmp_path: Path) -> None:
    virtual = tmp_path / "labels.geojson"
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        source = f"/vsicurl/http://127.0.0.1:{elsewhere.getsockname()[1]}/secret.geojson"
        virtual.write_text(
            f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{source}</SrcDataSource>'
            "</OGRVRTLayer></OGRVRTDataSource>"
        )
        elsewhere.settimeout(0.2)
        with pytest.raises(TileError, match="is no GeoPackage, GeoJSON, FlatGeobuf or shapefile; export it"):
            read_features(virtual, None, ["share"], TILE)
        with pytest.raises(AreaError, match="its content is something else: export it again as GeoJSON"):
            read_layers(virtual, AreaError)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_another_kind_of_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(
        json.dumps({"type": "Topology", "objects": {"a": {"type": "Point", "coordinates": [0, 0]}}, "arcs": []})
    )
    with pytest.raises(TileError, match="is a TopoJSON file, which is not read"):
        read_header(path, None, [])
