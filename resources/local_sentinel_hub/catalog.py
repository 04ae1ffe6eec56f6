"""Catalog search (STAC) over the collections that the service has."""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import shapely
from shapely.geometry import mapping

from resources.local_sentinel_hub.api import bad_payload, not_found
from resources.local_sentinel_hub.collections import Collection, Scene
from resources.local_sentinel_hub.paging import whole
from resources.local_sentinel_hub.process_request import aware, parse_geometry
from resources.local_sentinel_hub.scenes import BEGINNING, END, iso

STAC_VERSION = "1.0.0"
DEFAULT_LIMIT, LARGEST_LIMIT = 10, 100
CLOUD_COVER = "eo:cloud_cover"
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
TERM = re.compile(r"^\s*eo:cloud_cover\s*(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?)\s*$")
Term = tuple[str, float]


def search(collections: Mapping[str, Collection], body: Any) -> dict[str, Any]:
    """Scenes of the asked collections, newest first, a page at a time.

    Raises:
        ApiError: 400 for an unknown collection or a filter that is not supported.
    """
    if not isinstance(body, dict) or not isinstance(body.get("collections"), list) or len(body["collections"]) != 1:
        raise bad_payload("collections must list one collection", "collections")
    name = body["collections"][0]
    collection = collections.get(name)
    if collection is None:
        known = ", ".join(sorted(collections)) or "none"
        raise not_found(f"Collection {name!r} does not exist; there are: {known}")
    found = [scene for scene in collection.scenes if _matches(scene, body)]
    found.sort(key=lambda scene: (scene.time or BEGINNING, scene.id), reverse=True)
    if body.get("distinct") == "date":
        days = sorted({(scene.time or BEGINNING).date().isoformat() for scene in found}, reverse=True)
        return _page(days, body)
    return _page([feature(collection, scene) for scene in found], body)


def describe(collection: Collection) -> dict[str, Any]:
    """A collection as the catalog lists it."""
    times = sorted(scene.time for scene in collection.scenes if scene.time is not None)
    everywhere = [-180.0, -90.0, 180.0, 90.0]
    bounds = shapely.total_bounds([scene.footprint for scene in collection.scenes]).tolist() if times else everywhere
    interval = [iso(times[0]), iso(times[-1])] if times else [None, None]
    return {
        "id": collection.type,
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "title": collection.title,
        "description": collection.title,
        "license": "various",
        "links": [],
        "extent": {
            "spatial": {"bbox": [bounds]},
            "temporal": {"interval": [interval]},
        },
        "summaries": {"eo:bands": [{"name": name} for name in collection.bands]},
    }


def feature(collection: Collection, scene: Scene) -> dict[str, Any]:
    """A scene as a STAC item."""
    area = scene.footprint
    cloud = {} if scene.cloud_cover is None else {CLOUD_COVER: scene.cloud_cover}
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "id": scene.id,
        "collection": collection.type,
        "bbox": list(area.bounds),
        "geometry": mapping(area),
        "properties": {"datetime": iso(scene.time or BEGINNING), **cloud},
        "assets": {},
        "links": [],
    }


def _matches(scene: Scene, body: Mapping[str, Any]) -> bool:
    start, end = _interval(body.get("datetime"))
    if body.get("ids") and scene.id not in body["ids"]:
        return False
    if not start <= (scene.time or BEGINNING) <= end:
        return False
    if not all(_passes(scene, term) for term in _terms(body.get("filter"))):
        return False
    area = _area(body)
    return area is None or bool(area.intersects(scene.footprint))


def _interval(text: str | None) -> tuple[dt.datetime, dt.datetime]:
    """`datetime` of a search: one time, or `from/to` in which either end may be open (`..`)."""
    if not text:
        return BEGINNING, END
    first, _, last = text.partition("/")
    try:
        start = BEGINNING if first in ("", "..") else aware(dt.datetime.fromisoformat(first))
        if "/" not in text:
            return start, start
        return start, END if last in ("", "..") else aware(dt.datetime.fromisoformat(last))
    except ValueError:
        raise bad_payload(f"datetime {text!r} is no ISO time or interval from/to", "datetime", text) from None


def _area(body: Mapping[str, Any]) -> shapely.Geometry | None:
    box, geometry = body.get("bbox"), body.get("intersects")
    if box is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise bad_payload("bbox must be [west, south, east, north]", "bbox", box)
        return shapely.box(*box)
    return None if geometry is None else parse_geometry(geometry)


def _terms(given: Any) -> list[Term]:
    """Conditions on the cloud cover, the only ones supported, from CQL2 text or JSON."""
    if given is None:
        return []
    if isinstance(given, str):
        matches = [TERM.match(part) for part in re.split(r"\s+AND\s+", given, flags=re.IGNORECASE)]
        if all(matches):
            return [(match[1], float(match[2])) for match in matches if match]
    elif isinstance(given, dict) and str(given.get("op")).lower() == "and":
        return [term for part in given.get("args", []) for term in _terms(part)]
    elif isinstance(given, dict) and given.get("op") in COMPARISONS and given["args"][0] == {"property": CLOUD_COVER}:
        return [(given["op"], float(given["args"][1]))]
    raise bad_payload(
        f"filter {given!r} is not supported here: only conditions on {CLOUD_COVER}, joined by AND", "filter", given
    )


def _passes(scene: Scene, term: Term) -> bool:
    return scene.cloud_cover is None or COMPARISONS[term[0]](scene.cloud_cover, term[1])


def _page(items: list[Any], body: Mapping[str, Any]) -> dict[str, Any]:
    limit, start = whole(body, "limit", DEFAULT_LIMIT), whole(body, "next", 0)
    if not 1 <= limit <= LARGEST_LIMIT:
        raise bad_payload(f"limit must be from 1 to {LARGEST_LIMIT}", "limit", limit)
    part = items[start : start + limit]
    context: dict[str, Any] = {"limit": limit, "returned": len(part)}
    if start + limit < len(items):
        context["next"] = start + limit
    return {"type": "FeatureCollection", "features": part, "links": [], "context": context}
