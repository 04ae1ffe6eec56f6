"""Acquisitions that a service's Catalog lists: day and footprint. Searching costs nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import shapely
from sentinelhub import CRS, BBox, SentinelHubCatalog

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

    `max_cloud_cover` is a share, 0 to 1. Raises ServiceError for a collection that the Catalog does not know.
    """
    with service_errors(f"{service.name}: Catalog search in {collection}"):
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
        for feature in found:
            taken = dt.datetime.fromisoformat(feature["properties"]["datetime"]).astimezone(dt.UTC)
            yield Acquisition(taken.date(), shapely.geometry.shape(feature["geometry"]))
