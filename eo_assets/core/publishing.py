"""What a BYOC collection should hold, and what has to be done for it: plain values, no request is made here.

Sentinel Hub finds a band of a tile by `source`, the part of the file's name that stands for `(BAND)` in the tile's
path, and `bandIndex`, its number in the file from 1. Once a collection has tiles its bands can be renamed and their
noData set; nothing else of them changes. noData is said for a band or for the collection, never for both.
Source: the schema BYOCCollectionUpdatePayload of the BYOC API.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from eo_assets.core.recipe import fingerprint
from eo_assets.errors import ServiceError

PLACEHOLDER = "(BAND)"
ENDED = ("INGESTED", "FAILED")
Action = Literal["created", "updated", "re-ingested", "left alone", "vanished", "deleted"]
FORMATS = {"u": "UINT", "i": "INT", "f": "FLOAT"}


@dataclass(frozen=True, slots=True)
class BandSettings:
    """The one band of the maps. `source` is what stands for (BAND) in a path; `dtype` and `nodata` are the files'.

    `name` is how evalscripts call it; None: as the collection has it, and `default` in a new one. NaN as nodata is not
    said to the service, for JSON has no NaN: it is in the files.
    """

    source: str
    dtype: str
    nodata: float
    default: str
    name: str | None = None

    def format(self) -> dict[str, Any]:
        """The band as the API has it."""
        kind = np.dtype(self.dtype)
        bits, numbers = kind.itemsize * 8, FORMATS[kind.kind]
        told = {"source": self.source, "bandIndex": 1, "bitDepth": bits, "sampleFormat": numbers}
        return {**told, "noData": plain_number(self.nodata)} if math.isfinite(self.nodata) else told


@dataclass(frozen=True, slots=True)
class PublishedTile:
    """A map as a tile of the collection: its path in the bucket with `(BAND)`, when it was sensed, what of it is shown.

    `cover` is GeoJSON with a CRS. `digest` tells whether the file has changed since it was ingested.
    """

    path: str
    sensing_time: dt.datetime
    cover: Mapping[str, Any]
    digest: str

    @property
    def cover_digest(self) -> str:
        """The service hands a cover back in another form than it got it, so covers are compared by this."""
        return fingerprint(dict(self.cover))

    def payload(self) -> dict[str, Any]:
        """The tile as the API takes it."""
        time = self.sensing_time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"path": self.path, "coverGeometry": dict(self.cover), "sensingTime": time}


@dataclass(frozen=True, slots=True)
class KnownTile:
    """What a project remembers of a tile: which content and cover it has asked the service to ingest.

    `made` is False for a tile that was there before the project published to its path: it is never deleted.
    """

    path: str
    id: str | None = None
    digest: str | None = None
    cover: str | None = None
    made: bool = False

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> KnownTile:
        """From a record, also from one that an older version has written."""
        return cls(told["path"], told.get("id"), told.get("digest"), told.get("cover"), bool(told.get("made", False)))

    def is_still(self, present: Mapping[str, Any]) -> bool:
        """Is the tile in the service this one, and not another that somebody has put at its path since?"""
        return self.id in (None, present["id"])


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about each wanted tile, in their order, and which tiles of the project's own are no longer wanted."""

    actions: Mapping[str, Action]
    vanished: tuple[str, ...]
    known: Mapping[str, KnownTile]
    """What is known of the tiles that are still there, and of those that are about to be made."""


def plan(
    tiles: Sequence[PublishedTile], present: Mapping[str, Mapping[str, Any]], known: Collection[KnownTile]
) -> Plan:
    """Compare what is wanted with what the service has (tiles by path) and with what the project remembers of it.

    A tile is left alone if the service has it at the wanted time, it has not failed, and the project has asked for this
    very content and cover. What the project does not remember is updated: nobody can tell what was ingested.
    """
    still = {tile.path: tile for tile in known if tile.path in present and tile.is_still(present[tile.path])}
    actions = {tile.path: _action(tile, present.get(tile.path), still.get(tile.path)) for tile in tiles}
    own = {path: still.get(path) or KnownTile(path, made=path not in present) for path in actions}
    vanished = {path: tile for path, tile in still.items() if path not in actions}
    return Plan(actions, tuple(sorted(vanished)), {**own, **vanished})


def settle_bands(
    current: Mapping[str, Mapping[str, Any]], band: BandSettings, *, nodata: float | None, empty: bool
) -> dict[str, dict[str, Any]]:
    """The bands that a collection should have, given those it has, its own noData and whether it has no tiles.

    Raises ServiceError if the maps do not fit what a collection with tiles can't change any more.
    """
    wanted, bands = band.format(), whole_bands(current, nodata)
    same = [name for name, told in bands.items() if all(told[key] == wanted[key] for key in ("source", "bandIndex"))]
    if empty or not bands:
        return {band.name or next(iter(same), band.default): wanted}
    if not same:
        held = ", ".join(f"{name} of files called {told['source']}" for name, told in bands.items())
        raise ServiceError(
            f"its bands are {held}, this project's maps are called {band.source}; name the maps so (maps.name), or use "
            "another byoc.collection_name: bands can't be added to a collection that has tiles"
        )
    held_as, name = same[0], band.name or same[0]
    for key, what in (("bitDepth", "bits"), ("sampleFormat", "numbers")):
        if bands[held_as][key] != wanted[key]:
            raise ServiceError(
                f"band {held_as} has {bands[held_as][key]} {what}, maps.dtype {band.dtype} has {wanted[key]}, and a "
                "collection that has tiles can't be changed so; set maps.dtype, or use another byoc.collection_name"
            )
    if name != held_as and name in bands:
        raise ServiceError(f"it has another band {name} already; choose another byoc.band_name")
    return {name if key == held_as else key: wanted if key == held_as else told for key, told in bands.items()}


def whole_bands(current: Mapping[str, Mapping[str, Any]], nodata: float | None = None) -> dict[str, dict[str, Any]]:
    """Bands with what they leave out: a band's source is its name, its number 1, its noData the collection's."""
    return {name: _whole(name, told, nodata) for name, told in current.items()}


def after(tile: PublishedTile, known: KnownTile, identity: str) -> KnownTile:
    """What is known once the service was asked to ingest a tile as it is wanted."""
    return replace(known, id=identity, digest=tile.digest, cover=tile.cover_digest)


def plain_number(value: float) -> int | float:
    """255 for 255.0: the way it is written in a project file."""
    return int(value) if float(value).is_integer() else value


def _action(tile: PublishedTile, present: Mapping[str, Any] | None, known: KnownTile | None) -> Action:
    if present is None:
        return "created"
    if known is None or known.cover != tile.cover_digest or _time(present) != tile.sensing_time.replace(microsecond=0):
        return "updated"
    if known.digest != tile.digest or present["status"] == "FAILED":
        return "re-ingested"
    return "left alone"


def _time(present: Mapping[str, Any]) -> dt.datetime | None:
    told = present.get("sensingTime")
    if not told:
        return None
    time = dt.datetime.fromisoformat(told)
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _whole(name: str, told: Mapping[str, Any], nodata: float | None) -> dict[str, Any]:
    own = told.get("noData") if told.get("noData") is not None else nodata
    found = {
        "source": told.get("source") or name,
        "bandIndex": told.get("bandIndex") or 1,
        "bitDepth": told.get("bitDepth"),
        "sampleFormat": told.get("sampleFormat"),
    }
    return found if own is None else {**found, "noData": plain_number(own)}
