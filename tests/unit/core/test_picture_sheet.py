"""Sheets of panels: every panel where it belongs, enlarged pixel by pixel, grey where nothing is known."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from eo_assets.core.picture_sheet import CAPTION, GAP, NOTHING, PAPER, SIDE, Panel, Stretch, ramp_colours, sheet


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def panel(colour: tuple[int, int, int], shape: tuple[int, int] = (41, 41), known: bool = True) -> Panel:
    return Panel("", np.full((*shape, 3), colour, np.uint8), np.full(shape, known))


def test_panels_stand_in_their_row_and_column() -> None:
    red, blue = (200, 10, 10), (10, 10, 200)
    found = pixels(sheet(["a", "b", "c"], [("1", [panel(red), None, panel(blue)]), ("2", [None, panel(blue), None])]))
    side = 41 * 2  # the largest whole multiple of 41 that is not above SIDE
    assert side <= SIDE < side + 41 and found.shape[1] == GAP + 3 * (side + GAP)
    middle = [GAP + column * (side + GAP) + side // 2 for column in range(3)]
    rows = [GAP + 2 * CAPTION + row * (side + 2 * CAPTION + GAP) + side // 2 for row in range(2)]
    expected = [[red, PAPER, blue], [PAPER, blue, PAPER]]
    for row, wanted in zip(rows, expected, strict=True):
        assert np.abs(found[row, middle] - np.array(wanted)).max() <= 3


def test_what_is_not_known_is_grey() -> None:
    found = pixels(sheet(["a"], [("", [panel((255, 0, 0), known=False)])]))
    assert np.abs(found[GAP + 2 * CAPTION + 50, GAP + 50] - NOTHING).max() <= 3


def test_a_large_panel_is_not_enlarged() -> None:
    assert pixels(sheet(["a"], [("", [panel((9, 9, 9), (160, 120))])])).shape[1] == 2 * GAP + 120


@given(arrays(np.float32, (4, 5, 3), elements=st.floats(-1e3, 1e3, width=32) | st.just(float("nan"))))
def test_any_values_have_colours(values: np.ndarray) -> None:
    found = Stretch.of(values).colours(values)
    assert (found.shape, found.dtype) == ((4, 5, 3), np.uint8)
    assert not found[np.isnan(values)].any()
    assert ramp_colours(values[..., 0], -1, 1).shape == (4, 5, 3)


def test_a_stretch_keeps_the_order_of_values() -> None:
    values = np.linspace(0, 1, 99).reshape(33, 1, 3)
    assert (np.diff(Stretch.of(values).colours(values).astype(int), axis=0) >= 0).all()


def test_a_ramp_goes_from_its_first_to_its_last_colour() -> None:
    found = ramp_colours(np.array([[-5, 0, 4, 9]]), 0, 4)
    assert found[0].tolist() == [[68, 1, 84], [68, 1, 84], [253, 231, 37], [253, 231, 37]]
