"""Imagery of the demo: every stored value is the source scene's, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from eo_assets.core.tile import Tile

pytestmark = pytest.mark.demo

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
Source = Callable[[str, Tile], NDArray[np.uint16]]


def test_the_tiles_are_the_four_that_the_scene_touches(demo: Any) -> None:
    assert [tile.name for tile in demo.tiles] == ["33UUU_3_7", "33UUU_3_8", "33UUU_4_7", "33UUU_4_8"]
    assert {tile.shape for tile in demo.tiles} == {(1000, 1000)}


@pytest.mark.parametrize("band", BANDS)
def test_tiffs_are_the_scene_through_the_whole_chain(demo: Any, source: Source, band: str) -> None:
    """10 m bands as they are, 20 m and 60 m bands by nearest neighbour, 0 where the scene ends."""
    for tile in demo.tiles:
        with rasterio.open(demo.store.live("tiffs", tile.name) / f"{band}.tif") as tiff:
            assert (tiff.count, tiff.dtypes[0], tiff.crs.to_epsg()) == (1, "uint16", 32633)
            assert tuple(tiff.bounds) == tuple(tile.bounds)
            expected = source(band, tile)
            assert 0 < (expected > 0).mean() < 1, "each tile is covered in part"
            np.testing.assert_array_equal(tiff.read(1), expected)


def test_the_mask_says_where_the_scene_has_data(demo: Any, source: Source) -> None:
    for tile in demo.tiles:
        expected = np.all([source(band, tile) > 0 for band in BANDS], axis=0)
        with rasterio.open(demo.store.live("tiffs", tile.name) / "MASK.tif") as tiff:
            np.testing.assert_array_equal(tiff.read(1), expected)
        np.testing.assert_array_equal(demo.output("eopatches", tile.name, "mask/QUALITY_MASK")[0, ..., 0], expected)


def test_the_date_is_told_by_the_service(demo: Any) -> None:
    for tile in demo.tiles:
        told = json.loads((demo.store.live("tiffs", tile.name) / "userdata.json").read_text())
        assert [date[:10] for date in told["dates"]] == ["2017-02-16"]
        timestamps = json.loads((demo.store.live("eopatches", tile.name) / "timestamps.json").read_text())
        assert timestamps == ["2017-02-16T10:21:01"]


def test_reflectance_is_the_digital_number_times_a_ten_thousandth_bit_for_bit(demo: Any, source: Source) -> None:
    for tile in demo.tiles:
        bands = demo.output("eopatches", tile.name, "data/BANDS")
        assert (bands.shape, bands.dtype) == ((1, *tile.shape, 12), np.float32)
        for index, band in enumerate(BANDS):
            expected = (source(band, tile) * 0.0001).astype(np.float32)
            assert bands[0, ..., index].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("position", "name", "first", "second"),
    [(0, "NDVI", "B08", "B04"), (1, "NDWI", "B03", "B08"), (2, "NDBI", "B11", "B08")],
)
def test_an_index_is_its_formula_over_the_scene(
    demo: Any, source: Source, position: int, name: str, first: str, second: str
) -> None:
    for tile in demo.tiles:
        features = demo.output("features", tile.name, "data/FEATURES")[0]
        assert demo.store.record("features", tile.name).numbers["features"][position] == name
        a, b = (source(band, tile).astype(np.float64) for band in (first, second))
        valid = np.all([source(band, tile) > 0 for band in BANDS], axis=0)
        with np.errstate(invalid="ignore"):
            expected = ((a * 0.0001 - b * 0.0001) / (a * 0.0001 + b * 0.0001)).astype(np.float32)
        np.testing.assert_array_equal(features[valid][:, position], expected[valid])
        assert np.isnan(features[~valid]).all()


def test_bands_follow_the_indices(demo: Any, source: Source) -> None:
    for tile in demo.tiles:
        features = demo.output("features", tile.name, "data/FEATURES")[0]
        valid = ~np.isnan(features[..., 0])
        for index, band in enumerate(BANDS, start=3):
            reflectance = (source(band, tile) * 0.0001).astype(np.float32)
            np.testing.assert_array_equal(features[valid][:, index], reflectance[valid])
