"""Pages of a list, as Batch and BYOC answer them: data, and links.nextToken if there is more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resources.local_sentinel_hub.api import bad_payload

DEFAULT_COUNT = 100


def page(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """The part of `items` that `count` and `viewtoken` of the query ask for."""
    start, count = whole(query, "viewtoken", 0), whole(query, "count", DEFAULT_COUNT)
    if count == 0:
        raise bad_payload("count must be at least 1", "count", 0)
    links = {"currentToken": str(start)}
    if start + count < len(items):
        links["nextToken"] = str(start + count)
    return {"data": items[start : start + count], "links": links}


def whole(values: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number of at least 0 from a query or a payload."""
    value = values.get(name)
    if value in (None, "", "None"):
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise bad_payload(f"{name} must be a whole number of at least 0, not {value!r}", name, value)
    return number
