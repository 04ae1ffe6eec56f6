"""Samples: labelled, valid, inside the cell, and a tile's own business."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_assets.core.tile import Tile
from eo_assets.stages.features import FEATURES
from eo_assets.stages.samples import MASK_OF_SAMPLES, PIXELS
from resources import eopatch_files
from resources.eolearn_bridge import load_eopatch
from resources.eopatch_files import DATA, DATA_TIMELESS, MASK_TIMELESS, open_array


def sample(world: Any, **delivery: Any) -> Any:
    world.label() if not (world.input_folder / "labels.tiff").exists() else None
    key = world.deliver(**delivery)
    outcome = world.run("tiffs", "reference", "eopatches", "features", "samples", delivery=key)["samples"]
    assert outcome.status == "done", outcome
    return outcome.record


def arrays(world: Any) -> dict[str, np.ndarray]:
    folder = world.store.live("samples", world.tile.name)
    return {
        "features": open_array(folder, DATA, FEATURES)[:],
        "labels": open_array(folder, DATA_TIMELESS, "GHSL")[:],
        "pixels": open_array(folder, DATA_TIMELESS, PIXELS)[:],
        "mask": open_array(folder, MASK_TIMELESS, MASK_OF_SAMPLES)[:],
    }


def test_samples_are_what_lies_under_them(world: Any) -> None:
    record = sample(world)
    found = arrays(world)
    rows, columns = found["pixels"].reshape(-1, 2).T
    features = open_array(world.store.live("features", world.tile.name), DATA, FEATURES)[:]
    reference = open_array(world.store.live("reference", world.tile.name), DATA_TIMELESS, "GHSL")[:]
    np.testing.assert_array_equal(found["features"].reshape(2, -1, 2), features[:, rows, columns])
    np.testing.assert_array_equal(found["labels"].reshape(-1), reference[rows, columns, 0])
    assert (found["labels"] != 255).all(), "nodata is never sampled"
    assert (found["labels"] == 0).any(), "0 is a label"
    assert len(np.unique(found["pixels"].reshape(-1, 2), axis=0)) == 50 == record.numbers["samples"]
    assert found["mask"].sum() == 50
    assert not np.isnan(found["features"]).any(axis=(2, 3)).all(axis=0).any(), "one date at least is whole"


def test_many_dates_change_nothing_but_how_much_is_held(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many dates arrays are stored and read a few columns at a time."""

    def stored() -> list[bytes]:
        arrays = [("features", DATA, FEATURES), ("samples", DATA, FEATURES), ("samples", DATA_TIMELESS, PIXELS)]
        arrays += [("predictions", DATA_TIMELESS, "PREDICTED")]
        folders = [(world.store.live(stage, world.tile.name), kind, name) for stage, kind, name in arrays]
        return [open_array(*place)[:].tobytes() for place in folders]

    world.make()
    whole = stored()
    monkeypatch.setattr(eopatch_files, "WHOLE_WIDTH_DATES", 1)
    monkeypatch.setattr(eopatch_files, "COLUMNS", 16)
    made_again = ("eopatches", "features", "samples", "predictions")
    for stage in made_again:
        Path(world.store.record_place(stage, world.tile.name)).unlink()
    assert {outcome.status for outcome in world.run(*made_again).values()} == {"done"}
    chunks = open_array(world.store.live("features", world.tile.name), DATA, FEATURES).chunks
    assert chunks[2] < world.tile.shape[1], "there are several"
    assert stored() == whole


def test_blocks_of_rows_without_labels_are_not_read(world: Any) -> None:
    labels = np.full(world.tile.shape, 255, np.uint8)
    labels[10:40] = 7
    world.label(labels)
    key = world.deliver()
    world.run("tiffs", "reference", "eopatches", "features", delivery=key)
    folder = world.store.live("features", world.tile.name) / DATA / f"{FEATURES}.zarr"
    for chunk in [path for path in folder.iterdir() if not path.name.startswith((".", "0.0."))]:
        chunk.write_bytes(bytes(chunk.stat().st_size))  # of the size that the record says
    outcome = world.run("samples")["samples"]
    assert outcome.status == "done", outcome
    assert outcome.record.numbers["eligible_pixels"] > 0


