"""Windows of rasters on other grids: exact where the pixels are the same, whatever the offset and the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from rasterio.crs import CRS

from eo_assets.core.tile import Bounds
from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.collections import Band, BandFile
from resources.local_sentinel_hub.pixels import BandReader, PixelGrid, Sampling

from .conftest import EPSG, LEFT, TOP, write_cog

SIDE = 32
NODATA = 7


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint16]]:
    """32x32 pixels of 20 m; some are nodata."""
    values = np.random.default_rng(5).integers(0, 50, (SIDE, SIDE), dtype=np.uint16)
    return write_cog(tmp_path_factory.mktemp("pixels") / "a.tif", values, 20, nodata=NODATA), values


def grid_at(row: int, column: int, height: int, width: int, resolution: float = 20) -> PixelGrid:
    left, top = LEFT + column * resolution, TOP - row * resolution
    bounds = Bounds(left, top - height * resolution, left + width * resolution, top)
    return PixelGrid(CRS.from_epsg(EPSG), bounds, (height, width))


def window(values: NDArray[Any], row: int, column: int, height: int, width: int) -> NDArray[Any]:
    """A window by numpy alone: 0 outside and where nodata."""
    padded = np.zeros((SIDE * 5, SIDE * 5), values.dtype)
    padded[SIDE * 2 : SIDE * 3, SIDE * 2 : SIDE * 3] = np.where(values == NODATA, 0, values)
    return padded[SIDE * 2 + row :, SIDE * 2 + column :][:height, :width]


offsets = st.integers(-2 * SIDE, 2 * SIDE)
sizes = st.integers(1, SIDE)


@given(row=offsets, column=offsets, height=sizes, width=sizes, block=sizes)
@settings(max_examples=150, deadline=None)
def test_the_same_pixels_are_read_exactly(
    raster: tuple[Path, NDArray[np.uint16]], row: int, column: int, height: int, width: int, block: int
) -> None:
    reader = BandReader(BandFile(raster[0]), Band(nodata=NODATA), grid_at(row, column, height, width), Sampling())
    blocks = [reader.read(start, min(start + block, height)) for start in range(0, height, block)]
    reader.close()
    expected = window(raster[1], row, column, height, width)
    assert_array_equal(np.concatenate([values for values, _ in blocks]), expected)
    there = np.ones_like(raster[1]) * (raster[1] != NODATA)
    assert_array_equal(np.concatenate([valid for _, valid in blocks]), window(there, row, column, height, width))


@given(row=st.integers(0, 2 * SIDE - 8), column=st.integers(0, 2 * SIDE - 8), factor=st.sampled_from([2, 4, 5]))
@settings(max_examples=60, deadline=None)
def test_finer_pixels_repeat_the_files(
    raster: tuple[Path, NDArray[np.uint16]], row: int, column: int, factor: int
) -> None:
    reader = BandReader(BandFile(raster[0]), Band(nodata=NODATA), grid_at(row, column, 8, 8, 20 / factor), Sampling())
    values, _ = reader.read(0, 8)
    reader.close()
    fine = np.kron(np.where(raster[1] == NODATA, 0, raster[1]), np.ones((factor, factor), np.uint16))
    assert_array_equal(values, fine[row : row + 8, column : column + 8])


@pytest.mark.parametrize("kind", ["BILINEAR", "BICUBIC"])
def test_smooth_resampling_does_not_touch_pixels_that_coincide(
    raster: tuple[Path, NDArray[np.uint16]], kind: str
) -> None:
    reader = BandReader(BandFile(raster[0]), Band(nodata=NODATA), grid_at(3, 4, 9, 9), Sampling(kind, kind))
    assert_array_equal(reader.read(0, 9)[0], window(raster[1], 3, 4, 9, 9))
    reader.close()


def test_nan_is_nodata_where_it_says_so(tmp_path: Path) -> None:
    values = np.array([[1.5, np.nan], [np.nan, 2.5]], np.float32)
    path = write_cog(tmp_path / "nan.tif", values, 20, nodata=float("nan"))
    reader = BandReader(BandFile(path), Band("FLOAT32"), grid_at(0, 0, 2, 2), Sampling())
    found, valid = reader.read(0, 2)
    reader.close()
    assert_array_equal(found, [[1.5, 0], [0, 2.5]])
    assert_array_equal(valid, ~np.isnan(values))


def test_the_grids_transform_is_that_of_its_bounds() -> None:
    assert grid_at(1, 2, 3, 4).transform == Affine(20, 0, LEFT + 40, 0, -20, TOP - 20)


@pytest.mark.parametrize(
    ("file", "band", "said"),
    [
        ("missing.tif", Band(), "can't be read as a GeoTIFF"),
        ("a.tif", Band("UINT8"), "holds uint16, its collection declares UINT8"),
    ],
)
def test_a_file_that_cannot_be_served_is_named(
    raster: tuple[Path, NDArray[np.uint16]], file: str, band: Band, said: str
) -> None:
    with pytest.raises(ServiceError, match=said) as refusal:
        BandReader(BandFile(raster[0].with_name(file)), band, grid_at(0, 0, 1, 1), Sampling())
    assert file in str(refusal.value)
