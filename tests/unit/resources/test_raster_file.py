"""The handle on a GeoTIFF as a person sees it."""

from __future__ import annotations

from pathlib import Path

from resources.local_folder import LocalFolder
from resources.raster_file import raster_files
from resources.tile_store import TileStore


def test_a_handle_tells_its_place_and_no_more(tmp_path: Path) -> None:
    store = TileStore(LocalFolder(tmp_path), "demo", {"maps": "maps"})
    with store.attempt("maps", "32633") as attempt:
        (attempt.folder / "map.tif").write_bytes(b"")
        record = store.commit("maps", "32633", attempt, "r")
    (handle,) = raster_files(store, record)
    assert str(handle) == f"{tmp_path / record.attempt}/map.tif"
    assert repr(handle) == f"RasterFile({handle})"
