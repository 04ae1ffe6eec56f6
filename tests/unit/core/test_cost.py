"""Processing units against published and known figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.cost import processing_units, raw_bytes

WEST_AFRICA = [(854, 854)] * 659


def test_the_unit() -> None:
    assert processing_units([(512, 512)], bands=3, samples=1, mode="process") == 1
    assert processing_units([(512, 512)], bands=3, samples=1, mode="process", float32=True) == 2
    assert processing_units([(512, 1024)], bands=6, samples=5, mode="process") == 20


@pytest.mark.parametrize(("mode", "units"), [("batch", 31_800), ("process", 95_300), ("async", 63_600)])
def test_west_africa_with_twelve_dates(mode, units: int) -> None:
    assert processing_units(WEST_AFRICA, bands=13, samples=12, mode=mode) == pytest.approx(units, rel=2e-3)


@pytest.mark.parametrize(
    ("shape", "mode", "units"),
    [
        ((10, 10), "process", 0.01 / 3),  # the area is rounded up to a hundredth, and the request to its own minimum
        ((512, 512), "batch", 100.0),
        ((512, 512), "async", 10.0),
    ],
)
def test_minima(shape: tuple[int, int], mode, units: float) -> None:
    assert processing_units([shape], bands=1, samples=1, mode=mode) == pytest.approx(max(units, 0.005))


def test_no_discount_for_tiny_tiles() -> None:
    tiny, small = [(100, 100)] * 30_000, [(100, 101)] * 30_000
    assert processing_units(tiny, 3, 1) == pytest.approx(30_000 * 10_000 / 512**2)
    assert processing_units(small, 3, 1) == pytest.approx(30_000 * 10_100 / 512**2 / 3)


def test_nothing_costs_nothing() -> None:
    assert processing_units([], bands=13, samples=12) == 0
    assert raw_bytes([], 12, "uint16") == 0


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 2000)), min_size=1), st.integers(1, 13), st.integers(1, 73)
)
def test_batch_is_never_dearer_than_process_above_its_minimum(tiles, bands: int, samples: int) -> None:
    batch = processing_units(tiles, bands, samples)
    assert 100 <= batch <= max(100, processing_units(tiles, bands, samples, mode="process") * (1 + 1e-12))
    assert processing_units([*tiles, (500, 500)], bands, samples) >= batch


def test_raw_bytes() -> None:
    assert raw_bytes([(10, 20), (5, 5)], layers=3, dtype="uint16") == 225 * 3 * 2


@pytest.mark.parametrize(("pixels", "rate"), [((99, 101), 1), ((100, 100), 2 / 3), ((100, 101), 2 / 3)])
def test_the_asynchronous_rate_starts_at_what_the_batch_rate_starts_above(pixels: tuple[int, int], rate: float) -> None:
    area = max(pixels[0] * pixels[1] / 512**2, 0.01)
    assert processing_units([pixels] * 1000, 3, 1, mode="async") == pytest.approx(1000 * area * rate)
