"""Outputs whose pixels are retired, in a folder and in a bucket: the same outcome, and a bucket that bills no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_assets.errors import StoreError
from resources.eopatch_files import DATA, ROWS, create_array, open_array
from resources.object_store import ObjectStore
from resources.output_record import OutputRecord
from resources.retiring import retire
from resources.tile_store import TileStore

TILE = "30NXL_0_0"
DELIVERED = f"tiffs/2020/request-1/{TILE}"


@pytest.fixture
def outputs(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TileStore:
    monkeypatch.setenv("EO_ASSETS_HOME", str(tmp_path / "machine"))
    return TileStore(store, "demo", {"features": "features/2020", "tiffs": "tiffs/2020"})


def made(outputs: TileStore, recipe: str = "recipe") -> OutputRecord:
    with outputs.attempt("features", TILE) as attempt:
        (attempt.folder / "data").mkdir()
        for name in ("0.0", "0.1", ".zarray"):
            (attempt.folder / "data" / name).write_bytes(b"pixels")
        return outputs.commit("features", TILE, attempt, recipe)


def test_nothing_but_the_record_and_the_claim_is_left(outputs: TileStore) -> None:
    retired = retire(outputs, made(outputs))
    assert retired is not None
    left = {found.key for found in outputs.store.under("features/2020") if not found.key.endswith(".lock")}
    assert left == {f"features/2020/_commits/{TILE}.json", "features/2020/_owner.json"}
    outputs.forget(TILE)
    with pytest.raises(StoreError, match="its pixels were retired on"):
        outputs.intact(retired)
    with pytest.raises(StoreError, match="its pixels were retired on"):
        outputs.blocks(retired)


def test_a_delivery_goes_where_it_lies_and_the_orders_of_others_stay(outputs: TileStore) -> None:
    for key in (f"{DELIVERED}/B04.tif", "tiffs/2020/request-1/30NXL_0_1/B04.tif", "tiffs/2020/_orders/1.json"):
        outputs.store.put(key, b"paid")
    attempt = outputs.delivered("tiffs", TILE, DELIVERED)
    retired = retire(outputs, outputs.commit("tiffs", TILE, attempt, "recipe", source=True))
    assert retired is not None
    assert not outputs.store.exists(DELIVERED)
    assert outputs.store.get("tiffs/2020/request-1/30NXL_0_1/B04.tif") == b"paid"
    assert outputs.store.get("tiffs/2020/_orders/1.json") == b"paid"


def test_it_is_made_again_under_the_same_digest(outputs: TileStore) -> None:
    first = made(outputs)
    retire(outputs, first)
    again = made(outputs)
    assert (again.digest, again.retired) == (first.digest, "")
    assert (outputs.intact(again) / "data/0.1").read_bytes() == b"pixels"
    assert retire(outputs, first) is None, "whoever still means the old one does no harm"
    assert outputs.there(again)


def test_a_chunk_that_is_gone_under_an_open_handle_is_told_and_not_read_as_zeros(outputs: TileStore) -> None:
    with outputs.attempt("features", TILE) as attempt:
        array = create_array(attempt.folder, DATA, "FEATURES", (1, 2 * ROWS, 8, 1), "float32")
        array[:] = 1.5
        record = outputs.commit("features", TILE, attempt, "recipe")
    outputs.forget(TILE)
    opened = open_array(outputs.blocks(record), DATA, "FEATURES")
    assert (opened[:, :ROWS] == 1.5).all()
    (lost,) = (found.key for found in outputs.store.under("features/2020") if found.key.endswith("/0.1.0.0"))
    outputs.store.delete(lost)
    assert (opened[:, :ROWS] == 1.5).all()
    for rows in (slice(ROWS, None), slice(None)):
        with pytest.raises(StoreError, match=r"0\.1\.0\.0 is gone: its output was replaced or retired"):
            opened[:, rows]
