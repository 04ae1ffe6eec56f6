"""One tile of a batch request: rendered beside its place, its files moved there."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence

from eo_assets.core.cost import DISCOUNTED_FROM_PIXELS, RATES
from resources.local_sentinel_hub.api import bad_payload
from resources.local_sentinel_hub.batch_request import BatchRequest, Delivery, Feature
from resources.local_sentinel_hub.buckets import Place
from resources.local_sentinel_hub.collections import Collection
from resources.local_sentinel_hub.render import Job, render
from resources.local_sentinel_hub.scenes import select
from resources.local_sentinel_hub.script_child import ScriptLimits


def check_existing(request: BatchRequest, place: Delivery, found: Sequence[Feature]) -> None:
    """Raise ApiError 400 if a file is in the way that the request may neither replace nor skip.

    `skipExisting` skips a tile that is there as a whole; one that is there in part needs `overwrite` all the same.
    """
    if request.output.overwrite:
        return
    wanted = {feature.name: _targets(request, place, feature) for feature in found}
    present = place.folder.present(target for targets in wanted.values() for target in targets)
    for name, targets in wanted.items():
        there = [target for target in targets if target in present]
        if there and not (request.output.skip_existing and there == targets):
            message = f"{there[0].name} of {name} is already delivered there"
            raise bad_payload(f"{message}; set overwrite or skipExisting, or use <requestId> in the template")


def deliver(
    identity: str,
    request: BatchRequest,
    place: Delivery,
    feature: Feature,
    collections: Mapping[str, Collection],
    limits: ScriptLimits,
) -> float:
    """Render one tile of the request with that id and deliver its files. Returns the processing units."""
    targets = _targets(request, place, feature)
    if request.output.skip_existing and all(path.exists() for path in targets):
        return 0.0
    drafts = place.folder.drafts(f"{_drafts(identity)}{uuid.uuid4().hex}")
    drafts.mkdir(parents=True)
    try:
        process = request.process
        job = Job(process, feature.grid, collections, cog=request.output.cog_output)
        units = render(job, drafts, limits)
        for response, target in zip(process.output.responses, targets, strict=True):
            target.take(drafts / f"{response.identifier}.{response.extension}")
    finally:
        shutil.rmtree(drafts, ignore_errors=True)
    pixels = feature.grid.shape[0] * feature.grid.shape[1]
    return units * (RATES["batch"] if pixels > DISCOUNTED_FROM_PIXELS else 1.0)


def lacks_scenes(request: BatchRequest, feature: Feature, collections: Mapping[str, Collection]) -> bool:
    """Whether no datasource of the request has a scene at the tile."""
    area = feature.grid.lonlat_bounds
    known = [(collections.get(data.type), data) for data in request.process.input.data]
    return not any(collection and select(collection, area, data.scenes_wanted) for collection, data in known)


def remove_drafts(identity: str, place: Delivery) -> None:
    """Remove what a process that was killed left half rendered."""
    place.folder.clear_drafts(_drafts(identity))


def _drafts(identity: str) -> str:
    return f".parts-{identity}-"


def _targets(request: BatchRequest, place: Delivery, feature: Feature) -> list[Place]:
    """The files of one tile, in the order of the request's responses."""
    return [place.place(feature.name, r.identifier, r.extension) for r in request.process.output.responses]
