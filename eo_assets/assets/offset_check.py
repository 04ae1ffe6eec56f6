"""The check `offset`: do dark pixels say that Sentinel-2's offset of 2022-01-25 was taken out, or left in, everywhere?

On `training_data` it compares the training tiles before and since that day, on `predictions` all tiles, and those with
what the model was trained on. It warns: only a person knows the scene. Nothing is read but records. Judged are
the bands that can hold the offset, Sentinel-2's digital numbers of reflectance: others differ for their own reasons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any

import dagster as dg

from eo_assets.core.dark_targets import FACTOR, WITH_OFFSET, Darkness, judge, median_of, of_bands
from eo_assets.project import LoadedProject, Project
from resources.tile_store import TileStore

OFFSET_CHECK = "offset"
DARK = "dark"
"""The key of an EOPatch's numbers, and of what a model was trained on."""

TRAINED_ON_FILE = "trained_on.json"
"""The tiles whose samples a model was trained on, all of them by name, the digest of the training data, and the dark
pixels of these tiles."""


def offset_spec(project: str, asset: str) -> dg.AssetCheckSpec:
    """`<asset>: offset`. It blocks nothing."""
    return dg.AssetCheckSpec(
        OFFSET_CHECK,
        asset=[project, asset],
        description="Are dark pixels as dark since 2022-01-25, and as in training, as far as is known?",
    )


def darkness_of(store: TileStore, tiles: Collection[str] | None = None) -> tuple[Darkness, int]:
    """The median over tiles, of all that have an EOPatch or of those named, and of how many it is."""
    records = store.records("eopatches")
    known = [
        record.numbers[DARK]
        for name, record in records.items()
        if record.numbers.get(DARK) and (tiles is None or name in tiles)
    ]
    return median_of(known), len(known)


def trained_darkness(store: TileStore) -> Darkness:
    """Of the tiles that the committed model was trained on; empty where nobody has written it down."""
    record = store.record("model", "model")
    said = None if record is None else store.file(record, TRAINED_ON_FILE)
    try:
        found: Any = json.loads(said or b"{}").get(DARK, {})
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def offset_of_training(loaded: LoadedProject, store: TileStore, tiles: Collection[str]) -> dg.AssetCheckResult:
    """The check of the tiles in the training data."""
    return _result(loaded.project, "training_data", *darkness_of(store, tiles), {})


def offset_of_predictions(loaded: LoadedProject, store: TileStore) -> dg.AssetCheckResult:
    """The check of all tiles, against those that the model was trained on."""
    return _result(loaded.project, "predictions", *darkness_of(store), trained_darkness(store))


def _result(project: Project, asset: str, own: Darkness, tiles: int, training: Darkness) -> dg.AssetCheckResult:
    bands = _judged_bands(project)
    if reason := _not_judged(project, bands):
        return _told(project, asset, True, f"not judged: {reason}", {})
    verdict = judge(of_bands(own, bands), of_bands(training, bands))
    metadata: dict[str, Any] = {"tiles": tiles}
    if verdict.rows:
        metadata["dark_pixels"] = dg.MetadataValue.md(verdict.table())
    told = f"{verdict.told} ({tiles} tiles with dark pixels on record)"
    return _told(project, asset, verdict.passed, told, metadata)


def _judged_bands(project: Project) -> set[str]:
    """The bands whose digital numbers the offset is 1000 of."""
    stacks = project.eopatches.data.values()
    return {band for stack in stacks if math.isclose(stack.factor, FACTOR, rel_tol=1e-6) for band in stack.source}


def _not_judged(project: Project, bands: Collection[str]) -> str | None:
    """Why dark pixels say nothing of the offset; None where they do."""
    names = (source.collection for source in project.imagery.collections)
    if others := sorted({name for name in names if name not in WITH_OFFSET}):
        return (
            f"imagery.collections has {', '.join(others)}, which never had the offset, and bands don't say where they "
            "are from"
        )
    return None if bands else f"no feature of eopatches.data has the factor {FACTOR} of reflectance"


def _told(project: Project, asset: str, passed: bool, told: str, metadata: dict[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        asset_key=[project.name, asset],
        check_name=OFFSET_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description=told,
    )
