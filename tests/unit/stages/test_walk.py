"""One tile through its stages: made once, made again when stale, failures kept to what depends on them."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_assets.errors import StoreError, TransientError
from eo_assets.stages.features import FeaturesStage
from eo_assets.stages.samples import Samples
from eo_assets.stages.tiffs import Tiffs
from eo_assets.stages.walk import TileWork, Walk
from resources.eolearn_bridge import load_eopatch
from resources.tile_store import TileStore

STAGES = ("tiffs", "reference", "eopatches", "features", "samples", "predictions")


def statuses(outcomes: dict[str, Any]) -> dict[str, str]:
    return {stage: outcome.status for stage, outcome in outcomes.items()}


def test_everything_is_made_once(world: Any) -> None:
    first = world.make()
    assert tuple(first) == STAGES
    second = world.run()
    assert set(statuses(second).values()) == {"up_to_date"}
    assert [second[s].record for s in STAGES] == [first[s].record for s in STAGES]


def test_records_say_where_an_output_came_from(world: Any) -> None:
    outcomes = world.make()
    inputs = {stage: dict(outcome.record.inputs) for stage, outcome in outcomes.items()}
    digest = {stage: outcome.record.digest for stage, outcome in outcomes.items()}
    assert inputs["features"] == {"eopatches": digest["eopatches"]}
    assert inputs["samples"] == {"features": digest["features"], "reference": digest["reference"]}
    assert set(inputs["predictions"]) == {"features", "model"}


def test_stages_are_walked_in_the_order_of_the_graph(world: Any) -> None:
    world.label()
    world.train()
    assert list(world.run("predictions", "features", "tiffs", "eopatches", delivery=world.deliver())) == [
        "tiffs", "eopatches", "features", "predictions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("section", "change", "made_again"),
    [
        ("sampling", {"seed": 2}, {"samples"}),
        ("sampling", {"tiles": ["33UUU_3_7"]}, set()),
        ("predictions", {"clip": [0, 50]}, {"predictions"}),
        ("features", {"mask": None}, {"features", "samples", "predictions"}),
        (
            "eopatches",
            {"masks": {"QUALITY_MASK": {"from": "QM", "valid": "bool"}}},
            {"eopatches", "features", "samples", "predictions"},
        ),
        ("reference", {"nodata": 0}, {"reference", "samples"}),
        ("imagery", {"expected_dates": 7}, set()),
    ],
)
def test_a_change_makes_exactly_what_depends_on_it_again(
    world: Any, section: str, change: dict[str, Any], made_again: set[str]
) -> None:
    world.make()
    getattr(world, section).update(change)
    assert {stage for stage, status in statuses(world.run()).items() if status == "done"} == made_again
    assert set(statuses(world.run()).values()) == {"up_to_date"}


def test_a_new_model_makes_predictions_again_and_nothing_else(world: Any) -> None:
    world.make()
    world.train(labels=np.where(np.linspace(-1, 1, 200) > 0.5, 100, 0))
    assert {stage for stage, status in statuses(world.run()).items() if status == "done"} == {"predictions"}


def test_a_new_code_version_makes_the_stage_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make()
    monkeypatch.setattr(FeaturesStage, "code_version", "next")
    made = {stage for stage, status in statuses(world.run()).items() if status == "done"}
    assert made == {"features", "samples", "predictions"}


def test_paid_imagery_is_kept_when_stale_and_used(world: Any) -> None:
    world.make()
    world.imagery["time_interval"] = ["2020-01-01", "2020-02-29"]
    outcomes = world.run()
    assert outcomes["tiffs"].status == "kept"
    assert outcomes["tiffs"].good
    assert f"--rebuy {world.tile.name}" in outcomes["tiffs"].reason
    assert outcomes["predictions"].good
    assert world.run("tiffs", rebuy=(world.tile.name,))["tiffs"].status == "failed", "it has to be delivered first"
    again = world.run("tiffs", rebuy=(world.tile.name,), delivery=world.deliver("request-2"))
    assert again["tiffs"].status == "done"
    assert "request-2" in again["tiffs"].record.attempt


def test_an_upgrade_does_not_make_paid_imagery_stale_by_reading_it_otherwise(world: Any) -> None:
    world.make()
    world.eopatches["data"]["BANDS"]["from"] = ["B08", "B04"]
    assert world.run("tiffs")["tiffs"].status == "up_to_date"


def test_a_second_delivery_of_the_same_bytes_changes_nothing_after_it(world: Any) -> None:
    world.make()
    outcomes = world.run(delivery=world.deliver("request-2"))
    assert statuses(outcomes) == dict.fromkeys(STAGES, "up_to_date") | {"tiffs": "done"}
    changed = {"B04": np.full((2, *world.tile.shape), 7, np.uint16)}
    key = world.deliver("request-3")
    world.deliver("request-3", outputs=changed)
    assert statuses(world.run(delivery=key))["eopatches"] == "done"


def test_without_a_delivery_the_tile_says_so_and_the_rest_waits(world: Any) -> None:
    world.label()
    outcomes = world.run()
    assert statuses(outcomes) == {
        "tiffs": "failed", "reference": "done", "eopatches": "blocked", "features": "blocked", "samples": "blocked",
        "predictions": "blocked",
    }  # fmt: skip
    assert "were not delivered in this run" in outcomes["tiffs"].reason
    assert outcomes["samples"].reason.startswith("waits for features: waits for eopatches: waits for tiffs: tiffs of")


def test_a_failing_stage_blocks_its_later_ones_alone(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("in the sampler")

    world.label()
    world.train()
    monkeypatch.setattr(Samples, "run", broken)
    outcomes = world.run(delivery=world.deliver())
    assert statuses(outcomes) == dict.fromkeys(STAGES, "done") | {"samples": "failed"}
    assert outcomes["samples"].reason == "ZeroDivisionError: in the sampler"
    assert "in the sampler" in outcomes["samples"].details
    assert not list((world.root / "samples").glob("33UUU_3_7/*")), "no half-made attempt stays behind"


def test_a_stage_that_fails_keeps_its_old_output_and_blocks(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = world.make()["features"].record
    world.features["mask"] = None
    monkeypatch.setattr(FeaturesStage, "run", lambda *args: 1 / 0)
    outcomes = world.run()
    assert statuses(outcomes)["features"] == "failed"
    assert statuses(outcomes)["samples"] == statuses(outcomes)["predictions"] == "blocked"
    assert world.store.record("features", world.tile.name) == old


def test_a_fault_that_may_pass_is_left_to_the_caller(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def throttled(*args: object) -> None:
        raise TransientError("429")

    world.label()
    key = world.deliver()
    with monkeypatch.context() as patch:
        patch.setattr(FeaturesStage, "run", throttled)
        with pytest.raises(TransientError, match="429"):
            world.run(delivery=key)
    again = world.run(delivery=key)
    assert again["eopatches"].status == "up_to_date", "what was committed before the fault is found"
    assert again["features"].status == "done"


def test_an_empty_tile_is_empty_all_the_way_for_one_reason(world: Any) -> None:
    world.label()
    world.train()
    outcomes = world.run(delivery=world.deliver(dates=[]))
    assert set(statuses(outcomes).values()) == {"done"}
    for stage in ("tiffs", "eopatches", "features", "samples", "predictions"):
        record = outcomes[stage].record
        assert (record.empty, record.reason) == (True, "the service has no acquisition in the time interval"), stage
        if stage != "tiffs":
            assert load_eopatch(world.store.live(stage, world.tile.name)).get_features() == []
    assert set(statuses(world.run()).values()) == {"up_to_date"}


def test_state_reads_records_alone(world: Any) -> None:
    walk: Walk = world.walk()
    for stage in walk.stages:
        wanted = {"tiffs": "failed", "reference": "failed"}.get(stage.name, "blocked")
        assert walk.state(stage, world.tile).status == wanted
    world.make()
    assert {walk.state(stage, world.tile).status for stage in walk.stages} == {"up_to_date"}


@pytest.mark.parametrize("stage", ["reference", "eopatches", "features"])
def test_a_torn_record_is_a_failed_tile_and_not_a_failed_run(world: Any, stage: str) -> None:
    world.make()
    world.store.store.put(f"{stage}/_commits/{world.tile.name}.json", b"{torn")
    walk: Walk = world.walk()
    states = {each.name: walk.state(each, world.tile) for each in walk.stages}
    assert states[stage].status == "failed"
    assert f"{world.tile.name}.json: not a commit record" in states[stage].reason
    assert states["tiffs"].status == "up_to_date"
    outcomes = world.run()
    assert outcomes[stage].status == "failed"
    assert outcomes["samples"].status == "blocked"


def test_a_label_file_that_is_gone_is_a_failed_tile_and_not_a_failed_run(world: Any) -> None:
    world.make()
    (world.input_folder / "labels.tiff").unlink()
    outcomes = world.run()
    assert outcomes["reference"].status == "failed"
    assert "labels.tiff does not exist" in outcomes["reference"].reason
    assert outcomes["predictions"].status == "up_to_date"


def test_a_committed_output_whose_folder_is_gone_is_missing_and_made_again(world: Any) -> None:
    record = world.make()["eopatches"].record
    world.store.store.delete_folder(record.attempt)
    world.features["mask"] = None
    alone = world.run("features")["features"]
    assert (alone.status, alone.reason) == ("blocked", "eopatches of 33UUU_3_7 has not been made")
    assert statuses(world.run("eopatches", "features")) == {"eopatches": "done", "features": "done"}


def test_the_loser_of_a_race_takes_the_winners_output(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray may hand a tile out again while the worker that it thought lost is still at it."""
    world.label()
    key = world.deliver()
    world.run("tiffs", "eopatches", delivery=key)
    original = FeaturesStage.run

    def slow(self: FeaturesStage, *args: Any) -> Any:
        monkeypatch.setattr(FeaturesStage, "run", original)
        assert world.run("features")["features"].status == "done"
        return original(self, *args)

    monkeypatch.setattr(FeaturesStage, "run", slow)
    outcome = world.run("features")["features"]
    assert outcome.status == "up_to_date"
    assert len(list((world.root / "features" / world.tile.name).iterdir())) == 1


