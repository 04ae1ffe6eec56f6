"""What the service's Catalog holds for a project's tiles: acquisitions a tile, and what reading all would cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from eo_assets.assets.quotes import paid_requests
from eo_assets.core.cost import SMALLEST_REQUEST, RequestKind
from eo_assets.core.observations import days_a_tile, lonlat_box
from eo_assets.core.tile import Tile
from eo_assets.project import Collection, LoadedProject
from eo_assets.stages.build import sentinel_hub
from resources.catalog_search import search_footprints


@dataclass(frozen=True, slots=True)
class Observations:
    """(tile,) days with an acquisition in the project's interval, and processing units if all of them were read."""

    days: NDArray[np.int64]
    units: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        low, middle, high = self._range()
        return {"least": low, "median": middle, "most": high, "processing_units_if_all_are_read": round(self.units, 2)}

    def lines(self) -> Iterator[str]:
        """For people."""
        low, middle, high = self._range()
        yield f"the Catalog has {low} to {high} dates a tile, {middle:g} in the middle;"
        yield f"an evalscript that reads all of them would cost about {self.units:,.0f} by batch"

    def _range(self) -> tuple[int, float, int]:
        return int(self.days.min()), float(np.median(self.days)), int(self.days.max())


def observations(loaded: LoadedProject, tiles: Sequence[Tile]) -> Observations:
    """Ask the Catalog of the imagery's service. Free, but it needs the service and credentials."""
    asked = loaded.project.imagery
    area = shapely.union_all([lonlat_box(tile) for tile in tiles])
    counts = np.zeros(len(tiles), dtype=np.int64)
    for collection in asked.collections:
        counts += _days(loaded, collection, tiles, area)
    kind = paid_requests(loaded)["tiffs"][1]
    sizes = [
        RequestKind(kind.bands, int(count), kind.float32, kind.mode).tile_units(tile.shape)
        for tile, count in zip(tiles, counts)
    ]
    return Observations(counts, max(sum(sizes), SMALLEST_REQUEST[kind.mode]))


def _days(
    loaded: LoadedProject, collection: Collection, tiles: Sequence[Tile], area: shapely.Geometry
) -> NDArray[np.int64]:
    service = sentinel_hub(loaded, collection.service)
    first, last = loaded.project.imagery.time_interval
    days: list[dt.date] = []
    footprints: list[shapely.Geometry] = []
    for found in search_footprints(service, collection.collection, area, (first, last), collection.max_cloud_cover):
        days.append(found.day)
        footprints.append(found.footprint)
    return days_a_tile(tiles, days, footprints)
