"""What became of the tiles that an output wants: how many are there, which are not and why, and where the holes lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np
import shapely
from pyproj import Transformer

from eo_assets.core.tile import Tile

TileState = Literal["present", "empty", "failed", "stale", "blocked", "missing"]
STATES: tuple[TileState, ...] = ("present", "empty", "failed", "stale", "blocked", "missing")
"""`present` and `empty` (a result without data) are there; `failed` was tried and could not be made, the tile itself or
what it is made from; `stale` was made from something that has changed since; `blocked` waits for another stage;
`missing` was never made."""

SHOWN = 20
"""How many names metadata and messages list. Whole lists are for files: an event is read with every page."""

MOST_POINTS = 500
"""Corners of the holes that metadata show; of a map with more, only the box is shown."""

EDGE_PIECES = 8
"""Pieces of a cell's side: what is straight in a map bends in longitude and latitude, by metres over 10 km."""

Items = TypeVar("Items", list[Any], dict[str, Any])


@dataclass(frozen=True, slots=True)
class Completeness:
    """The state of each tile that an output wants, in the order of the tiles, and why those are not there that are not.

    `reasons` also say why empty tiles are empty.
    """

    states: Mapping[str, TileState]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[TileState, int]:
        """How many tiles are in each state; all states are named."""
        counted = Counter(self.states.values())
        return {state: counted[state] for state in STATES}

    @property
    def share(self) -> float:
        """Share of tiles that are present or empty, 0 to 1; 1 of no tiles."""
        return 1.0 - len(self.holes) / len(self.states) if self.states else 1.0

    @property
    def holes(self) -> list[str]:
        """The tiles that are neither present nor empty, those that failed first."""
        absent = [name for name, state in self.states.items() if state not in ("present", "empty")]
        return sorted(absent, key=lambda name: STATES.index(self.states[name]))

    def told(self, name: str) -> str:
        """A tile's state, and its reason where that says more."""
        state, reason = self.states[name], self.reasons.get(name, "")
        return f"{state}: {reason}" if reason and reason != state else state

    def brief(self, most: int = 3) -> str:
        """The counts and the first tiles that are not there: `3 of 4 present, 1 failed (30NXL_0_0: failed: ...)`."""
        counts = self.counts
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "present")
        first = "; ".join(f"{name}: {self.told(name)}" for name in self.holes[:most])
        return f"of {len(self.states)} tiles {said}" + (f" ({first})" if first else "")


def first_of(items: Items) -> Items:
    """The first `SHOWN` of a list or mapping."""
    return dict(islice(items.items(), SHOWN)) if isinstance(items, dict) else items[:SHOWN]


def holes_geojson(found: Completeness, tiles: Iterable[Tile]) -> dict[str, Any]:
    """The holes as a GeoJSON FeatureCollection, longitude and latitude: a cell each, with tile, state and reason."""
    cells = {tile.name: tile for tile in tiles}
    features = [
        {
            "type": "Feature",
            "properties": {"tile": name, "state": found.states[name], "reason": found.reasons.get(name, "")},
            "geometry": shapely.geometry.mapping(cell_lonlat(cells[name])),
        }
        for name in found.holes
    ]
    return {"type": "FeatureCollection", "features": features}


def holes_shape(found: Completeness, tiles: Iterable[Tile]) -> dict[str, Any]:
    """The union of the holes' cells as a GeoJSON geometry, or its box where it has more than `MOST_POINTS` corners."""
    absent = set(found.holes)
    union = shapely.union_all([cell_lonlat(tile) for tile in tiles if tile.name in absent], grid_size=1e-7)
    shape = union if shapely.get_num_coordinates(union) <= MOST_POINTS else shapely.envelope(union)
    return dict(shapely.geometry.mapping(shape))


def hole_area_share(found: Completeness, tiles: Sequence[Tile]) -> float:
    """The share of the cells' area that holes take, 0 to 1."""
    absent = set(found.holes)
    areas = {tile.name: (tile.cell.right - tile.cell.left) * (tile.cell.top - tile.cell.bottom) for tile in tiles}
    return sum(area for name, area in areas.items() if name in absent) / sum(areas.values()) if areas else 0.0


def cell_lonlat(tile: Tile) -> shapely.Polygon:
    """A tile's cell, without its buffer, in longitude and latitude, to seven decimals (a centimetre)."""
    box = shapely.box(*tile.cell)
    ring = shapely.get_coordinates(shapely.segmentize(box, max(tile.cell.right - tile.cell.left, 1e-9) / EDGE_PIECES))
    longitude, latitude = _to_lonlat(tile.epsg).transform(*ring.T)
    return shapely.Polygon(np.round(np.column_stack([longitude, latitude]), 7))


@lru_cache(maxsize=128)
def _to_lonlat(epsg: int) -> Transformer:
    return Transformer.from_crs(epsg, 4326, always_xy=True)
