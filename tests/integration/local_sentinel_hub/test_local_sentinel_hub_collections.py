"""The YAML file that declares collections: what is read, and what is refused with the key and the value."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_assets.errors import ProjectError
from resources.local_sentinel_hub.collections import load_collections

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
