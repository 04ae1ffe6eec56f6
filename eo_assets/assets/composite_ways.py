"""What a composite costs either way: made here from every acquisition, or in the evalscript where the imagery is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eo_assets.assets.quotes import paid_requests
from eo_assets.core.cost import raw_bytes
from eo_assets.core.tile import Tile
from eo_assets.project import EOPatches, LoadedProject
from eo_assets.project_periods import project_periods


@dataclass(frozen=True, slots=True)
class CompositeWay:
    """One way: frames a tile that are delivered, what they cost, and their bytes before compression."""

    way: str
    frames: int
    processing_units: float
    delivered_bytes: int
    chosen: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"processing_units": round(self.processing_units, 2)}

    def line(self) -> str:
        """For people."""
        size = f"{self.delivered_bytes / 1e9:,.2f} GB in {self.frames} frames a tile"
        return f"{self.way:27s} {self.processing_units:14,.1f} PU, {size}{'  <- this project' if self.chosen else ''}"


def composite_ways(loaded: LoadedProject, tiles: Sequence[Tile]) -> tuple[CompositeWay, ...]:
    """Both ways for these tiles; none for a project without a composite.

    The units are the same: a service charges the bands and acquisitions that a script reads, whatever it delivers. What
    is delivered differs: every acquisition with its masks, or every period with its counts in the masks' place.
    """
    return tuple(_ways(loaded, tiles))


def _ways(loaded: LoadedProject, tiles: Sequence[Tile]) -> Iterator[CompositeWay]:
    asked, periods = loaded.project.imagery, len(project_periods(loaded.project))
    if not periods:
        return
    in_script, outputs = asked.composite_in_evalscript, len(asked.tiff_outputs)
    composited = outputs if in_script else _bands(loaded.project.eopatches) + 1
    shapes = [tile.shape for tile in tiles]
    units = paid_requests(loaded)["tiffs"][1].units(shapes)
    for way, frames, layers, chosen in (
        ("acquisitions as they are", asked.expected_dates, outputs, not in_script),
        ("composite in the evalscript", periods, composited, in_script),
    ):
        yield CompositeWay(way, frames, units, raw_bytes(shapes, layers * frames, "uint16"), chosen)


def _bands(eopatches: EOPatches) -> int:
    return len({source for stack in eopatches.data.values() for source in stack.source})
