"""eo-grow's mosaicking tasks on the series of an .npz file, by the interpreter of eo-grow's own environment.

    <python with eo-grow> tests/benchmarks/eogrow_composites.py series.npz results.npz

Read by composite_equality.py, which writes the first file and reads the second; nothing of this project is imported.
"""

import datetime as dt
import sys
import warnings

import numpy as np
from eogrow.tasks.features import (
    MaxNDVIMosaickingTask,
    MedianMosaickingTask,
    ValidDataFractionPredicate,
    join_valid_and_cloud_masks,
)
from eolearn.core import EOPatch, FeatureType
from eolearn.features import NormalizedDifferenceIndexTask, SimpleFilterTask
from sentinelhub import CRS, BBox

BANDS, INDEX, MASK = (FeatureType.DATA, "BANDS"), (FeatureType.DATA, "INDEX"), (FeatureType.MASK, "VALID")


def composites(series, dtype):
    """The values (period, y, x, band) of both tasks; bands and index of the patch are of a float type."""
    times = [dt.datetime.fromisoformat(text) for text in series["times"]]
    patch = EOPatch(bbox=BBox((0, 0, 1, 1), CRS.WGS84), timestamps=times)
    patch[BANDS] = series["numbers"].astype(dtype)
    patch[MASK] = join_valid_and_cloud_masks(series["valid"][..., None], series["cloud"][..., None])
    if "threshold" in series:
        patch = SimpleFilterTask(MASK, ValidDataFractionPredicate(float(series["threshold"]))).execute(patch)
    NormalizedDifferenceIndexTask(BANDS, INDEX, tuple(int(band) for band in series["index"])).execute(patch)
    first, last = (dt.date.fromisoformat(text) for text in series["interval"])
    dates = first, last, int(series["parts"])
    return {
        "median": MedianMosaickingTask(BANDS, dates, valid_mask=MASK).execute(patch)[BANDS],
        "max_index": MaxNDVIMosaickingTask(BANDS, dates, INDEX, valid_mask=MASK).execute(patch)[BANDS],
    }


def main(source, target):
    """All series of a file: names are `<series>/<array>`."""
    warnings.simplefilter("ignore")
    arrays = dict(np.load(source))
    results = {}
    for name in dict.fromkeys(key.rpartition("/")[0] for key in arrays):
        series = {key.rpartition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
        for dtype in ("float32", "float64"):
            for method, values in composites(series, dtype).items():
                results[f"{name}/{method}/{dtype}"] = values
    np.savez(target, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
