"""Acquisitions that a service's Catalog lists: day and footprint. A search costs a unit at most."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import shapely
from sentinelhub import CRS, BBox, SentinelHubCatalog

from eo_assets.errors import ServiceError
from resources.sentinel_hub import SentinelHub, service_errors


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One entry of the Catalog: the UTC day and where it was taken, in longitude and latitude."""

    day: dt.date
    footprint: shapely.Geometry


def search_footprints(
    service: SentinelHub,
    collection: str,
    area: shapely.Geometry,
    interval: tuple[dt.date, dt.date],
    max_cloud_cover: float | None,
) -> Iterator[Acquisition]:
    """Everything that a collection has in the box around an area (lon/lat), both days included.

    `max_cloud_cover` is a share, 0 to 1. Raises ServiceError for a collection that the Catalog does not know, and, like
    TransientError, at whatever page the service fails.
    """
    what = f"{service.name}: Catalog search in {collection}"
    with service_errors(what):
        catalog = service.api(SentinelHubCatalog)
        cloud = None if max_cloud_cover is None else f"eo:cloud_cover <= {100 * max_cloud_cover:g}"
        found = catalog.search(
            collection,
            bbox=BBox(area.bounds, CRS.WGS84),
            time=(f"{interval[0]}T00:00:00Z", f"{interval[1]}T23:59:59Z"),
            filter=cloud,
            fields={"include": ["geometry", "properties.datetime"], "exclude": []},
            limit=100,
        )
        try:
            yield from map(_acquisition, found)
        except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
            told = f"{type(error).__name__}: {error}"
            raise ServiceError(f"{what}: the answer is not what a Catalog answers ({told})") from error


def _acquisition(feature: Mapping[str, Any]) -> Acquisition:
    taken = dt.datetime.fromisoformat(feature["properties"]["datetime"]).astimezone(dt.UTC)
    return Acquisition(taken.date(), shapely.geometry.shape(feature["geometry"]))
