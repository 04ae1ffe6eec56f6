"""What a project's tiles take in a bucket: each stage's arrays, by the shapes that its settings give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from eo_assets.assets.cost_estimate import stage_layers
from eo_assets.core.cost import Shape, raw_bytes
from eo_assets.core.storage_cost import Prices, StageStorage, StorageCost, chunk_count, stored_bytes
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject, PointsReference, Project
from eo_assets.project_periods import delivered_frames, project_periods
from eo_assets.stages.features import feature_plan
from resources.eopatch_files import chunks_of, list_chunks

HEADER = 2
"""bbox.geojson and the quicklook."""
TIMED_HEADER = HEADER + 1
"""... and timestamps.json."""
TABLE_FILES, MAP_FILES = 6, 3
"""Arrays and texts of the training data; a map, its published copy and its quicklook."""
PIXEL_BYTES, ROW_BYTES = 8, 28
"""Row and column of a sample; tile and ground block of a row of the training data."""


def storage_of(loaded: LoadedProject, tiles: Sequence[Tile]) -> StorageCost:
    """Bytes, objects and prices of all stages, as if imagery covered every tile."""
    project = loaded.project
    shapes, zones = [tile.shape for tile in tiles], len({tile.epsg for tile in tiles})
    raw = {stage: raw_bytes(shapes, count, dtype) for stage, (count, dtype) in stage_layers(loaded).items()}
    objects = {stage: _objects(project, stage, shapes) for stage in (*raw, "samples") if stage != "maps"}
    samples, values = sum(_samples(project, shape) for shape in shapes), _value_bytes(project)
    raw |= {"samples": samples * (values + PIXEL_BYTES), "training_data": samples * (values + ROW_BYTES)}
    objects |= {"training_data": TABLE_FILES, "maps": MAP_FILES * zones}
    records = {"training_data": 1, "maps": zones}
    rules = project.storage.retention.rules
    made = [stage for stage in ORDER if project.model.trained_here or stage not in ("samples", "training_data")]
    stages = tuple(
        StageStorage(
            stage,
            stored_bytes(stage, raw[stage]),
            objects[stage],
            records.get(stage, len(shapes)),
            str(rules[stage]) if stage in rules else "keep",
        )
        for stage in made
        if stage != "reference" or project.model.trained_here
    )
    prices = project.storage.prices
    return StorageCost(stages, Prices(prices.gb_month, prices.put_1000, prices.get_1000))


ORDER = ("tiffs", "reference", "eopatches", "features", "samples", "training_data", "predictions", "maps")


def _objects(project: Project, stage: str, shapes: Sequence[Shape]) -> int:
    """Objects of a tile stage, those of tiles of one shape counted once."""
    return sum(_objects_of_tile(project, shape)[stage] * count for shape, count in Counter(shapes).items())


def _objects_of_tile(project: Project, shape: Shape) -> Mapping[str, int]:
    frames, columns = delivered_frames(project), _columns(project)
    dates, composite = len(project_periods(project)) or frames, bool(project_periods(project))
    rows, width = _samples(project, shape) // project.sampling.block_size[1], project.sampling.block_size[1]
    timeless = _arrays((*shape, 1))
    stacks = [(frames, *shape, len(stack.source)) for stack in project.eopatches.data.values()]
    masks = [(frames, *shape, 1)] * len(project.eopatches.masks)
    counts = [(dates, *shape, 1)] if composite else []
    label_type = project.reference.dtype
    sampled = _lists(
        ((dates, rows, width, columns), "f4"),
        ((rows, width, 1), label_type),
        ((rows, width, 2), "i4"),
        ((*shape, 1), "u1"),
    )
    return {
        "tiffs": len(project.imagery.tiff_outputs) + 1,
        "reference": HEADER + timeless,
        "eopatches": TIMED_HEADER + _arrays(*stacks, *masks),
        "features": TIMED_HEADER + _arrays((dates, *shape, columns), *counts) + composite,
        "samples": HEADER + sampled,
        "predictions": HEADER + timeless + (_arrays((*shape, 1)) if composite else 0),
    }


def _arrays(*shapes: tuple[int, ...]) -> int:
    return sum(chunk_count(shape, chunks_of(shape)) for shape in shapes)


def _lists(*arrays: tuple[tuple[int, ...], str]) -> int:
    return sum(chunk_count(shape, list_chunks(shape, dtype)) for shape, dtype in arrays)


def _columns(project: Project) -> int:
    stack = project.eopatches.data[project.features.bands].source
    return len(feature_plan(project.features, stack).names)


def _samples(project: Project, shape: Shape) -> int:
    """Samples of a tile, if it has labels enough. How many points a file has is not known before it is read."""
    if isinstance(project.reference.source, PointsReference):
        return 0
    height, width = project.sampling.block_size
    blocks = (shape[0] // height) * (shape[1] // width)
    if project.sampling.fraction is not None:
        blocks = round(blocks * project.sampling.fraction)
    return min(blocks, project.sampling.number or blocks) * height * width


def _value_bytes(project: Project) -> int:
    """Bytes of a sample's features and label."""
    dates = len(project_periods(project)) or delivered_frames(project)
    return 4 * _columns(project) * dates + np.dtype(project.reference.dtype).itemsize
