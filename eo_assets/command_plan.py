"""`eo-assets plan`: tiles by zone, bytes and processing units of a project, offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from eo_assets.assets.area import project_area, project_grid
from eo_assets.assets.imagery import Quote, quote
from eo_assets.core.cost import raw_bytes
from eo_assets.core.tile import Tile
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.features import feature_plan


@dataclass(frozen=True, slots=True)
class Plan:
    """What a project would make: its tiles in order, bytes before compression by stage, and what it would cost."""

    loaded: LoadedProject
    area_km2: float
    tiles: tuple[Tile, ...]
    bytes: Mapping[str, int]
    quote: Quote

    def as_json(self, *, names: bool) -> dict[str, Any]:
        """Plain values; with `names` the tiles in order."""
        said: dict[str, Any] = {
            "project": self.loaded.project.name,
            "area_km2": round(self.area_km2, 1),
            "tiles": len(self.tiles),
            "tiles_by_zone": self.tiles_by_zone,
            "processing_units": round(self.quote.total, 2),
            "processing_units_by_stage": {
                "tiffs": round(self.quote.imagery, 2),
                "reference": round(self.quote.reference, 2),
            },
            "assumed_dates": self.loaded.project.imagery.expected_dates,
            "bytes": dict(self.bytes),
        }
        return {**said, "names": [tile.name for tile in self.tiles]} if names else said

    @property
    def tiles_by_zone(self) -> dict[str, int]:
        """Tiles by EPSG code."""
        return {str(epsg): count for epsg, count in sorted(Counter(tile.epsg for tile in self.tiles).items())}


def make_plan(project: str, aoi: Path | None) -> Plan:
    """Load, tile and count; spends nothing, writes nothing."""
    loaded = open_project(project)
    area = project_area(loaded, aoi)
    tiles = project_grid(loaded).tiles(area.geometry)
    return Plan(loaded, area.area_km2, tuple(tiles), _bytes(loaded, tiles), quote(loaded, tiles, tiles))


def print_plan(plan: Plan, console: Console, *, names: bool) -> None:
    """For people."""
    project = plan.loaded.project
    console.print(f"{project.name} {project.year}: {plan.area_km2:,.0f} km2 in {len(plan.tiles)} tiles")
    for zone, count in plan.tiles_by_zone.items():
        console.print(f"  EPSG:{zone}  {count:6d} tiles")
    dates = project.imagery.expected_dates
    console.print(
        f"processing units, at {dates} date{'s' if dates > 1 else ''} a tile: {plan.quote.total:,.0f} "
        f"(imagery by batch {plan.quote.imagery:,.0f}, reference by Process requests {plan.quote.reference:,.0f})"
    )
    console.print("bytes before compression:")
    for stage, size in plan.bytes.items():
        console.print(f"  {stage:12s} {size / 1e9:10,.2f} GB")
    if names:
        for index, tile in enumerate(plan.tiles):
            console.print(f"{index:6d}  {tile.epsg}  {tile.name}")


def _bytes(loaded: LoadedProject, tiles: list[Tile]) -> dict[str, int]:
    """Upper bounds: real imagery compresses to a third or half."""
    project, shapes = loaded.project, [tile.shape for tile in tiles]
    dates, bands = project.imagery.expected_dates, len(project.imagery.tiff_outputs)
    columns = feature_plan(project.features, project.eopatches.data[project.features.bands].source).names
    return {
        "tiffs": raw_bytes(shapes, bands * dates, "uint16"),
        "eopatches": raw_bytes(shapes, bands * dates, "uint16"),
        "features": raw_bytes(shapes, len(columns) * dates, "float32"),
        "reference": raw_bytes(shapes, 1, project.reference.dtype),
        "predictions": raw_bytes(shapes, 1, project.predictions.dtype),
        "maps": raw_bytes(shapes, 1, project.maps.dtype),
    }
