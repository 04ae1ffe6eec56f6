"""The features stage: the same bits however bands are stored, and a recipe that knows the order of the columns."""

from typing import Any

import numpy as np
import pytest

from eo_assets.project import Features
from eo_assets.stages.features import FEATURES, feature_plan
from resources.eopatch_files import DATA, open_array


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
