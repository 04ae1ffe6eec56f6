"""Pictures: small, transparent where there is nothing, and the colours that were asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from eo_assets.core.pictures import CLASSES, RAMPS, class_picture, index_picture, scalar_picture, stride, true_colour


def pixels(png: bytes) -> np.ndarray:
    """(y, x, 4) red, green, blue, alpha."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGBA"))


def scene(height: int, width: int) -> np.ndarray:
    """Reflectance of fields with noise, the worst case for a PNG."""
    random = np.random.default_rng(0)
    fields = np.kron(random.uniform(0.05, 0.3, (height // 32 + 1, width // 32 + 1, 3)), np.ones((32, 32, 1)))
    return (fields[:height, :width] + random.normal(0, 0.02, (height, width, 3))).astype(np.float32)


@pytest.mark.parametrize(("shape", "step", "size"), [((1000, 1000), 6, (167, 167)), ((854, 30), 5, (171, 6))])
def test_pictures_fit_their_side(shape: tuple[int, int], step: int, size: tuple[int, int]) -> None:
    assert stride(shape) == step
    assert pixels(true_colour(scene(*shape))).shape[:2] == size
    assert pixels(index_picture(np.zeros(shape))).shape[:2] == size
    assert pixels(class_picture(np.zeros(shape, np.uint8))).shape[:2] == size


def test_an_array_read_with_a_stride_gives_the_same_picture() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (1000, 900))
    step = stride(values.shape)
    assert index_picture(values) == index_picture(values[::step, ::step])


def test_small_arrays_keep_every_pixel() -> None:
    assert pixels(class_picture(np.arange(6, dtype=np.uint8).reshape(2, 3))).shape == (2, 3, 4)


def test_bytes_are_few_even_for_noise() -> None:
    assert len(true_colour(scene(854, 854))) < 40_000
    assert len(index_picture(np.random.default_rng(0).uniform(-1, 1, (854, 854)))) < 40_000


def test_true_colour_stretches_and_hides_what_is_not_valid() -> None:
    rgb = scene(100, 100)
    rgb[:10] = np.nan
    valid = np.ones((100, 100), bool)
    valid[:, :20] = False
    shown = pixels(true_colour(rgb, valid))
    np.testing.assert_array_equal(shown[..., 3] > 0, valid & np.isfinite(rgb[..., 0]))
    bright = shown[shown[..., 3] > 0][:, :3]
    assert bright.min() < 40 and bright.max() > 230


def test_true_colour_orders_red_green_blue() -> None:
    rgb = np.zeros((3, 2, 3))
    rgb[0, :, 0] = rgb[1, :, 1] = rgb[2, :, 2] = 0.3
    shown = pixels(true_colour(rgb))
    assert [int(np.argmax(shown[row, 0, :3])) for row in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("colormap", list(RAMPS))
def test_ramps_run_from_end_to_end(colormap) -> None:
    shown = pixels(index_picture(np.array([[-1.0, 1.0, -9.0, 9.0, np.nan]]), colormap=colormap))[0]
    first, last = (*RAMPS[colormap][0], 255), (*RAMPS[colormap][-1], 255)
    assert [tuple(pixel) for pixel in shown[:4].tolist()] == [first, last, first, last]
    assert shown[4, 3] == 0


def test_scalars_hide_nodata_and_fit_their_own_range() -> None:
    shown = pixels(scalar_picture(np.array([[0, 100, 255]], np.uint8), nodata=255))[0]
    assert shown[2, 3] == 0
    assert tuple(shown[0, :3]) == RAMPS["viridis"][0] or shown[0, 2] > shown[0, 1]
    assert shown[1, 0] > 200


def test_a_map_that_is_nearly_all_zero_still_shows_its_villages() -> None:
    values = np.zeros((150, 150), np.uint8)
    values[5, 5] = 100
    assert tuple(pixels(scalar_picture(values))[5, 5, :3]) == RAMPS["viridis"][-1]


def test_classes_keep_their_colours_from_tile_to_tile() -> None:
    shown = pixels(class_picture(np.array([[10, 30, 20, 0]], np.int16), nodata=0, classes=[10, 20, 30]))[0]
    assert [tuple(pixel) for pixel in shown[:3, :3].tolist()] == [CLASSES[0], CLASSES[2], CLASSES[1]]
    assert shown[3, 3] == 0
    other = pixels(class_picture(np.array([[30, 40]], np.int16), nodata=0, classes=[10, 20, 30]))[0]
    assert tuple(other[0, :3].tolist()) == CLASSES[2]
    assert other[1, 3] == 0


def test_nothing_to_see_is_a_transparent_picture() -> None:
    for png in (
        true_colour(np.full((5, 5, 3), np.nan)),
        scalar_picture(np.full((5, 5), np.nan)),
        class_picture(np.zeros((5, 5), np.uint8), nodata=0),
    ):
        assert (pixels(png)[..., 3] == 0).all()
