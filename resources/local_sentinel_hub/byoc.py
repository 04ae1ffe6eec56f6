"""Bring your own COG: collections and tiles in the store, ingestion that looks at the files, the way back to pixels."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eo_assets.errors import EoAssetsError
from resources.local_sentinel_hub.api import ApiError, bad_payload, not_found
from resources.local_sentinel_hub.batch_request import to_lonlat
from resources.local_sentinel_hub.buckets import Buckets
from resources.local_sentinel_hub.byoc_bands import check_change, checked_bands
from resources.local_sentinel_hub.byoc_ingest import Ingested, crs_of, look_at, normalised, place_of, settle_bands
from resources.local_sentinel_hub.clock import now
from resources.local_sentinel_hub.collections import Band, BandFile, Collection, Scene
from resources.local_sentinel_hub.process_request import aware, parse_geometry
from resources.local_sentinel_hub.store import Document, DocumentStore

COLLECTION, TILE = "byoc-collection", "byoc-tile"
UNSETTLED = ("WAITING", "QUEUED", "INGESTING")
USER = "00000000-0000-0000-0000-000000000000"
LOG = logging.getLogger(__name__)


class Byoc:
    """All BYOC collections of one service."""

    def __init__(self, store: DocumentStore, buckets: Buckets) -> None:
        self._store, self._buckets = store, buckets
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="byoc-ingest")

    def resume(self) -> None:
        """Ingest the tiles that the end of the last process left waiting."""
        for tile in self._store.all(TILE):
            if tile["status"] in UNSETTLED:
                self._queue(tile["id"])

    def close(self) -> None:
        """Wait for the tile in hand; the rest stays queued for the next process."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether a tile waits to be ingested."""
        return any(tile["status"] in UNSETTLED for tile in self._store.all(TILE))

    def create_collection(self, body: Any) -> Document:
        """A new collection. Raises ApiError 400."""
        fields = _fields(body, "name", "s3Bucket")
        self._buckets.key(fields["s3Bucket"], "", "s3Bucket")
        bands = checked_bands(fields)
        document = {
            "id": str(uuid.uuid4()),
            "userId": USER,
            "name": fields["name"],
            "s3Bucket": fields["s3Bucket"],
            "created": now(),
            "additionalData": {"bands": bands},
            **({"noData": fields["noData"]} if "noData" in fields else {}),
        }
        self._store.put(COLLECTION, document)
        return document

    def collections(self, search: str | None = None) -> list[Document]:
        """All collections, oldest first; `search` is part of a name or an id."""
        wanted = (search or "").lower()
        found = self._store.all(COLLECTION)
        return [c for c in found if wanted in ("", "none") or wanted in c["name"].lower() or wanted in c["id"]]

    def collection(self, identity: str) -> Document:
        """One collection. Raises ApiError 404."""
        document = self._store.get(COLLECTION, identity)
        if document is None:
            raise not_found(f"BYOC collection {identity} does not exist")
        return document

    def update_collection(self, identity: str, body: Any) -> None:
        """Change name, noData or the bands of a collection. Raises ApiError 400 for what tiles forbid to change.

        A noData that is not given is deleted; bands that are given take the place of those that were there.
        """
        fields = _fields(body, "name", "s3Bucket")
        held = self.collection(identity)
        used = bool(self._store.all(TILE, identity))
        if used and fields["s3Bucket"] != held["s3Bucket"]:
            raise bad_payload("the bucket of a collection with tiles can't be changed", "s3Bucket", fields["s3Bucket"])
        self._buckets.key(fields["s3Bucket"], "", "s3Bucket")
        bands = checked_bands(fields) if "additionalData" in fields else held["additionalData"]["bands"]
        if used:
            check_change(held["additionalData"]["bands"], bands)

        def change(document: Document) -> None:
            document.pop("noData", None)
            document.update({key: fields[key] for key in ("name", "s3Bucket", "noData") if key in fields})
            document["additionalData"]["bands"] = bands

        self._store.update(COLLECTION, identity, change)

    def delete_collection(self, identity: str) -> None:
        """Remove a collection and its tiles; the files stay."""
        self.collection(identity)
        self._store.delete_children(TILE, identity)
        self._store.delete(COLLECTION, identity)

    def create_tile(self, collection_id: str, body: Any) -> Document:
        """Add a tile and queue it. Raises ApiError 400, or 409 if the collection has a tile with this path."""
        collection = self.collection(collection_id)
        fields = _fields(body, "path")
        path = normalised(fields["path"])
        self._buckets.key(collection["s3Bucket"], path)
        if any(tile["path"] == path for tile in self._store.all(TILE, collection_id)):
            message = f"the collection already has a tile with path {path!r}; reingest or delete that one"
            raise ApiError(409, "COMMON_CONFLICT", message, parameter="path", value=path)
        tile = {
            "id": str(uuid.uuid4()),
            "path": path,
            "status": "WAITING",
            "created": now(),
            "_collection": collection_id,
            **_tile_fields(fields),
        }
        self._store.put(TILE, tile, collection_id)
        self._queue(tile["id"])
        return public(tile)

    def tiles(self, collection_id: str, path: str | None = None) -> list[Document]:
        """The tiles of a collection, oldest first; `path` picks the one at exactly that path."""
        self.collection(collection_id)
        wanted = None if path in (None, "", "None") else normalised(str(path))
        return [public(t) for t in self._store.all(TILE, collection_id) if wanted in (None, t["path"])]

    def tile(self, collection_id: str, identity: str) -> Document:
        """One tile. Raises ApiError 404."""
        tile = self._store.get(TILE, identity)
        if tile is None or tile["_collection"] != collection_id:
            raise not_found(f"BYOC tile {identity} does not exist in collection {collection_id}")
        return tile

    def update_tile(self, collection_id: str, identity: str, body: Any) -> None:
        """Change coverGeometry and sensingTime, and ingest again. Without a cover it is covered by its files."""
        tile = self.tile(collection_id, identity)
        fields = _fields(body)
        if "path" in fields and normalised(fields["path"]) != tile["path"]:
            raise bad_payload(
                "the path of a tile can't be changed; delete it and make a new one", "path", fields["path"]
            )
        changes = _tile_fields(fields)
        covered = "coverGeometry" in changes
        self._store.update(TILE, identity, lambda document: document.update({**changes, "_covered": covered}))
        self.reingest(collection_id, identity)

    def reingest(self, collection_id: str, identity: str) -> None:
        """Look at a tile's files again."""
        self.tile(collection_id, identity)
        self._set(identity, status="WAITING")
        self._queue(identity)

    def delete_tile(self, collection_id: str, identity: str) -> None:
        """Remove a tile; its files stay."""
        self.tile(collection_id, identity)
        self._store.delete(TILE, identity)

    def served(self) -> dict[str, Collection]:
        """The ingested collections, as requests see them: type `byoc-<id>`."""
        return {f"byoc-{c['id']}": self._served(c) for c in self._store.all(COLLECTION)}

    def _served(self, document: Document) -> Collection:
        bands = {
            name: _band(band, document.get("noData")) for name, band in document["additionalData"]["bands"].items()
        }
        tiles = [tile for tile in self._store.all(TILE, document["id"]) if tile["status"] == "INGESTED"]
        scenes = tuple(self._scene(document, tile) for tile in tiles)
        return Collection(f"byoc-{document['id']}", document["name"], bands, scenes)

    def _scene(self, collection: Document, tile: Document) -> Scene:
        files = {}
        for name, band in collection["additionalData"]["bands"].items():
            source, index = place_of(name, band)
            if source in tile["_files"]:
                files[name] = BandFile(
                    self._buckets.key(collection["s3Bucket"], tile["_files"][source][0]).tiff,
                    index,
                    tile.get("ingestionStart", ""),
                )
        time = tile.get("sensingTime")
        cover = tile.get("coverGeometry") if tile["_covered"] else None
        area = None if cover is None else to_lonlat(parse_geometry(cover), crs_of(cover))
        return Scene(tile["id"], None if time is None else aware(dt.datetime.fromisoformat(time)), None, files, area)

    def _queue(self, identity: str) -> None:
        self._set(identity, status="QUEUED")
        self._pool.submit(self._ingest, identity)

    def _ingest(self, identity: str) -> None:
        tile = self._store.get(TILE, identity)
        collection = tile and self._store.get(COLLECTION, tile["_collection"])
        if tile is None or collection is None:
            return  # deleted while it waited
        self._set(identity, status="INGESTING", ingestionStart=now())
        try:
            cover = tile.get("coverGeometry") if tile.get("_covered", True) else None
            found = look_at(self._buckets, collection["s3Bucket"], tile["path"], cover)
            self._store.update(COLLECTION, collection["id"], lambda document: settle_bands(document, found.bands))
            self._set(identity, **_result(found, tile), status="INGESTED", additionalData={})
        except Exception as error:
            LOG.info("BYOC tile %s failed", identity, exc_info=not isinstance(error, EoAssetsError))
            cause = str(error) if isinstance(error, EoAssetsError) else f"{type(error).__name__}: {error}"
            self._set(identity, status="FAILED", additionalData={"failedIngestionCause": cause})

    def _set(self, identity: str, **changes: Any) -> None:
        self._store.update(TILE, identity, lambda document: document.update(changes))


