"""The features stage with a composite: equal columns whatever a tile's dates, counts, gaps, thresholds, poison."""

import datetime as dt
from typing import Any

import numpy as np
import pytest

from eo_assets.core.periods import centres_of
from eo_assets.errors import TileError
from eo_assets.project import EOPatches, Imagery
from eo_assets.stages.eopatches import EOPatchesStage
from eo_assets.stages.features import FEATURES, OBSERVATIONS
from eo_assets.stages.predictions import hand_on_observations
from eo_assets.stages.stage import TileInputs
from eo_assets.stages.tiffs import Tiffs
from resources.eopatch_files import DATA, MASK, MASK_TIMELESS, create_array, open_array, read_timestamps
from resources.output_record import OutputRecord

DATES = ["2020-01-29T10:00:00", "2020-01-20T10:00:00", "2020-01-18T10:00:00", "2020-01-03T10:00:00"]
"""The newest first: of three equal periods of January the first and the last hold one each, the second two."""

MEDIAN = {"method": "median", "periods": 3}


def delivered(world: Any, dates: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (dates, *world.tile.shape)
    bands = {name: rng.integers(1, 10_000, shape).astype(np.uint16) for name in ("B04", "B08")}
    return {**bands, "QM": (rng.random(shape) > 0.4).astype(np.uint8)}


def made(world: Any, outputs: dict[str, np.ndarray], dates: list[str], name: str = "request-1") -> Any:
    outcomes = world.run("tiffs", "eopatches", "features", delivery=world.deliver(name, outputs, dates))
    assert outcomes["features"].status == "done", outcomes["features"]
    return outcomes["features"].record


def arrays(world: Any) -> tuple[np.ndarray, np.ndarray]:
    folder = world.store.live("features", world.tile.name)
    return open_array(folder, DATA, FEATURES)[:], open_array(folder, MASK, OBSERVATIONS)[..., 0]


def expected(outputs: dict[str, np.ndarray], periods: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """NDVI and B08 of the median of the clear observations, date by date ascending."""
    clear = outputs["QM"][::-1] == 1
    bands = {n: np.where(clear, outputs[n][::-1].astype(float), np.nan) for n in ("B04", "B08")}
    stack, counts = [], []
    for frames in periods:
        with np.errstate(all="ignore"):
            red, nir = (np.nanmedian(bands[name][frames], axis=0) * 0.0001 for name in ("B04", "B08"))
        stack.append(np.stack([(nir - red) / (nir + red), nir], axis=-1))
        counts.append(clear[frames].sum(axis=0))
    return np.asarray(stack, dtype=np.float32), np.asarray(counts)


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_a_period_is_the_median_of_its_clear_observations(world: Any) -> None:
    world.features["composite"] = MEDIAN
    outputs = delivered(world, 4)
    record = made(world, outputs, DATES)
    values, counts = arrays(world)
    wanted, wanted_counts = expected(outputs, [[0], [1, 2], [3]])
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(counts, wanted_counts)
    folder = world.store.live("features", world.tile.name)
    assert tuple(read_timestamps(folder)) == centres_of(world.periods)
    assert record.numbers["dates"] == 3
    assert record.numbers["acquisitions"] == 4
    assert record.numbers["acquisitions_a_period"] == {"p1": 1, "p2": 2, "p3": 1}
    assert record.numbers["observations"]["most"] == counts.sum(axis=0).max()
    assert record.numbers["unobserved_share"] == round(float((counts == 0).mean()), 4)


def test_tiles_of_different_dates_have_the_same_columns(world: Any) -> None:
    world.features["composite"] = MEDIAN
    made(world, delivered(world, 1), DATES[1:2])
    few, counts = arrays(world)
    assert few.shape[0] == 3
    assert np.isnan(few[[0, 2]]).all()
    assert not counts[[0, 2]].any()


def test_a_tile_without_any_acquisition_in_a_period_is_filled_from_around_it(world: Any) -> None:
    world.features["composite"] = {**MEDIAN, "gaps": {"method": "linear"}}
    outputs = {**delivered(world, 2), "QM": np.ones((2, *world.tile.shape), np.uint8)}
    record = made(world, outputs, [DATES[0], DATES[3]])
    values, counts = arrays(world)
    red, nir = (outputs[name][::-1].astype(np.float64) for name in ("B04", "B08"))
    middle = nir.mean(axis=0) * 0.0001
    np.testing.assert_allclose(values[1, ..., 1], middle, atol=1e-7)
    np.testing.assert_allclose(values[1, ..., 0], (nir.mean(0) - red.mean(0)) / (nir.mean(0) + red.mean(0)), atol=1e-6)
    assert not counts[1].any(), "a filled value is no observation"
    assert record.numbers["filled_share"] == round(1 / 3, 4)


@pytest.mark.parametrize("poison", [0, 65_535])
@pytest.mark.parametrize("method", ["median", "mean", "max_index", "geomedian"])
def test_what_is_masked_never_reaches_a_feature(world: Any, method: str, poison: int) -> None:
    index = {"index": "NDVI"} if method == "max_index" else {}
    world.features["composite"] = {"method": method, "periods": 3, "gaps": {"method": "linear"}, **index}
    outputs = delivered(world, 4)
    made(world, outputs, DATES)
    clean = arrays(world)
    poisoned = {name: np.where(outputs["QM"] == 1, values, poison).astype(values.dtype) if name != "QM" else values
                for name, values in outputs.items()}  # fmt: skip
    made(world, poisoned, DATES, "request-2")
    for one, other in zip(clean, arrays(world)):
        np.testing.assert_array_equal(one, other)


def test_acquisitions_below_the_threshold_are_left_out_of_the_whole_tile(world: Any) -> None:
    world.features |= {"composite": MEDIAN, "validity_threshold": 0.5}
    outputs = delivered(world, 4)
    outputs["QM"][:] = 1
    outputs["QM"][1, : world.tile.shape[0] // 2] = 0  # exactly half is not more than half
    record = made(world, outputs, DATES)
    assert record.numbers["acquisitions_below_threshold"] == 1
    assert record.numbers["acquisitions_a_period"] == {"p1": 1, "p2": 1, "p3": 1}
    assert arrays(world)[1].max() == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"validity_threshold": 0.99}, "none of 4 acquisitions is clear enough (features.validity_threshold)"),
        (
            {"composite": {"method": "median", "periods": [dt.date(2020, 1, 5), dt.date(2020, 1, 9)]}},
            "none of 4 acquisitions lies in a period of features.composite",
        ),
        ({"mask": "NEVER"}, "no pixel has a clear observation in any period"),
    ],
)
def test_a_tile_that_is_never_clear_is_empty_and_says_why(world: Any, change: dict[str, Any], reason: str) -> None:
    world.eopatches["masks"]["NEVER"] = {"from": "QM", "valid": [9]}
    world.features |= {"composite": MEDIAN, **change}
    record = made(world, delivered(world, 4), DATES)
    assert (record.empty, record.reason) == (True, reason)


