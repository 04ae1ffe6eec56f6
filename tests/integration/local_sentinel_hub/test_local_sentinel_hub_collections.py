"""The YAML file that declares collections: what is read, and what is refused with the key and the value."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_assets.errors import ProjectError
from resources.local_sentinel_hub.collections import load_collections
from resources.local_sentinel_hub.scenes import Slot, describe

from .conftest import Imagery


def declared(**changes: Any) -> dict[str, Any]:
    scene = {"time": "2020-01-01T10:00:00Z", "files": {"B02": "b02.tif"}}
    return {"type": "s2", "bands": {"B02": {"scale": 0.0001}}, "scenes": [scene], **changes}


def test_collections_are_read_as_declared(world: tuple[Path, Imagery]) -> None:
    found = load_collections(world[0])
    assert list(found) == ["sentinel-2-l1c", "byoc-share"]
    band = found["sentinel-2-l1c"].bands["B11"]
    assert (band.sample_type, band.scale, band.units, band.nodata) == ("UINT16", 0.0001, "REFLECTANCE", 0)
    scene = found["sentinel-2-l1c"].scenes[0]
    assert scene.time == dt.datetime(2020, 6, 1, 10, tzinfo=dt.UTC)
    assert scene.files["B02"].path == world[0].parent / "scenes/early_B02.tif"


def test_scripts_see_the_product_as_the_data_path(world: tuple[Path, Imagery], tmp_path: Path) -> None:
    content = yaml.safe_load(world[0].read_text())
    scenes = content["collections"][0]["scenes"]
    for scene in scenes:
        scene["files"] = {band: str(world[0].parent / file) for band, file in scene["files"].items()}
    product = "S2A_MSIL1C_20200601T100000_N0209_R122_T33UVP_20200601T121212"
    scenes[0]["product"] = product
    path = tmp_path / "collections.yaml"
    path.write_text(yaml.safe_dump({"collections": content["collections"][:1]}), encoding="utf-8")
    found = load_collections(path)["sentinel-2-l1c"].scenes
    (named, plain) = describe(Slot(found[:2]))["tiles"]
    assert (named["dataPath"], named["tileId"]) == (product, found[0].id)
    assert plain["dataPath"] == (world[0].parent / "scenes").as_posix()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"collections": [declared(colour="red")]}, r"collections\.0\.colour: Extra inputs"),
        ({"collections": [declared(bands={"B02": {"scale": -1}})]}, r"bands\.B02\.scale: .*greater than 0.*-1"),
        ({"collections": [declared(bands={"B03": {}})]}, r"files of undeclared bands \['B02'\]"),
        ({"collections": [declared(), declared()]}, r"declared twice: \['s2'\]"),
        ({"collections": []}, "at least 1 item"),
        ({"collections": [declared(scenes=[{"time": "2020-01-01T10:00:00", "files": {"B02": "x"}}])]}, "timezone"),
        ({"collections": [declared()]}, r"band B02 of 2020-01-01 is not at .*b02\.tif; correct the path"),
        ("collections: [", "can't be read as the YAML"),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "collections.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ProjectError, match=said) as refusal:
        load_collections(path)
    assert str(path) in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="nowhere"):
        load_collections(tmp_path / "nowhere.yaml")
