"""eo-learn's own download task against the local service."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from sentinelhub import CRS, BBox, DataCollection, SHConfig

from .conftest import LEFT, SIDE, TOP, Imagery

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SCRIPT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B02", "dataMask"], units: "DN"}],
          output: [{id: "B02", bands: 1, sampleType: "UINT16"}, {id: "mask", bands: 1, sampleType: "UINT8"}]};
}
function evaluatePixel(s) { return {B02: [s.B02], mask: [s.dataMask]}; }
"""


def test_sentinelhub_evalscript_task_fills_an_eopatch(
    config: SHConfig, collection: DataCollection, imagery: Imagery
) -> None:
    from eolearn.core import FeatureType
    from eolearn.io import SentinelHubEvalscriptTask

    task = SentinelHubEvalscriptTask(
        features=[(FeatureType.DATA, "B02"), (FeatureType.MASK, "mask")],
        evalscript=SCRIPT,
        data_collection=collection,
        resolution=10,
        maxcc=0.5,
        time_difference=dt.timedelta(minutes=1),
        config=config,
        max_threads=2,
    )
    box = BBox((LEFT, TOP - 640, LEFT + 640, TOP), CRS("32633"))
    patch = task.execute(bbox=box, time_interval=("2020-06-01", "2020-06-30"))
    assert [time.day for time in patch.timestamps] == [1, 11]
    assert patch.data["B02"].shape == (2, SIDE, SIDE, 1)
    np.testing.assert_array_equal(patch.data["B02"][0, ..., 0], imagery.pixels["early", "B02"])
    np.testing.assert_array_equal(patch.data["B02"][1, ..., 0], imagery.pixels["next", "B02"])
