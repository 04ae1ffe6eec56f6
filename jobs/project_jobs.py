"""The launches of a project, one job each. None spans tiles and training: they can't share a run."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

AREA = ("aoi", "tile_grid", "cost_estimate")
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
    return [
        dg.define_asset_job(
            f"{project}_{name}",
            selection=dg.AssetSelection.assets(*([project, asset] for asset in assets)),
            description=f"Materialize {', '.join(assets)} of {project}.",
        )
        for name, assets in LAUNCHES.items()
    ]
