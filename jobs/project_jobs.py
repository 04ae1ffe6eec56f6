"""The launches of a project, one job each. None spans tiles and training: they can't share a run."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from eo_assets.partitions import tile_partitions, zone_partitions

AREA = ("aoi", "tile_grid")
TILES = ("tiffs", "reference", "eopatches", "features", "samples")
TRAIN = ("training_data", "model")
PREDICT = ("predictions",)
MAP = ("maps",)
PUBLISH = ("byoc_collection",)

LAUNCHES: Mapping[str, tuple[str, ...]] = {
    "area": AREA,
    "tiles": TILES,
    "train": TRAIN,
    "predict": PREDICT,
    "map": MAP,
    "publish": PUBLISH,
}
"""Every asset in the launch that makes it, in the order in which the launches follow one another."""


def project_jobs(project: str) -> list[dg.UnresolvedAssetJobDefinition]:
    """`<project>_area`, `_tiles`, `_train`, `_predict`, `_map` and `_publish`."""
    partitions = {"tiles": tile_partitions(project), "predict": tile_partitions(project), "map": zone_partitions(project)}
    return [
        dg.define_asset_job(
            f"{project}_{name}",
            selection=dg.AssetSelection.assets(*([project, asset] for asset in assets)),
            partitions_def=partitions.get(name),
            description=f"Materialize {', '.join(assets)} of {project}.",
        )
        for name, assets in LAUNCHES.items()
    ]
