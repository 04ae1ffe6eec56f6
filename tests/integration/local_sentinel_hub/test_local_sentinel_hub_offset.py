"""A scene's declared offset: taken off where a request harmonises, which is the default, and left where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from rasterio.crs import CRS

from eo_assets.core.tile import Bounds
from eo_assets.errors import ProjectError
from resources.local_sentinel_hub.collections import load_collections
from resources.local_sentinel_hub.pixels import PixelGrid, Sampling, SlotReader
from resources.local_sentinel_hub.process_request import Processing
from resources.local_sentinel_hub.scenes import Slot

from .conftest import EPSG, LEFT, TOP, write_cog

SIZE = 6
NUMBERS = np.array([[0, 1, 999, 1000, 1001, 65535]] * SIZE, np.uint16)
GRID = PixelGrid(CRS.from_epsg(EPSG), Bounds(LEFT, TOP - 10 * SIZE, LEFT + 10 * SIZE, TOP), (SIZE, SIZE))


def declare(folder: Path, **scene: object) -> Path:
    write_cog(folder / "B02.tif", NUMBERS, nodata=0)
    write_cog(folder / "CLM.tif", NUMBERS)
    bands = {"B02": {"scale": 0.0001, "nodata": 0}, "CLM": {"sample_type": "UINT16"}}
    files = {"B02": "B02.tif", "CLM": "CLM.tif"}
    scenes = [{"time": "2022-06-01T10:00:00Z", "files": files, **scene}]
    path = folder / "collections.yaml"
    path.write_text(yaml.safe_dump({"collections": [{"type": "sentinel-2-l2a", "bands": bands, "scenes": scenes}]}))
    return path


@pytest.mark.parametrize(
    ("harmonize", "expected"), [(True, [0, 0, 0, 0, 1, 64535]), (False, [0, 1, 999, 1000, 1001, 65535])]
)
def test_the_offset_is_taken_off_reflectances_alone(tmp_path: Path, harmonize: bool, expected: list[int]) -> None:
    collection = load_collections(declare(tmp_path, offset=1000))["sentinel-2-l2a"]
    targets = {name: np.full((SIZE, SIZE), 7, np.uint16) for name in ("B02", "CLM")}
    mask = np.zeros((SIZE, SIZE), np.uint8)
    with SlotReader(GRID, Sampling(), collection.bands, harmonize=harmonize) as reader:
        reader.fill(Slot(collection.scenes), 0, SIZE, list(targets.items()), mask)
    np.testing.assert_array_equal(targets["B02"][0], expected)
    np.testing.assert_array_equal(targets["CLM"], NUMBERS)
    np.testing.assert_array_equal(mask[0], [0, 1, 1, 1, 1, 1])  # what has become 0 is still data


def test_a_request_says_it_by_the_services_name_for_it() -> None:
    assert Processing.model_validate({"harmonizeValues": False}).harmonize_values is False
    assert Processing.model_validate({}).harmonize_values is None


def test_an_offset_is_no_negative_number(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"scenes\.0\.offset"):
        load_collections(declare(tmp_path, offset=-1000))
