"""The features stage: the same bits however bands are stored, and a recipe that knows the order of the columns."""

from typing import Any

import numpy as np
import pytest

from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import Features
from eo_assets.stages.features import COMPILER, FEATURES, feature_plan
from resources.eopatch_files import DATA, ROWS, open_array


def columns(world: Any, **options: Any) -> np.ndarray:
    outcomes = world.run("tiffs", "eopatches", "features", delivery=world.deliver(**options))
    assert outcomes["features"].status == "done", outcomes["features"]
    return open_array(world.store.live("features", world.tile.name), DATA, FEATURES)[:]


def expected(delivered: dict[str, np.ndarray]) -> np.ndarray:
    red, nir = (delivered[name][::-1].astype(np.float64) * 0.0001 for name in ("B04", "B08"))
    stack = np.stack([(nir - red) / (nir + red), nir], axis=-1).astype(np.float32)
    stack[delivered["QM"][::-1] != 1] = np.nan
    return stack


def test_equals_an_independent_calculation_bit_by_bit(world: Any, digital_numbers: Any) -> None:
    np.testing.assert_array_equal(columns(world), expected(digital_numbers(world.tile)))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_the_type_of_the_delivery_does_not_matter(world: Any, digital_numbers: Any, dtype: type) -> None:
    delivered = digital_numbers(world.tile)
    found = columns(world, outputs={name: values.astype(dtype) for name, values in delivered.items()})
    np.testing.assert_array_equal(found, expected(delivered))


def test_without_a_mask_every_pixel_is_valid(world: Any) -> None:
    world.features["mask"] = None
    assert not np.isnan(columns(world)).any()


def test_the_order_of_the_indices_is_part_of_the_recipe(world: Any) -> None:
    # JSON sorts keys, and the order of the indices is the order of the model's columns.
    turned = {"A": ["B08", "B04"], "B": ["B04", "B08"]}
    settings = []
    for indices in (turned, dict(reversed(turned.items()))):
        world.features["indices"] = indices
        [stage] = world.walk().selected(["features"])
        settings.append(stage.settings(world.tile))
    assert settings[0] != settings[1]


def test_the_plan_is_indices_then_bands() -> None:
    bands = ("B03", "B04", "B08")
    indices = {"NDVI": ("B08", "B04"), "NDWI": ("B03", "B08")}
    plan = feature_plan(Features(indices=indices, include_bands=("B08", "B03")), bands)
    assert plan.names == ("NDVI", "NDWI", "B08", "B03")
    assert (plan.indices, plan.bands) == (((2, 1), (0, 2)), (2, 0))
    assert feature_plan(Features(indices=indices, include_bands=True), bands).names[2:] == bands
    assert feature_plan(Features(indices=indices), bands).bands == ()


def memory(world: Any, dates: int = 12, bands: int = 4, columns: int = 3, periods: int = 0, width: int = 800) -> int:
    """What the stage asks for: `columns` are bands as they are."""
    names = [f"B{band:02}" for band in range(1, bands + 1)]
    world.tile = Tile("33UUU_3_7", 32633, Bounds(300_000, 5_000_000, 300_000 + 10 * width, 5_008_000), 10.0)
    world.imagery["expected_dates"] = dates
    world.eopatches["data"] = {"BANDS": {"from": names, "factor": 0.0001}}
    world.features = {"include_bands": names[:columns]}
    if periods:
        world.features["composite"] = {"method": "median", "periods": periods}
    [stage] = world.walk().selected(["features"])
    return int(stage.memory_bytes(world.tile))


@pytest.mark.parametrize(
    ("less", "more", "bytes_a_pixel"),
    [
        ({}, {"dates": 13}, 2 * 4 + 4 * 3),
        ({}, {"bands": 5}, 2 * 12),
        ({}, {"columns": 4}, 4 * 12),
        ({"periods": 5}, {"periods": 5, "dates": 13}, 2 * 4),
        ({"periods": 5}, {"periods": 5, "bands": 5}, 2 * 12 + 4 * 5),
        ({"periods": 5}, {"periods": 6}, 4 * (4 + 3)),
        ({"dates": 100}, {"dates": 101}, 4 * 3),
    ],
)
def test_memory_grows_with_the_arrays_of_a_block(
    world: Any, less: dict[str, int], more: dict[str, int], bytes_a_pixel: int
) -> None:
    """Digital numbers at 16 bits, composites and columns at 32; asked for is not less, nor many times as much."""
    grown = memory(world, **more) - memory(world, **less)
    arrays = ROWS * 800 * bytes_a_pixel
    assert arrays <= grown <= 4 * arrays


def test_memory_grows_with_the_width_and_has_room_for_the_compiler(world: Any) -> None:
    assert memory(world, width=1600) - memory(world) >= ROWS * 800 * 12 * (2 * 4 + 4 * 3)
    assert memory(world, dates=1) >= COMPILER