def test_a_tile_whose_index_alone_is_undefined_is_not_empty(world: Any) -> None:
    world.features["composite"] = MEDIAN
    outputs = {name: np.zeros_like(values) for name, values in delivered(world, 4).items()} | {
        "QM": np.ones((4, *world.tile.shape), np.uint8)
    }
    assert not made(world, outputs, DATES).empty
    values, _ = arrays(world)
    assert np.isnan(values[..., 0]).all()
    assert not values[..., 1].any()


def test_what_the_evalscript_has_composited_is_taken_as_it_is(world: Any) -> None:
    """One frame a period, at its centre; its counts are those of the script, its gaps are filled here."""
    world.imagery["tiff_outputs"] = ["B04", "B08", "QM", "N"]
    world.eopatches["data"]["COUNTS"] = {"from": ["N"], "factor": 1}
    world.features |= {"mask": None, "composite": {**MEDIAN, "observations": "COUNTS"}}
    outputs = delivered(world, 3)
    outputs["N"] = np.random.default_rng(1).integers(0, 4, outputs["B04"].shape).astype(np.uint8)
    dates = [centre.isoformat() for centre in reversed(centres_of(world.periods))]
    made(world, outputs, dates)
    values, counts = arrays(world)
    np.testing.assert_array_equal(counts, outputs["N"][::-1])
    assert np.isnan(values[counts == 0]).all()
    np.testing.assert_array_equal(
        values[counts > 0][:, 1], (outputs["B08"][::-1][counts > 0] * 0.0001).astype(np.float32)
    )


def test_what_the_mask_denies_has_no_observation_whatever_the_script_counted(world: Any) -> None:
    world.imagery["tiff_outputs"] = ["B04", "B08", "QM", "N"]
    world.eopatches["data"]["COUNTS"] = {"from": ["N"], "factor": 1}
    world.features["composite"] = {**MEDIAN, "observations": "COUNTS"}
    outputs = delivered(world, 3) | {"N": np.full((3, *world.tile.shape), 7, np.uint8)}
    made(world, outputs, [centre.isoformat() for centre in reversed(centres_of(world.periods))])
    np.testing.assert_array_equal(arrays(world)[1], np.where(outputs["QM"][::-1] == 1, 7, 0))


