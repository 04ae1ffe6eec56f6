"""Polygons on pixels against plain geometry, rasters of every kind against plain arithmetic, on the tile's own grid."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import Reference
from eo_assets.stages.label_files import checked, polygon_blocks, raster_blocks

HEIGHT, WIDTH = 150, 14
"""More rows than a block of 64, so that shapes cross from one block to the next."""

TILE = Tile("t", 32633, Bounds(330_000, 5_800_000, 330_000 + 10 * WIDTH, 5_800_000 + 10 * HEIGHT), 10.0)

corners = st.tuples(st.integers(-70, 10 * WIDTH + 70), st.integers(-70, 10 * HEIGHT + 70))
triangles = st.tuples(corners, corners, corners).map(lambda found: shapely.polygons(np.array(found) + PLACE))
PLACE = np.array([330_000.137, 5_800_000.291])
"""Off the lattice, so that hardly a corner lies on an edge of a pixel."""

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reference(source: dict[str, Any], dtype: str = "uint8", nodata: float = 255) -> Reference:
    return Reference.model_validate({"name": "L", "source": source, "dtype": dtype, "nodata": nodata})


def burnt(folder: Path, shapes: list[Any], **keys: Any) -> np.ndarray:
    """The tile's labels (y, x): the number of the topmost polygon, 255 where none is."""
    features = [
        {"type": "Feature", "properties": {"n": n, "rank": -n}, "geometry": json.loads(shapely.to_geojson(shape))}
        for n, shape in enumerate(shapes)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    file = folder / "shapes.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    made = reference({"kind": "vector", "file": file.name, "column": "n", **keys})
    blocks = [values for _, values in polygon_blocks(file, made.source, made, TILE)]  # type: ignore[arg-type]
    return np.concatenate(blocks)[..., 0]


def boxes(shrunk_px: float) -> np.ndarray:
    """The pixels of the tile as polygons (y, x), smaller by a share of a pixel on each side."""
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    left, top, by = 330_000 + 10 * columns, TILE.bounds.top - 10 * rows, 10 * shrunk_px
    return np.asarray(shapely.box(left + by, top - 10 + by, left + 10 - by, top - by))


@quick
@given(triangles)
def test_a_pixel_whose_centre_a_polygon_holds_is_burnt(tmp_path: Path, shape: Any) -> None:
    found = burnt(tmp_path, [shape]) == 0
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    centres = shapely.points(330_000 + 10 * columns, TILE.bounds.top - 10 * rows)
    clear = shapely.distance(shapely.boundary(shape), centres) > 1e-6
    np.testing.assert_array_equal(found[clear], shapely.contains(shape, centres)[clear])


@quick
@given(triangles.filter(lambda shape: shape.area > 0))
def test_every_pixel_that_a_polygon_touches_is_burnt_if_so_asked(tmp_path: Path, shape: Any) -> None:
    found = burnt(tmp_path, [shape], all_touched=True) == 0
    surely, perhaps = (shapely.intersects(shape, boxes(share)) for share in (1e-3, -1e-3))
    assert found[surely].all()
    assert not found[~perhaps].any()


@quick
@given(st.lists(triangles, min_size=2, max_size=5), st.booleans(), st.booleans())
def test_the_topmost_polygon_is_seen(tmp_path: Path, shapes: list[Any], by_column: bool, all_touched: bool) -> None:
    keys = {"all_touched": all_touched}
    alone = [burnt(tmp_path, [shape], **keys) == 0 for shape in shapes]
    found = burnt(tmp_path, shapes, **keys, **({"order_by": "rank"} if by_column else {}))
    expected = np.full(found.shape, 255)
    order = range(len(shapes) - 1, -1, -1) if by_column else range(len(shapes))
    for n in order:
        expected[alone[n]] = n
    np.testing.assert_array_equal(found, expected)


def warped(
    folder: Path,
    values: np.ndarray,
    transform: Affine,
    crs: str = "EPSG:32633",
    nodata: float | None = None,
    dtype: str = "uint8",
    fill: float = 255,
    tile: Tile = TILE,
    **keys: Any,
) -> np.ndarray:
    """The tile's labels (y, x) of a raster."""
    file = folder / "labels.tif"
    profile = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": values.dtype, "crs": crs}
    with rasterio.open(file, "w", driver="GTiff", transform=transform, nodata=nodata, **profile) as raster:
        raster.write(values, 1)
    made = reference({"kind": "raster", "file": file.name, **keys}, dtype, fill)
    found = list(raster_blocks(file, made.source, made, tile))  # type: ignore[arg-type]
    assert [rows.start for rows, _ in found] == list(range(0, tile.shape[0], 64))
    labels = np.concatenate([checked(block, made, tile) for _, block in found])
    assert labels.shape == (*tile.shape, 1)
    return labels[..., 0]


def noise(height: int, width: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(5).integers(0, 200, (height, width)).astype(dtype)


@pytest.mark.parametrize("pixel_m", [3.7, 10, 25, 47])
@pytest.mark.parametrize("angle", [0, 31])
def test_a_pixel_takes_the_label_under_its_centre_also_of_a_rotated_raster(
    tmp_path: Path, pixel_m: float, angle: float
) -> None:
    values = noise(900, 300)
    place = Affine.translation(329_900.3, 5_801_600.7) @ Affine.rotation(angle) @ Affine.scale(pixel_m, -pixel_m)
    found = warped(tmp_path, values, place)
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    x, y = TILE.transform @ (columns, rows)
    column, row = (np.floor(part).astype(int) for part in ~place @ (x, y))
    inside = (row >= 0) & (row < 900) & (column >= 0) & (column < 300)
    assert inside.any()
    expected = np.full(TILE.shape, 255)
    expected[inside] = values[row[inside], column[inside]]
    wrong = found != expected
    # GDAL places pixels to an eighth of a source pixel: right on an edge the neighbour may be taken.
    near = np.zeros_like(wrong)
    for part in ~place @ (x, y):
        near |= np.abs(part - np.rint(part)) <= 0.125
    assert not wrong[~near].any()


def test_degrees_are_placed_on_the_tiles_own_pixels(tmp_path: Path) -> None:
    place = Affine(0.0002, 0, 12.45, 0, -0.0001, 52.34)
    values = noise(500, 500)
    found = warped(tmp_path, values, place, crs="EPSG:4326")
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    x, y = TILE.transform @ (columns, rows)
    column, row = ~place @ Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    near = (np.abs(column - np.rint(column)) <= 0.125) | (np.abs(row - np.rint(row)) <= 0.125)
    expected = values[np.floor(row).astype(int), np.floor(column).astype(int)]
    np.testing.assert_array_equal(found[~near], expected[~near])


def in_fives(values: np.ndarray) -> np.ndarray:
    """(y, x, 25): the 5 x 5 pixels of 2 m under each pixel of the tile."""
    return values.reshape(HEIGHT, 5, WIDTH, 5).transpose(0, 2, 1, 3).reshape(HEIGHT, WIDTH, 25)


FINE = Affine(2, 0, 330_000, 0, -2, TILE.bounds.top)


def test_the_average_is_of_what_is_labelled(tmp_path: Path) -> None:
    values = noise(5 * HEIGHT, 5 * WIDTH)
    values[:50, :20] = 0
    values[20:25, 30:35] = np.resize([0, 7], (5, 5))
    found = warped(tmp_path, values, FINE, nodata=0, resampling="average", dtype="float32", fill=-1)
    parts = in_fives(values).astype(float)
    known = parts != 0
    expected = np.where(known.any(-1), (parts * known).sum(-1) / np.maximum(known.sum(-1), 1), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0, 0] == -1 and found[4, 6] == 7
    rounded = warped(tmp_path, values, FINE, nodata=0, resampling="average")
    assert (rounded[~known.any(-1)] == 255).all()
    assert np.abs(rounded - expected)[known.any(-1)].max() <= 0.5 + 1e-6


def test_the_mode_is_the_label_of_most(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(1, 4, (5 * HEIGHT, 5 * WIDTH)).astype(np.uint8) * 10
    values[::2, 1::2] = 9
    found = warped(tmp_path, values, FINE, nodata=9, resampling="mode")
    counts = np.stack([(in_fives(values) == code).sum(-1) for code in (10, 20, 30)], axis=-1)
    chosen = np.stack([found == code for code in (10, 20, 30)], axis=-1)
    assert chosen.any(-1).all()
    assert (counts[chosen] == counts.max(-1).ravel()).all()


@pytest.mark.parametrize("resampling", ["mode", "average"])
def test_nan_is_no_label(tmp_path: Path, resampling: str) -> None:
    values = np.full((5 * HEIGHT, 5 * WIDTH), 4, np.float32)
    values[::3] = np.nan
    values[:10] = np.nan
    found = warped(tmp_path, values, FINE, resampling=resampling, dtype="float32", fill=float("nan"))
    assert np.isnan(found[:2]).all() and (found[2:] == 4).all()


@pytest.mark.parametrize("resampling", ["nearest", "mode", "average"])
@pytest.mark.parametrize("nodata", [None, 0])
def test_what_a_raster_covers_in_part_or_not_at_all_is_nodata_there(
    tmp_path: Path, resampling: str, nodata: float | None
) -> None:
    found = warped(tmp_path, np.full((50, 30), 7, np.uint8), FINE, nodata=nodata, resampling=resampling)
    assert (found[:10, :6] == 7).all() and (found == 255).sum() == found.size - 60
    elsewhere = Affine(2, 0, 700_000, 0, -2, 2_000_000)
    assert (warped(tmp_path, np.full((50, 30), 7, np.uint8), elsewhere, resampling=resampling) == 255).all()
    southern = warped(
        tmp_path, np.full((50, 30), 7, np.uint8), Affine(0.1, 0, -70, 0, -0.1, -60), "EPSG:4326", resampling=resampling
    )
    assert (southern == 255).all()