def public(document: Mapping[str, Any]) -> Document:
    """A document without what is only the service's."""
    return {key: value for key, value in document.items() if not key.startswith("_")}


def _fields(body: Any, *needed: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad_payload("the payload must be a JSON object")
    fields = {key: value for key, value in body.items() if value is not None}
    for key in needed:
        if not isinstance(fields.get(key), str) or not fields[key]:
            raise bad_payload(f"{key} is needed, as a text", key, fields.get(key))
    return fields


def _tile_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a tile that a client sets, checked."""
    found: dict[str, Any] = {}
    if "sensingTime" in fields:
        try:
            aware(dt.datetime.fromisoformat(fields["sensingTime"]))
        except (TypeError, ValueError):
            message = f"sensingTime {fields['sensingTime']!r} is no ISO time such as 2020-12-31T00:00:00Z"
            raise bad_payload(message, "sensingTime", fields["sensingTime"]) from None
        found["sensingTime"] = fields["sensingTime"]
    if "coverGeometry" in fields:
        parse_geometry(fields["coverGeometry"])
        crs_of(fields["coverGeometry"])
        found["coverGeometry"] = fields["coverGeometry"]
    return found


def _result(found: Ingested, tile: Mapping[str, Any]) -> dict[str, Any]:
    """What ingestion adds to a tile. Without a cover of its own it is covered by its files."""
    files = {band.source: (band.key,) for band in found.bands.values()}  # a list, as it always was in the state
    covered = tile.get("_covered", "coverGeometry" in tile)
    cover = {} if covered else {"coverGeometry": found.geometry}
    return {"tileGeometry": found.geometry, "_files": files, "_covered": covered, **cover}


def _band(band: Mapping[str, Any], nodata: float | None) -> Band:
    own = band.get("noData")
    return Band(
        f"{band.get('sampleFormat', 'UINT')}{band.get('bitDepth', 8)}", None, "DN", nodata if own is None else own
    )
