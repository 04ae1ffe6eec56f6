"""Which scenes a request gets, and in which order: filters, mosaicking order, groups by day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from eo_assets.core.tile import Bounds
from resources.local_sentinel_hub.collections import Collection, Scene, touches

BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
ORDERS = ("mostRecent", "leastRecent", "leastCC")


@dataclass(frozen=True, slots=True)
class SceneFilter:
    """A request's dataFilter. Times are inclusive, `max_cloud_cover` in percent; unknown cloud cover passes."""

    time_from: dt.datetime = BEGINNING
    time_to: dt.datetime = END
    max_cloud_cover: float = 100.0
    order: str = "mostRecent"


@dataclass(frozen=True)
class Slot:
    """One sample of the script: scenes from which a pixel takes the first that has data, in mosaicking order."""

    scenes: tuple[Scene, ...]


def select(collection: Collection, area: Bounds, wanted: SceneFilter) -> tuple[Scene, ...]:
    """The collection's scenes that pass the filter and touch the lon/lat box, in mosaicking order."""
    scenes = [scene for scene in collection.scenes if _passes(scene, wanted) and touches(scene, area)]
    return tuple(_ordered(scenes, wanted.order))


def simple(scenes: tuple[Scene, ...]) -> tuple[Slot, ...]:
    """SIMPLE: one sample, mosaicked from all scenes."""
    return (Slot(scenes),)


def orbits(scenes: tuple[Scene, ...], order: str) -> tuple[Slot, ...]:
    """ORBIT: one sample a UTC day; newest day first, oldest first for leastRecent. Within a day in mosaicking order."""
    by_day = sorted(scenes, key=_day, reverse=order != "leastRecent")  # stable: the order within a day stays
    return tuple(Slot(tuple(group)) for _, group in groupby(by_day, key=_day))


def describe(slot: Slot) -> dict[str, Any]:
    """A slot as scripts see it in scenes.orbits[i]: dateFrom, dateTo, tiles."""
    day = _day(slot.scenes[0])
    tiles = [
        {
            "date": iso(_time(scene)),
            "cloudCoverage": scene.cloud_cover,
            "tileId": scene.id,
            "dataPath": scene.product or str(next(iter(scene.files.values())).path).rpartition("/")[0],
        }
        for scene in slot.scenes
    ]
    return {"dateFrom": f"{day}T00:00:00Z", "dateTo": f"{day}T23:59:59Z", "tiles": tiles}


def iso(time: dt.datetime) -> str:
    """A time as the service writes it, 2017-02-16T10:21:01Z."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _passes(scene: Scene, wanted: SceneFilter) -> bool:
    if scene.time is not None and not wanted.time_from <= scene.time <= wanted.time_to:
        return False
    return scene.cloud_cover is None or scene.cloud_cover <= wanted.max_cloud_cover


def _ordered(scenes: Iterable[Scene], order: str) -> list[Scene]:
    newest_first = sorted(scenes, key=_time, reverse=True)
    if order == "leastRecent":
        return newest_first[::-1]
    if order == "leastCC":
        return sorted(newest_first, key=lambda scene: 100.0 if scene.cloud_cover is None else scene.cloud_cover)
    return newest_first


def _time(scene: Scene) -> dt.datetime:
    return scene.time or BEGINNING


def _day(scene: Scene) -> str:
    return _time(scene).strftime("%Y-%m-%d")