@pytest.mark.parametrize(
    "dates",
    [["2020-01-17T00:00:00", "2020-01-18T00:00:00", "2020-02-03T00:00:00"], ["2020-01-06T04:00:00"], None],
)
def test_a_delivery_that_is_not_a_frame_a_period_is_refused(world: Any, dates: list[str] | None) -> None:
    """Its frames would be composited again, and their counts added up."""
    world.features["composite"] = MEDIAN
    imagery = Imagery.model_validate(world.imagery | {"composite_in_evalscript": True})
    key = world.deliver("request-1", delivered(world, len(dates or "1")), dates or ["2020-01-06"])
    if dates is None:
        (world.root / key / "userdata.json").unlink()
    stage = Tiffs(imagery, "//VERSION=3", world.periods)
    with pytest.raises(TileError, match=r"userdata\.json: \d dates that are not the centres of the 3 periods"):
        stage.run(world.tile, TileInputs({}, {}), world.root / key)


def test_more_observations_than_the_type_holds_are_the_most_that_it_holds(world: Any) -> None:
    folder = world.root / "features"
    counts = np.full((3, *world.tile.shape, 1), 40_000, np.uint16)
    create_array(folder, MASK, OBSERVATIONS, counts.shape, "uint16")[:] = counts
    hand_on_observations(folder, world.root / "predictions", world.tile)
    assert (open_array(world.root / "predictions", MASK_TIMELESS, OBSERVATIONS)[:] == 65_535).all()


def test_predictions_hand_on_how_often_a_pixel_was_seen(world: Any) -> None:
    world.features["composite"] = MEDIAN
    world.label()
    world.train(tuple(f"{name}_{label}" for label in ("p1", "p2", "p3") for name in ("NDVI", "B08")))
    outcomes = world.run(delivery=world.deliver("request-1", delivered(world, 4), DATES))
    assert {outcome.status for outcome in outcomes.values()} == {"done"}, outcomes
    _, counts = arrays(world)
    found = open_array(world.store.live("predictions", world.tile.name), MASK_TIMELESS, OBSERVATIONS)[..., 0]
    np.testing.assert_array_equal(found, counts.sum(axis=0))


@pytest.mark.parametrize(
    "change",
    [{"periods": 2}, {"periods": "months"}, {"method": "mean"}, {"gaps": {"method": "nearest"}},
     {"method": "max_index", "index": "NDVI"}, {"periods": [dt.date(2020, 1, 1), dt.date(2020, 2, 1)]}],
)  # fmt: skip
def test_every_setting_of_a_composite_counts(world: Any, change: dict[str, Any]) -> None:
    def said() -> Any:
        [stage] = world.walk().selected(["features"])
        return stage.settings(world.tile)

    world.features["composite"] = MEDIAN
    before = said()
    world.features["composite"] = {**MEDIAN, **change}
    assert said() != before


def test_the_interval_counts_where_periods_come_from_it(world: Any) -> None:
    world.features["composite"] = MEDIAN
    [before] = world.walk().selected(["features"])
    world.imagery["time_interval"] = ["2020-01-01", "2020-01-30"]
    [after] = world.walk().selected(["features"])
    assert before.settings(world.tile) != after.settings(world.tile)


def test_imagery_that_was_composited_by_other_periods_is_not_composited_again(world: Any) -> None:
    """Bought tiffs are kept when the project changes: nothing may be made of them that they are not."""
    world.imagery["tiff_outputs"] = ["B04", "B08", "QM", "N"]
    world.eopatches["data"]["COUNTS"] = {"from": ["N"], "factor": 1}
    world.features |= {"mask": None, "composite": {**MEDIAN, "observations": "COUNTS"}}
    outputs = delivered(world, 3) | {"N": np.full((3, *world.tile.shape), 2, np.uint8)}
    dates = [centre.isoformat() for centre in reversed(centres_of(world.periods))]
    made(world, outputs, dates)
    world.features["composite"]["periods"] = 2
    outcome = world.run("features")["features"]
    assert outcome.status == "failed"
    assert outcome.reason.startswith("its imagery holds 3 frames that are not the 2 periods of features.composite")
    assert "--rebuy" in outcome.reason


@pytest.mark.parametrize(("bought", "told"), [(True, "hold composites"), (False, "hold acquisitions")])
def test_imagery_of_the_other_way_to_composite_is_refused(world: Any, bought: bool, told: str) -> None:
    world.features["composite"] = MEDIAN
    key = world.deliver("request-1", delivered(world, 3), [c.isoformat() for c in reversed(centres_of(world.periods))])
    stage = Tiffs(Imagery.model_validate(world.imagery), "", world.periods if bought else ())
    numbers = stage.run(world.tile, TileInputs({}, {}), world.root / key).numbers
    record = OutputRecord("tiffs", world.tile.name, key, "r", "d", "2020-01-01", numbers=numbers)
    imagery = Imagery.model_validate(world.imagery | {"composite_in_evalscript": not bought})
    eopatches = EOPatchesStage(imagery, EOPatches.model_validate(world.eopatches))
    with pytest.raises(TileError, match=rf"33UUU_3_7 {told}, imagery.composite_in_evalscript: .*--rebuy 33UUU_3_7"):
        eopatches.run(world.tile, TileInputs({"tiffs": record}, {"tiffs": world.root / key}), world.root / "out")
