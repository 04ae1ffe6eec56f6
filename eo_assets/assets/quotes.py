"""What a project's paid stages would cost: one line a stage, from the project file and its evalscripts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eo_assets.core.cost import RequestKind, Shape
from eo_assets.core.tile import Tile
from eo_assets.project import LoadedProject
from eo_assets.project_paid import paid_requests


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """What one paid stage asks of one service: a batch request for all tiles, or a Process request for each.

    `units` are processing units as `service` counts them; `minimum` is what the service's least price a request adds.
    """

    stage: str
    service: str
    kind: RequestKind
    tiles: int
    units: float
    minimum: float

    @property
    def unit(self) -> str:
        """Units are named by the service that counts them: they are not the same money elsewhere."""
        return f"PU of {self.service}"


@dataclass(frozen=True, slots=True)
class Quote:
    """The paid stages of a run, those that ask for nothing left out."""

    lines: tuple[QuoteLine, ...]

    @property
    def total(self) -> float:
        """Processing units altogether; what the budget is compared with."""
        return sum(line.units for line in self.lines)

    def of(self, stage: str) -> float:
        """Processing units of one stage."""
        return sum(line.units for line in self.lines if line.stage == stage)


def quote(loaded: LoadedProject, tiles: Mapping[str, Sequence[Tile]]) -> Quote:
    """The quote for the tiles of each paid stage that have to be bought, offline."""
    lines = []
    for stage, (service, kind) in paid_requests(loaded).items():
        shapes = [tile.shape for tile in tiles.get(stage, ())]
        if shapes:
            units = kind.units(shapes)
            lines.append(QuoteLine(stage, service, kind, len(shapes), units, units - sum(map(kind.tile_units, shapes))))
    return Quote(tuple(lines))


def imagery_units(loaded: LoadedProject) -> Callable[[Sequence[Shape]], float]:
    """Processing units of one batch request for tiles of these shapes."""
    return paid_requests(loaded)["tiffs"][1].units


def tile_units(loaded: LoadedProject, tile: Tile) -> dict[str, float]:
    """Processing units of one tile by paid stage, without the minimum of its request."""
    return {stage: kind.tile_units(tile.shape) for stage, (_, kind) in paid_requests(loaded).items()}
