"""Maps as a Sentinel Hub BYOC collection: only what differs is asked for, every tile waited for, failures told."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentinelhub.api.byoc import SentinelHubBYOC
from sentinelhub.exceptions import DownloadFailedException

from eo_assets.core.publishing import ENDED, Action, KnownTile, Plan, PublishedTile, after, plan
from eo_assets.errors import ServiceError
from resources.byoc_collection import WantedCollection, find_or_create, settle
from resources.sentinel_hub import SentinelHub, http_status, service_errors

LOG = logging.getLogger(__name__)
LOCAL_POLL_S, REMOTE_POLL_S = 0.5, 10.0
CONFLICT = 409

Remember = Callable[[Mapping[str, Any]], None]
"""Keeps {id, tiles} for the next call; what it got last is what `publish_tiles` wants as `known`."""


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How long and how often tiles are waited for, and whether vanished ones go. `poll_s` None: by the service."""

    poll_s: float | None = None
    timeout_s: float = 1800.0
    delete_vanished: bool = False


def publish_tiles(
    service: SentinelHub,
    wanted: WantedCollection,
    tiles: Sequence[PublishedTile],
    known: Mapping[str, Any],
    remember: Remember,
    options: PublishOptions = PublishOptions(),
) -> dict[str, Any]:
    """Make the collection hold these tiles, each INGESTED.

    Returns {id, name, tiles: [{path, status, action}], vanished: [{path, status, action}]}. `known` is what `remember`
    was given last, or nothing. It is given the collection's id as soon as there is one, what is about to be made before
    it is asked for, and each tile after it was asked for: a process that dies in between makes nothing twice.

    A vanished tile is one that `known` lists and `tiles` does not. It is reported, and deleted only if the options say
    so and this project has made it. Tiles that others have put into the collection are never touched.

    Raises ServiceError naming every tile that was not ingested, with its cause; the ones that were stay, and a later
    call asks for the others only.
    """
    with service_errors(f"{service.name}: BYOC collection {wanted.name}"):
        client = _client(service)
        collection = find_or_create(client, service.name, wanted, known.get("id"))
        publication = _Publication(client, str(collection["id"]), known, remember)
        settle(client, collection, wanted, known.get("id"), empty=not publication.present)
        planned = publication.carry_out(tiles, options.delete_vanished)
        poll_s = options.poll_s or (REMOTE_POLL_S if service.local is None else LOCAL_POLL_S)
        states = _wait(client, publication.id, planned.actions, poll_s, options.timeout_s)
    _check(wanted.name, publication.id, states, options.timeout_s)
    shown = [{"path": path, "status": states[path]["status"], "action": did} for path, did in planned.actions.items()]
    return {"id": publication.id, "name": wanted.name, "tiles": shown, "vanished": publication.vanished}


def _client(service: SentinelHub) -> SentinelHubBYOC:
    return service.api(SentinelHubBYOC)


class _Publication:
    """One collection while tiles are published to it: what it holds, what is known of that, what was done."""

    def __init__(
        self, client: SentinelHubBYOC, collection_id: str, known: Mapping[str, Any], remember: Remember
    ) -> None:
        self.id = collection_id
        self.vanished: list[dict[str, str]] = []
        self._client, self._remember = client, remember
        if known.get("id") not in (None, collection_id):
            LOG.warning("BYOC collection %s was published to before and is left as it is", known["id"])
        told = known.get("tiles", ()) if known.get("id") == collection_id else ()
        self._known = {tile["path"]: KnownTile.of(tile) for tile in told}
        self._keep()
        self.present: dict[str, dict[str, Any]] = {tile["path"]: tile for tile in client.iter_tiles(collection_id)}

    def carry_out(self, tiles: Sequence[PublishedTile], delete_vanished: bool) -> Plan:
        """Do what the wanted tiles and the vanished ones need, remembering each step."""
        planned = plan(tiles, self.present, self._known.values())
        self._known = dict(planned.known)
        self._keep()  # what is about to be made is known as this project's own, even if nobody lives to hear of it
        for tile in tiles:
            self._ask(tile, planned.actions[tile.path])
        for path in planned.vanished:
            self._vanish(path, delete_vanished)
        return planned

    def _ask(self, tile: PublishedTile, action: Action) -> None:
        if action == "left alone":
            return
        LOG.info("BYOC tile %s: %s", tile.path, action)
        known, present = self._known[tile.path], self.present.get(tile.path)
        if present is None:
            present = self._create(tile)
        else:
            if action == "updated":
                self._client.update_tile(self.id, {**tile.payload(), "id": present["id"]})
            if action == "re-ingested" or known.digest != tile.digest or present["status"] == "FAILED":
                self._client.reingest_tile(self.id, present)
        self._known[tile.path] = after(tile, known, str(present["id"]))
        self._keep()

    def _create(self, tile: PublishedTile) -> dict[str, Any]:
        try:
            return dict(self._client.create_tile(self.id, tile.payload()))
        except DownloadFailedException as error:
            # The answer to a request that was sent again after its first answer was lost.
            found = list(self._client.iter_tiles(self.id, path=tile.path)) if http_status(error) == CONFLICT else []
            if not found:
                raise
            return dict(found[0])

    def _vanish(self, path: str, delete: bool) -> None:
        present, known = self.present[path], self._known[path]
        action: Action = "deleted" if delete and known.made else "vanished"
        if action == "deleted":
            self._client.delete_tile(self.id, present)
            del self._known[path]
            self._keep()
        LOG.warning("BYOC tile %s has no map any more: %s", path, "deleted" if action == "deleted" else "it stays")
        self.vanished.append({"path": path, "status": str(present["status"]), "action": action})

    def _keep(self) -> None:
        self._remember({"id": self.id, "tiles": [dataclasses.asdict(tile) for tile in self._known.values()]})


def _wait(
    client: SentinelHubBYOC, collection_id: str, wanted: Mapping[str, Action], poll_s: float, timeout_s: float
) -> dict[str, dict[str, Any]]:
    """The wanted tiles by path once all have ended, or time has run out."""
    deadline = time.monotonic() + timeout_s
    if set(wanted.values()) != {"left alone"}:
        time.sleep(poll_s)  # a replica may still tell how a tile stood before it was asked for again
    while True:
        states = {tile["path"]: tile for tile in client.iter_tiles(collection_id) if tile["path"] in wanted}
        gone = {path: {"status": "MISSING"} for path in wanted if path not in states}
        ended = not gone and all(tile["status"] in ENDED for tile in states.values())
        if ended or time.monotonic() > deadline:
            return {**states, **gone}
        time.sleep(min(poll_s, max(0.0, deadline - time.monotonic()) + 0.01))


def _check(name: str, collection_id: str, states: Mapping[str, Mapping[str, Any]], timeout_s: float) -> None:
    failed = {path: tile for path, tile in states.items() if tile["status"] != "INGESTED"}
    if failed:
        told = "; ".join(f"{path}: {tile['status']}: {_cause(tile, timeout_s)}" for path, tile in failed.items())
        raise ServiceError(
            f"BYOC collection {name} ({collection_id}): {len(failed)} of {len(states)} tiles not ingested: {told}"
        )


def _cause(tile: Mapping[str, Any], timeout_s: float) -> str:
    if tile["status"] == "FAILED":
        return str((tile.get("additionalData") or {}).get("failedIngestionCause") or "the service gives no cause")
    return f"not ended after {timeout_s / 60:g} minutes (byoc.timeout_minutes); run again to wait on"
