"""The values that each stage writes for one small tile. They may change only together with the stage's code version."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import rasterio
import zarr

GOLDEN = {
    "tiffs": ("1", ""),
    "reference": ("1", ""),
    "eopatches": ("1", ""),
    "features": ("1", ""),
    "samples": ("1", ""),
    "predictions": ("1", ""),
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
