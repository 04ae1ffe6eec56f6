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


DESCRIPTIONS: Mapping[str, str] = {
    "area": "The plan: the area, its tiles, and what they will cost. Buys nothing.",
    "plan": "The same as the area's job, by the name of the command that tells it.",
    "tiles": "Imagery, labels, features and samples of tiles, up to what a model is trained on.",
    "train": "One model of all samples.",
    "predict": "Predictions of tiles with the model that is there.",
    "map": "One map a zone of all predictions that are up to date.",
    "publish": "The maps as a collection.",
}

UNFINISHED_RUNS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
"""The states of runs that wait or go on."""


def project_jobs(project: str) -> list[dg.UnresolvedAssetJobDefinition]:
    """`<project>_area` and `_plan`, which are one, `_tiles`, `_train`, `_predict`, `_map` and `_publish`."""
    launches = {**LAUNCHES, "plan": AREA}
    return [
        dg.define_asset_job(
            f"{project}_{name}",
            selection=dg.AssetSelection.assets(*([project, asset] for asset in launches[name])),
            description=f"{told} Materializes {', '.join(launches[name])} of {project}.",
        )
        for name, told in DESCRIPTIONS.items()
    ]
