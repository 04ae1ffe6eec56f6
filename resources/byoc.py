"""Maps as a Sentinel Hub BYOC collection: created once, every tile ingested once, waited for, failures told."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sentinelhub.api.byoc import SentinelHubBYOC

from eo_assets.errors import ServiceError
from resources.sentinel_hub import SentinelHub, service_errors

ENDED = ("INGESTED", "FAILED")


@dataclass(frozen=True, slots=True)
class PublishedTile:
    """One tile of the collection: its path in the bucket with `(BAND)`, when it was sensed, what of it is shown.

    `digest` tells whether the file has changed since it was ingested.
    """

    path: str
    sensing_time: dt.datetime
    cover: Mapping[str, Any]
    digest: str


def publish_tiles(
    service: SentinelHub, name: str, tiles: Sequence[PublishedTile], known: Mapping[str, Any], timeout_s: float = 1800.0
) -> dict[str, Any]:
    """Make the collection hold these tiles, each INGESTED; returns {id, name, tiles: [{path, status, digest}]}.

    `known` is what an earlier call returned, or nothing. Without it a collection of this name on the same bucket is
    taken up, so that a lost record makes no duplicate. Deleted are the tiles that `known` lists and that are no longer
    wanted, never others: those may be somebody else's. Raises ServiceError naming every tile that was not ingested.
    """
    with service_errors(f"{service.name}: BYOC"):
        client = SentinelHubBYOC(service.config())
        collection_id = _collection(client, service, name, known)
        present = {tile["path"]: tile for tile in client.iter_tiles(collection_id)}
        ours = known.get("tiles", []) if known.get("id") == collection_id else []
        digests = {tile["path"]: tile["digest"] for tile in ours}
        for tile in tiles:
            _ensure(client, collection_id, tile, present.get(tile.path), digests.get(tile.path))
        wanted = {tile.path for tile in tiles}
        for path in (present.keys() & digests.keys()) - wanted:
            client.delete_tile(collection_id, present[path])
        states = _wait(client, collection_id, wanted, timeout_s)
    failed = {path: state for path, state in states.items() if state["status"] != "INGESTED"}
    if failed:
        told = "; ".join(f"{path}: {tile['status']}: {_cause(tile)}" for path, tile in failed.items())
        raise ServiceError(f"BYOC collection {name} ({collection_id}): {told}")
    shown = [{"path": tile.path, "status": states[tile.path]["status"], "digest": tile.digest} for tile in tiles]
    return {"id": collection_id, "name": name, "tiles": shown}


def _collection(client: SentinelHubBYOC, service: SentinelHub, name: str, known: Mapping[str, Any]) -> str:
    bucket = service.bucket_url("").removeprefix("s3://").split("/")[0]
    candidates = [c for c in client.iter_collections() if c["s3Bucket"] == bucket and not c.get("isReadOnly")]
    for collection in candidates:
        if collection["id"] == known.get("id"):
            return str(collection["id"])
    for collection in candidates:
        if collection["name"] == name:
            return str(collection["id"])
    return str(client.create_collection({"name": name, "s3Bucket": bucket})["id"])


def _ensure(
    client: SentinelHubBYOC, collection_id: str, tile: PublishedTile, present: Any, ingested_digest: str | None
) -> None:
    wanted = {
        "path": tile.path,
        "coverGeometry": dict(tile.cover),
        "sensingTime": tile.sensing_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if present is None:
        client.create_tile(collection_id, wanted)
        return
    client.update_tile(collection_id, {**wanted, "id": present["id"]})
    if present["status"] != "INGESTED" or ingested_digest != tile.digest:
        client.reingest_tile(collection_id, present)


def _wait(client: SentinelHubBYOC, collection_id: str, wanted: Set[str], timeout_s: float) -> dict[str, Any]:
    """The wanted tiles by path once all have ended, or time has run out."""
    deadline = time.monotonic() + timeout_s
    while True:
        states = {tile["path"]: tile for tile in client.iter_tiles(collection_id) if tile["path"] in wanted}
        if all(tile["status"] in ENDED for tile in states.values()) or time.monotonic() > deadline:
            return states
        time.sleep(0.5)


def _cause(tile: Mapping[str, Any]) -> str:
    return str((tile.get("additionalData") or {}).get("failedIngestionCause", "still waiting when time ran out"))
