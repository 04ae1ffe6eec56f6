"""The kinds of grid that an area can be cut on. What they share is in cells.py, each kind is in a module of its own."""

from __future__ import annotations

from typing import Protocol

from shapely.geometry.base import BaseGeometry

from eo_assets.core.custom_grid import CustomGrid
from eo_assets.core.sentinel_hub_grid import SentinelHubGrid
from eo_assets.core.tile import Tile
from eo_assets.core.utm_grid import UtmGrid

__all__ = ["CustomGrid", "Grid", "SentinelHubGrid", "UtmGrid"]


class Grid(Protocol):
    """A global set of named cells. A tile's name and box never depend on the area that asked for it."""

    @property
    def kind(self) -> str:
        """The kind's name in a project file: sentinel_hub, utm or custom."""
        ...

    def tiles(self, area: BaseGeometry) -> list[Tile]:
        """The tiles that a valid lon/lat polygon (EPSG:4326) claims, sorted by (EPSG, name), at least one.

        Raises AreaError for an area that the grid does not cover.
        """
        ...

    def tile(self, name: str) -> Tile:
        """The tile of that name. Raises GridError if the grid has none."""
        ...
