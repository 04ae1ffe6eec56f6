"""Outputs that are not a tile's, when two runs make them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eo_assets.assets.shared_outputs import Wanted, ensure
from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.tile_store import TileStore


@pytest.mark.parametrize(("theirs", "fine"), [("grid", True), ("another grid", False)])
def test_what_another_run_commits_meanwhile_is_taken_if_it_is_the_same(tmp_path: Path, theirs: str, fine: bool) -> None:
    store = TileStore(LocalFolder(tmp_path), "demo", {"tile_grid": "cache/tile_grid"})

    def write(folder: Path) -> dict[str, Any]:
        (folder / "grid").write_text("ours")
        if not store.records("tile_grid"):
            with store.attempt("tile_grid", "tile_grid") as attempt:
                (attempt.folder / "grid").write_text("theirs")
                store.commit("tile_grid", "tile_grid", attempt, theirs)
        return {}

    if not fine:
        with pytest.raises(StoreError, match="another run committed it meanwhile"):
            ensure(store, "tile_grid", "tile_grid", Wanted("grid"), write)
    else:
        record = ensure(store, "tile_grid", "tile_grid", Wanted("grid"), write)
        assert (store.path(record) / "grid").read_text() == "theirs"
