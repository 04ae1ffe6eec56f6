"""CPU seconds that stages take for a million values, from the records of a finished project: what cost.py reckons with.

    python -m tests.benchmarks.stage_seconds demo

A record holds wall seconds of one stage of one tile, which runs on one CPU. Medians over tiles; run the project on an
idle machine first. Values are pixels x layers as `stage_layers` counts them, trees x leaves for predictions.
"""

from __future__ import annotations

import statistics
import sys

from eo_assets.assets.area import tiles_of
from eo_assets.assets.cost_estimate import work_layers
from eo_assets.core.cost import SECONDS_A_MILLION
from eo_assets.definitions import open_project
from eo_assets.stages.build import tile_store


def main(name: str) -> None:
    """Print what was measured beside what is reckoned with."""
    loaded = open_project(name)
    store = tile_store(loaded)
    pixels = {tile.name: tile.shape[0] * tile.shape[1] for tile in tiles_of(store)}
    print(f"{'stage':12s} {'measured':>10s} {'in cost.py':>10s}  s a million values, median of tiles")
    for stage, layers in work_layers(loaded).items():
        records = store.records(stage)
        area = pixels if stage != "maps" else dict.fromkeys(records, sum(pixels.values()))
        rates = [
            record.numbers["seconds"] * 1e6 / (area[key] * layers)
            for key, record in records.items()
            if key in area and not record.empty and "seconds" in record.numbers  # adopted ones took none
        ]
        if rates:
            print(f"{stage:12s} {statistics.median(rates):10.5f} {SECONDS_A_MILLION[stage]:10.5f}  of {len(rates)}")


if __name__ == "__main__":
    main(sys.argv[1])
