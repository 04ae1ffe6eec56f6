"""The BYOC collection that maps go to: found again, created with its band said, or brought up to date."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentinelhub.api.byoc import SentinelHubBYOC
from sentinelhub.exceptions import DownloadFailedException

from eo_assets.core.publishing import BandSettings, settle_bands, whole_bands
from eo_assets.errors import ServiceError
from resources.sentinel_hub import http_status

LOG = logging.getLogger(__name__)
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class WantedCollection:
    """What a collection should be. `id` names one that exists, which then keeps the name that it has."""

    name: str
    bucket: str
    band: BandSettings
    id: str | None = None


def find_or_create(
    client: SentinelHubBYOC, service: str, wanted: WantedCollection, known: str | None
) -> dict[str, Any]:
    """The collection to publish to: that of the wanted id; else the one that is known; else that of the name; else new.

    Only collections of the maps' bucket come into question. Raises ServiceError if the one of the wanted id is not
    there or has another bucket, and where several may be meant: only a person knows which.
    """
    if wanted.id is not None:
        return _explicit(client, service, wanted, wanted.id)
    usable = [c for c in client.iter_collections() if c["s3Bucket"] == wanted.bucket and not c.get("isReadOnly")]
    named = [c for c in usable if c["name"] == wanted.name]
    mine = [c for c in usable if c["id"] == known]
    candidates = mine if mine and mine[0] in named else mine + named
    if len(candidates) > 1:
        raise ServiceError(_several(service, wanted, mine, named))
    return dict(candidates[0]) if candidates else _create(client, wanted)


def settle(
    client: SentinelHubBYOC, collection: Mapping[str, Any], wanted: WantedCollection, known: str | None, *, empty: bool
) -> None:
    """Change name and band of the collection where they differ from what is wanted; no request where they do not.

    The name is changed only of a collection that this project has published to under another one.
    """
    identity, told = collection["id"], (collection.get("additionalData") or {}).get("bands") or {}
    try:
        bands = settle_bands(told, wanted.band, nodata=collection.get("noData"), empty=empty)
    except ServiceError as error:
        raise ServiceError(f"BYOC collection {collection['name']} ({identity}): {error}") from None
    name = wanted.name if wanted.id is None and identity == known else collection["name"]
    if name == collection["name"] and collection.get("noData") is None and bands == whole_bands(told):
        return
    LOG.info("BYOC collection %s: name %s, bands %s", identity, name, bands)
    # Whoever gives the noData of bands leaves out that of the collection: the service takes one or the other.
    client.update_collection(
        {"id": identity, "name": name, "s3Bucket": collection["s3Bucket"], "additionalData": {"bands": bands}}
    )


def _explicit(client: SentinelHubBYOC, service: str, wanted: WantedCollection, identity: str) -> dict[str, Any]:
    try:
        found = dict(client.get_collection(identity))
    except DownloadFailedException as error:
        if http_status(error) != NOT_FOUND:
            raise
        raise ServiceError(
            f"byoc.collection_id: {identity}: {service} has no such collection; correct it, or leave it out to find or "
            "create one by its name"
        ) from None
    if found["s3Bucket"] != wanted.bucket:
        raise ServiceError(
            f"byoc.collection_id: {identity}: its bucket is {found['s3Bucket']}, the maps are in {wanted.bucket}; name "
            "a collection of that bucket"
        )
    return found


def _several(
    service: str, wanted: WantedCollection, mine: Sequence[Mapping[str, Any]], named: Sequence[Mapping[str, Any]]
) -> str:
    was = "".join(f"the maps are in {c['id']} ({c['name']}), and " for c in mine)
    have = f"{len(named)} on bucket {wanted.bucket} have that name" if len(named) > 1 else "another one has that name"
    listed = ", ".join(str(c["id"]) for c in (*mine, *named))
    return f"{service}: BYOC collection {wanted.name}: {was}{have}; set byoc.collection_id to one of {listed}"


def _create(client: SentinelHubBYOC, wanted: WantedCollection) -> dict[str, Any]:
    bands = settle_bands({}, wanted.band, nodata=None, empty=True)
    payload = {"name": wanted.name, "s3Bucket": wanted.bucket, "additionalData": {"bands": bands}}
    LOG.info("BYOC collection %s: created on bucket %s, bands %s", wanted.name, wanted.bucket, bands)
    return {**payload, **client.create_collection(payload)}