def test_eo_learn_opens_samples(world: Any) -> None:
    sample(world)
    patch = load_eopatch(world.store.live("samples", world.tile.name))
    assert patch.data[FEATURES].shape == (2, 50, 1, 2)
    assert patch.data_timeless["GHSL"].shape == (50, 1, 1)


def test_samples_do_not_depend_on_other_tiles_and_do_depend_on_the_name(world: Any) -> None:
    sample(world)
    first = arrays(world)["pixels"]
    world.tile = dataclasses.replace(world.tile, name="33UUU_3_8")
    sample(world)
    second = arrays(world)["pixels"]
    assert not np.array_equal(first, second)
    world.tile = dataclasses.replace(world.tile, name="33UUU_3_7")
    world.store.store.delete("samples/_commits/33UUU_3_7.json")
    sample(world)
    np.testing.assert_array_equal(arrays(world)["pixels"], first)


@pytest.mark.parametrize("block", [1, [3, 5], 16])
def test_no_block_touches_the_buffer(world: Any, block: Any, digital_numbers: Any) -> None:
    # A patchlet whose corner lies in the cell must not reach into the buffer, nor start there.
    cell = world.tile.cell
    world.tile = Tile(world.tile.name, 32633, cell, 10.0, (7, 9))
    world.sampling |= {"block_size": block, "number": 5000}
    sample(world, outputs=digital_numbers(world.tile))
    found = arrays(world)["pixels"].reshape(-1, 2)
    assert found[:, 0].min() >= 7 and found[:, 0].max() < 7 + 130
    assert found[:, 1].min() >= 9 and found[:, 1].max() < 9 + 24
    mask = arrays(world)["mask"][..., 0].astype(bool)
    assert not mask[:7].any() and not mask[-7:].any() and not mask[:, :9].any() and not mask[:, -9:].any()


def test_patchlets_stand_below_one_another(world: Any) -> None:
    world.sampling |= {"block_size": [8, 4], "number": 3}
    sample(world)
    found = arrays(world)
    assert found["features"].shape == (2, 24, 4, 2)
    assert found["labels"].shape == (24, 4, 1)
    blocks = found["pixels"].reshape(3, 8, 4, 2)
    assert (np.diff(blocks[..., 0], axis=1) == 1).all()
    assert (np.diff(blocks[..., 1], axis=2) == 1).all()


def test_a_fraction(world: Any) -> None:
    world.sampling = {"fraction": 0.1}
    record = sample(world)
    assert record.numbers["blocks"] == round(0.1 * record.numbers["eligible_pixels"])


@pytest.mark.parametrize(
    ("sampling", "why"),
    [
        ({"number": 5, "block_size": 40}, "block_size 40 x 40 is larger than the cell of 130 x 24 pixels"),
        ({"fraction": 1e-9}, "fraction 1e-09 of the blocks is less than one block"),
    ],
)
def test_why_nothing_was_sampled(world: Any, sampling: dict[str, Any], why: str) -> None:
    world.sampling = sampling
    record = sample(world)
    assert record.empty and why in record.reason


def test_labels_where_no_pixel_is_valid_give_an_empty_sample(world: Any, digital_numbers: Any) -> None:
    labels = np.full(world.tile.shape, 255, np.uint8)
    labels[:50] = 1
    world.label(labels)
    delivered = digital_numbers(world.tile)
    delivered["QM"][:, :50] = 0
    record = sample(world, outputs=delivered)
    assert (record.empty, record.reason) == (True, "no pixel is both labelled and valid")
    assert record.numbers["labelled_pixels"] == 50 * 24


def test_an_unlabelled_tile_is_empty_for_the_labels_reason(world: Any) -> None:
    world.label(np.full(world.tile.shape, 255, np.uint8))
    record = sample(world)
    assert (record.empty, record.reason) == (True, "no pixel has a label")
