"""The rows of a map: pixels that were observed too rarely are taken out, counted once, and no other."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eo_assets.assets.map_blocks import MapBlocks
from eo_assets.assets.maps import map_settings
from eo_assets.assets.zone_tiles import ZoneTiles
from eo_assets.core.completeness import Completeness
from eo_assets.core.mosaic import lattice_of
from eo_assets.project import Maps, Predictions
from eo_assets.stages.features import OBSERVATIONS
from resources.eopatch_files import DATA_TIMELESS, MASK_TIMELESS, create_array


@pytest.fixture
def predicted(world: Any) -> Any:
    """A committed prediction of the world's tile: 0, 1, 2 ... with a nodata pixel, and counts of 0 to 4."""
    tile, rng = world.tile, np.random.default_rng(3)
    values = np.arange(np.prod(tile.shape), dtype=np.float32).reshape(tile.shape) % 100
    values[0, 0] = np.nan
    counts = rng.integers(0, 5, tile.shape).astype(np.uint16)
    counts[0, 0] = 0
    with world.store.attempt("predictions", tile.name) as attempt:
        create_array(attempt.folder, DATA_TIMELESS, "PREDICTED", (*tile.shape, 1), "float32")[:] = values[..., None]
        create_array(attempt.folder, MASK_TIMELESS, OBSERVATIONS, (*tile.shape, 1), "uint16")[:] = counts[..., None]
        record = world.store.commit("predictions", tile.name, attempt, "recipe")
    return SimpleNamespace(world=world, values=values, counts=counts, record=record)


def map_of(predicted: Any, **maps: Any) -> tuple[np.ndarray, dict[str, int]]:
    tile = predicted.world.tile
    settings = Maps(dtype="uint8", nodata=255, **maps)
    project = SimpleNamespace(maps=settings, predictions=Predictions(name="PREDICTED"))
    zone = ZoneTiles((tile,), {tile.name: predicted.record}, Completeness({tile.name: "present"}, {}))
    lattice = lattice_of([tile])
    blocks = MapBlocks(SimpleNamespace(project=project), predicted.world.store, zone, lattice, [tile])  # type: ignore[arg-type]
    values = np.concatenate([block for _, block in blocks])
    return values, blocks.numbers


def test_pixels_that_were_seen_too_rarely_are_nodata_and_counted(predicted: Any) -> None:
    values, numbers = map_of(predicted, min_observations=3)
    few = (predicted.counts < 3) & ~np.isnan(predicted.values)
    assert (values[few] == 255).all()
    np.testing.assert_array_equal(values[predicted.counts >= 3], predicted.values[predicted.counts >= 3])
    assert numbers == {"min_observations": 3, "pixels_of_few_observations": int(few.sum())}


def test_another_least_number_is_another_map_and_none_is_the_map_as_it_always_was() -> None:
    plain = {"name", "dtype", "nodata", "rounding", "cog"}
    assert set(map_settings(Maps(dtype="uint8", nodata=255))) == plain
    told = [map_settings(Maps(dtype="uint8", nodata=255, min_observations=least)) for least in (3, 4)]
    assert set(told[0]) == {*plain, "min_observations"}
    assert told[0] != told[1]


def test_without_a_least_number_every_prediction_is_shown(predicted: Any) -> None:
    values, numbers = map_of(predicted)
    assert (values == 255).sum() == 1
    assert numbers == {}
