"""The launches of a project, one job each. None spans tiles and training: they can't share a run."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from eo_assets.core.graph import FOR_TRAINING
from eo_assets.project import LoadedProject

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

WITH_ANOTHERS_MODEL: Mapping[str, str] = {
    "tiles": "Imagery and features of tiles, up to what a model predicts from.",
    "train": "The model that the project names, taken up if it fits.",
}
"""What the jobs do that have another meaning in a project which trains nothing."""

UNFINISHED_RUNS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
"""The states of runs that wait or go on."""


def project_jobs(loaded: LoadedProject) -> list[dg.UnresolvedAssetJobDefinition]:
    """`<project>_area` and `_plan`, which are one, `_tiles`, `_train`, `_predict`, `_map` and `_publish`.

    Where another project has trained the model, no job buys labels or makes what only a training needs.
    """
    project, trained_here = loaded.project.name, loaded.project.model.trained_here
    descriptions = DESCRIPTIONS if trained_here else {**DESCRIPTIONS, **WITH_ANOTHERS_MODEL}
    launches = {
        name: [asset for asset in assets if trained_here or asset not in FOR_TRAINING]
        for name, assets in {**LAUNCHES, "plan": AREA}.items()
    }
    return [
        dg.define_asset_job(
            f"{project}_{name}",
            selection=dg.AssetSelection.assets(*([project, asset] for asset in launches[name])),
            description=f"{told} Materializes {', '.join(launches[name])} of {project}.",
        )
        for name, told in descriptions.items()
    ]