def test_a_store_that_refuses_is_a_failure(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise StoreError("disk is owned by another project")

    world.label()
    monkeypatch.setattr(TileStore, "commit", refuse)
    outcome = world.run("reference")["reference"]
    assert (outcome.status, outcome.reason) == ("failed", "disk is owned by another project")


def test_a_walk_travels_to_a_worker(world: Any) -> None:
    world.make()
    walk = pickle.loads(pickle.dumps(world.walk()))  # noqa: S301
    outcomes = walk(TileWork(world.tile, STAGES))
    assert {outcome.status for outcome in outcomes} == {"up_to_date"}
    assert len(pickle.dumps(outcomes)) < 10_000, "what comes back is small"


def test_only_tiffs_take_a_delivery(world: Any) -> None:
    assert not isinstance(world.walk().stages[1], Tiffs)
    assert dataclasses.replace(TileWork(world.tile, ("features",)), delivery="x").delivery == "x"
    assert world.run("features", delivery="x")["features"].status == "blocked"


def test_the_folder_of_an_output_is_an_eopatch_and_nothing_else(world: Any) -> None:
    world.make()
    for stage in ("reference", "eopatches", "features", "samples", "predictions"):
        names = {path.name for path in Path(world.store.live(stage, world.tile.name)).iterdir()}
        assert names <= {
            "bbox.geojson", "timestamps.json", "data", "mask", "data_timeless", "mask_timeless", "quicklook.png",
        }, stage  # fmt: skip


def test_a_lost_chunk_is_told_and_never_read_as_no_data(world: Any) -> None:
    record = world.make()["eopatches"].record
    (world.store.path(record) / "mask" / "QUALITY_MASK.zarr" / "0.1.0.0").unlink()
    world.features["include_bands"] = False
    outcome = world.run("features")["features"]
    assert outcome.status == "failed"
    assert "is damaged" in outcome.reason and "to make it anew" in outcome.reason
