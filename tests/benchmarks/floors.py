"""What the parts of a run's work cost by themselves, in CPU seconds: the same bytes, with nothing around them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from eo_assets.assets.area import tiles_of
from eo_assets.core.ensemble.patches import pixels_with_values
from eo_assets.core.features import feature_block
from eo_assets.definitions import open_project
from eo_assets.project import Project
from eo_assets.stages.build import tile_store
from eo_assets.stages.features import FEATURES, feature_plan
from eo_assets.stages.predictions import load_predictor
from resources.eopatch_files import DATA, MASK, DigitalNumbers, open_array, row_blocks
from resources.heap import keep_freed
from resources.tile_store import TileStore
from tests.benchmarks.peer.ours import Ours

READS_OF_FEATURES = 3
"""Samples look twice, predictions once."""

IMPORTS = "import dagster, ray, rasterio, geopandas, sentinelhub, lightgbm"


@dataclass(frozen=True, slots=True)
class Floor:
    """CPU seconds of a whole run's share, and how they were found."""

    seconds: float
    told: str


def floors(ours: Ours, model: Path) -> dict[str, Floor]:
    """By the name of the kind of work in `run_profile.KINDS`; measured on the first tile and multiplied."""
    keep_freed()
    loaded = open_project(str(ours.predicting))
    store = tile_store(loaded)
    tiles = tiles_of(store)
    tile, number = tiles[0].name, len(tiles)
    bands, mask = (_array(store, "eopatches", tile, *which) for which in ((DATA, "BANDS"), (MASK, "QUALITY_MASK")))
    features = _array(store, "features", tile, DATA, FEATURES)
    chunks = [_Chunks(array) for array in (bands, features)]
    packed, plain = (sum(getattr(one, name) for one in chunks) for name in ("packed_bytes", "plain_bytes"))
    read = chunks[0].packed_bytes + READS_OF_FEATURES * chunks[1].packed_bytes
    tiffs = sorted((ours.files.tiffs / tile).glob("*.tif"))
    loops = _loops(bands, mask, features, loaded.project, model)
    return {
        "workers: writing files": Floor(
            number * packed * _a_byte_written(), f"{number * packed / 1e9:.1f} GB written by `write` to new files"
        ),
        "workers: reading files": Floor(
            number * (read + sum(path.stat().st_size for path in tiffs)) * _a_byte_read(),
            "the same bytes by `read`, cached",
        ),
        "workers: packing arrays": Floor(
            number * sum(one.packing() for one in chunks), f"Blosc on {number * plain / 1e9:.1f} GB, chunk by chunk"
        ),
        "workers: unpacking arrays": Floor(
            number * (chunks[0].unpacking() + READS_OF_FEATURES * chunks[1].unpacking()),
            "Blosc; BANDS once, FEATURES three times",
        ),
        "workers: decoding tiffs": Floor(
            number * sum(map(_decoding, tiffs)), f"GDAL, each of {len(tiffs)} tiffs of a tile as a whole"
        ),
        "workers: trees, bins and columns": Floor(number * loops, "the compiled loops on one tile, in memory"),
        "driver: everything else (Python, Dagster, the model compared)": Floor(
            _cpu_of(IMPORTS), f"`{IMPORTS}` and nothing else"
        ),
    }


def _array(store: TileStore, stage: str, tile: str, kind: str, name: str) -> Any:
    return open_array(store.intact(store.live_record(stage, tile)), kind, name)


class _Chunks:
    """The stored chunks of an array, packed and unpacked."""

    def __init__(self, array: Any) -> None:
        self._codec = array.compressor
        keys = [key for key in array.chunk_store if not key.rpartition("/")[2].startswith(".")]
        self._packed = [array.chunk_store[key] for key in keys]
        self._plain = [
            np.frombuffer(self._codec.decode(one), "<u2" if array.filters else array.dtype) for one in self._packed
        ]
        self.packed_bytes = sum(map(len, self._packed))
        self.plain_bytes = sum(one.nbytes for one in self._plain)

    def packing(self) -> float:
        return _cpu(lambda: [self._codec.encode(one) for one in self._plain])

    def unpacking(self) -> float:
        places = [bytearray(one.nbytes) for one in self._plain[:1]]
        return _cpu(lambda: [self._codec.decode(one, out=places[0]) for one in self._packed])


def _loops(bands: Any, mask: Any, features: Any, project: Project, model: Path) -> float:
    """Columns of features, and predictions, of one tile whose blocks are in memory."""
    plan = feature_plan(project.features, project.eopatches.data[project.features.bands].source)
    predictor, _ = load_predictor(str(model))
    numbers = DigitalNumbers(bands)
    held = [
        (numbers.read(rows), np.asarray(mask[:, rows, :, 0]), np.asarray(features[:, rows]))
        for rows in row_blocks(features.shape[1])
    ]

    def run() -> None:
        for values, valid, block in held:
            feature_block(values, numbers.factor, valid, plan)
            predictor.predict_pixels(block, pixels_with_values(block))

    run()  # compiled, and the model read
    return _cpu(run)


def _decoding(path: Path) -> float:
    def run() -> None:
        with rasterio.open(path) as tiff:
            tiff.read()

    return _cpu(run)


def _a_byte_written(size: int = 30 << 20, files: int = 20) -> float:
    data = os.urandom(size)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        return _cpu(lambda: [Path(folder, str(number)).write_bytes(data) for number in range(files)]) / size / files


def _a_byte_read(size: int = 30 << 20, times: int = 20) -> float:
    place = bytearray(size)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder, "file")
        path.write_bytes(os.urandom(size))

        def run() -> None:
            for _ in range(times):
                with path.open("rb", buffering=0) as file:
                    file.readinto(place)

        return _cpu(run) / size / times


def _cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _cpu_of(code: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
