"""The order for imagery: one batch request for all missing tiles of a run, estimated before it is placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import shapely.geometry

from eo_assets.core.cost import processing_units
from eo_assets.core.tile import Tile
from eo_assets.errors import BudgetExceeded
from eo_assets.project import CollectionReference, LoadedProject, SentinelHubGridSettings
from eo_assets.stages.build import sentinel_hub, tile_store
from eo_assets.stages.reference import collection_input
from resources.batch_jobs import Delivery, ImageryOrder, TilingGrid, deliveries

__all__ = ["Delivery", "Quote", "order_imagery", "quote", "require_budget"]


@dataclass(frozen=True, slots=True)
class Quote:
    """What the service would charge: processing units of imagery by batch and of reference by Process requests."""

    imagery: float
    reference: float

    @property
    def total(self) -> float:
        """Processing units altogether."""
        return self.imagery + self.reference


def quote(loaded: LoadedProject, imagery: Sequence[Tile], reference: Sequence[Tile]) -> Quote:
    """Processing units for tiles whose imagery or reference has to be bought, offline, at the expected dates."""
    project = loaded.project
    bought = isinstance(project.reference.source, CollectionReference)
    asked = project.imagery
    return Quote(
        processing_units([t.shape for t in imagery], len(asked.tiff_outputs), asked.expected_dates) if imagery else 0.0,
        processing_units([t.shape for t in reference], 1, 1, mode="process") if reference and bought else 0.0,
    )


def require_budget(loaded: LoadedProject, estimate: Quote) -> None:
    """Refuse an order that the project's budget does not cover, before anything is asked for."""
    limit = loaded.project.budget.max_processing_units
    if limit is not None and estimate.total > limit:
        raise BudgetExceeded(
            f"{loaded.file}: budget.max_processing_units: {limit:g}: this run would cost about {estimate.total:,.0f} "
            "processing units; raise the limit, or ask for fewer tiles (-t)"
        )


def order_imagery(loaded: LoadedProject, tiles: Sequence[Tile], area: shapely.Geometry | None):
    """Place one order and yield each tile as it arrives, None while waiting.

    `area` is given when these are all tiles of the area on a tiling grid of the service, which then makes them itself.
    """
    project, store = loaded.project, tile_store(loaded)
    asked, grid = project.imagery, project.area.grid
    by_grid = area is not None and isinstance(grid, SentinelHubGridSettings)
    order = ImageryOrder(
        data=[collection_input(collection, asked.time_interval) for collection in asked.collections],
        evalscript=loaded.evalscripts[asked.evalscript],
        outputs=asked.tiff_outputs,
        tiles=tuple(tiles),
        folder=store.folders["tiffs"],
        description=f"eo-assets {project.name} {project.year}",
        tiling_grid=TilingGrid(grid.id, area) if by_grid else None,
    )
    store.claim("tiffs")
    yield from deliveries(sentinel_hub(loaded, asked.collections[0].service), store.store, order)
