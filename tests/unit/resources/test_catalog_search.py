"""A Catalog that answers by pages and fails in the middle, on a real socket."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
import shapely

from eo_assets.errors import ServiceError, TransientError
from resources.catalog_search import Acquisition, search_footprints
from resources.deployments import REMOTE_PACE
from resources.sentinel_hub import SentinelHub

AREA = shapely.box(12, 52, 13, 53)
PLACE = {"type": "Polygon", "coordinates": [[[12, 52], [13, 52], [13, 53], [12, 53], [12, 52]]]}
INTERVAL = (dt.date(2020, 6, 1), dt.date(2020, 6, 30))


def feature(time: str, **changes: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": PLACE, "properties": {"datetime": time}, **changes}


def pages(http_service: Any, *answers: tuple[int, Any]) -> None:
    """Answer one page after the other; the last of them for ever."""
    waiting = list(answers)
    http_service.answer = lambda method, path, body: waiting.pop(0) if len(waiting) > 1 else waiting[0]


def page(*features: Any, following: int | None = None) -> tuple[int, Any]:
    return 200, {"features": list(features), "context": {"next": following} if following else {}}


def search(http_service: Any, cloud: float | None = None) -> Any:
    policy = dataclasses.replace(REMOTE_PACE.policy, tries=2, max_wait_s=0.01)
    pace = dataclasses.replace(REMOTE_PACE, policy=policy)
    hub = SentinelHub("test", http_service.url, f"{http_service.url}/token", own_pace=pace)
    return search_footprints(hub, "sentinel-2-l2a", AREA, INTERVAL, cloud)


def test_pages_are_read_to_the_end(http_service: Any) -> None:
    first = feature("2020-06-01T10:00:00Z")
    pages(http_service, page(first, first, following=2), page(feature("2020-06-11T23:59:59.5+00:00")))
    found = list(search(http_service, cloud=0.29))
    assert [each.day.isoformat() for each in found] == ["2020-06-01", "2020-06-01", "2020-06-11"]
    assert found[0] == Acquisition(dt.date(2020, 6, 1), shapely.geometry.shape(PLACE))
    (_, path, body), (_, _, second) = http_service.asked
    assert path == "/api/v1/catalog/1.0.0/search"
    assert (body["collections"], body["bbox"], body["limit"]) == (["sentinel-2-l2a"], [12, 52, 13, 53], 100)
    assert body["datetime"] == "2020-06-01T00:00:00Z/2020-06-30T23:59:59Z"
    assert body["filter"] == "eo:cloud_cover <= 29"
    assert second["next"] == 2


def test_days_are_those_of_utc(http_service: Any) -> None:
    pages(http_service, page(feature("2020-06-01T01:30:00+03:00")))
    assert [each.day.isoformat() for each in search(http_service)] == ["2020-05-31"]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ServiceError), (403, ServiceError), (404, ServiceError), (503, TransientError)]
)
def test_a_fault_in_the_middle_is_ours(http_service: Any, status: int, kind: type[Exception]) -> None:
    pages(http_service, page(feature("2020-06-01T10:00:00Z"), following=2), (status, {"error": {"message": "no more"}}))
    found = search(http_service)
    assert next(found).day == dt.date(2020, 6, 1)
    with pytest.raises(kind, match=r"test: Catalog search in sentinel-2-l2a: .*no more"):
        next(found)


@pytest.mark.parametrize(
    "answer",
    [
        {"features": [feature("2020-06-01T10:00:00Z"), feature("yesterday")], "context": {}},
        {"features": [{"type": "Feature", "geometry": PLACE}], "context": {}},
        {"features": [feature("2020-06-01T10:00:00Z", geometry=None)], "context": {}},
        {"features": [feature("2020-06-01T10:00:00Z", geometry={"type": "Circle", "coordinates": []})], "context": {}},
        {"features": [feature("2020-06-01T10:00:00Z", geometry={"type": "Polygon", "coordinates": [[[1, 2]]]})]},
        {"features": ["no object"], "context": {}},
        {"features": []},
        ["no object"],
    ],
)
def test_an_answer_of_another_kind_is_ours_too(http_service: Any, answer: Any) -> None:
    pages(http_service, (200, answer))
    with pytest.raises(ServiceError, match="test: Catalog search in sentinel-2-l2a: "):
        list(search(http_service))


def test_an_answer_that_is_no_json_may_pass(http_service: Any) -> None:
    pages(http_service, (200, b"<html>"))
    with pytest.raises(TransientError, match="test: Catalog search in sentinel-2-l2a"):
        list(search(http_service))


def test_whoever_stops_early_closes_it(http_service: Any) -> None:
    pages(http_service, page(feature("2020-06-01T10:00:00Z"), following=2), (500, {}))
    found = search(http_service)
    next(found)
    found.close()
    assert len(http_service.asked) == 1
