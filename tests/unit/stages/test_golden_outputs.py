"""The values that each stage writes for one small tile. They may change only together with the stage's code version."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import rasterio
import zarr

GOLDEN = {
    "tiffs": ("1", "a60a460b14f4ce999eb6e4d55a1a19ae00523429868403fb6462f6a7d3ea6680"),
    "reference": ("1", "4527701f73863c7596ee676291e0557b36f0bdcab5645ed1f49f045793acc348"),
    "eopatches": ("1", "a920383b8f047e241fde4ef7adc66c44587754819e573306231aeb56b8ce4798"),
    "features": ("1", "6d90a30e175dfecf62c5f9f98d36861059c3b83c3a1e366f011ebc697f04a73f"),
    "samples": ("1", "b5e0c97b54aa415630fb49f83eed36c29de6893ef550d2a7488d35e98ddfa123"),
    "predictions": ("1", "5b10cad8cd2a97de6272ee540c4bc3a74278d33c44222d16f513869e7af7e326"),
}
"""Stage: code version and digest. Where the digest changes, outputs that users have committed are no longer what the
product makes: raise the stage's `code_version`, and put the new pair here."""


def digest(folder: Path) -> str:
    """sha256 over the values of all arrays and rasters of a folder, and its texts; compression does not count."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".zarr":
            values = zarr.open_array(str(path), mode="r")[:]
            found.update(f"{name} {values.shape} {values.dtype}\n".encode() + values.tobytes())
        elif path.suffix == ".tif":
            with rasterio.open(path) as raster:
                found.update(f"{name} {raster.shape} {raster.dtypes}\n".encode() + raster.read().tobytes())
        elif path.suffix in (".json", ".geojson") and ".zarr/" not in name:
            found.update(f"{name}\n{path.read_text()}".encode())
    return found.hexdigest()


@pytest.mark.parametrize("stage", GOLDEN)
def test_an_output_changes_only_with_its_code_version(world: Any, stage: str) -> None:
    world.make()
    [made] = world.walk().selected([stage])
    found = (made.code_version, digest(world.store.live(stage, world.tile.name)))
    assert found == GOLDEN[stage], (
        f"the output of {stage} is not what version {GOLDEN[stage][0]} wrote: if that is meant, raise code_version in "
        f"eo_assets/stages/{stage}.py, and put {found} into GOLDEN"
    )


def test_there_is_a_golden_output_of_every_stage(world: Any) -> None:
    assert tuple(GOLDEN) == tuple(stage.name for stage in world.walk().stages)


def test_an_output_is_the_same_twice(world: Any, tmp_path: Path) -> None:
    world.make()
    first = {stage: digest(world.store.live(stage, world.tile.name)) for stage in GOLDEN}
    again = type(world)(tmp_path / "again")
    again.make()
    assert {stage: digest(again.store.live(stage, again.tile.name)) for stage in GOLDEN} == first
