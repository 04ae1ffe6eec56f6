"""Retired outputs that are needed once more: which have to be made again, and what that would cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from eo_assets.core.cost import SMALLEST_REQUEST, RequestKind
from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from eo_assets.stages.stage import TileStage
from resources.output_record import OutputRecord

Live = Callable[[str], OutputRecord | None]
"""The live record of a tile's stage by its name."""


def to_make_again(stages: Sequence[TileStage], lacking: Iterable[TileStage], live: Live) -> list[OutputRecord]:
    """The retired outputs that some stages of a tile are made from, near or far, inputs before what they are read by.

    What lies behind an output whose pixels are there is not looked at.
    """
    by_name = {stage.name: stage for stage in stages}
    found: dict[str, OutputRecord] = {}

    def look(stage: TileStage) -> None:
        for name in stage.inputs:
            record = live(name)
            if record is not None and record.retired and name not in found:
                look(by_name[name])
                found[name] = record

    for stage in lacking:
        look(stage)
    return list(found.values())


Again = Sequence[tuple[TileStage, OutputRecord]]
"""Stages with their retired outputs that have to be made again, inputs first."""


def check_free(wanted: TileStage, tile: Tile, again: Again, prices: Mapping[str, RequestKind]) -> None:
    """Refuse to make a stage of retired outputs of which some were bought, before any of them is made.

    Raises:
        TileError: what `bought_and_gone` tells.
    """
    if told := bought_and_gone(wanted, tile, again, prices):
        raise TileError(told)


def bought_and_gone(wanted: TileStage, tile: Tile, again: Again, prices: Mapping[str, RequestKind]) -> str:
    """Which retired outputs were bought, what they would cost, and how a person buys them again; "" if none were."""
    bought = [(stage, record) for stage, record in again if stage.paid]
    if not bought:
        return ""
    since = ", ".join(f"{stage.name} (retired on {record.retired})" for stage, record in bought)
    cost = " and ".join(_price(stage.name, record, tile, prices) for stage, record in bought)
    seconds = sum(float(record.numbers.get("seconds", 0.0)) for _, record in again)
    return (
        f"{wanted.name} of {tile.name} needs pixels that were bought and are gone: {since}. To buy them again, run it "
        f"with --rebuy {tile.name}: that quotes first, {cost}, and {seconds:.1f} CPU seconds for "
        f"{', '.join(stage.name for stage, _ in again)}. Or take back the change that needs them"
    )


def _price(stage: str, record: OutputRecord, tile: Tile, prices: Mapping[str, RequestKind]) -> str:
    """As it was charged, where the service told; else as it would be estimated now."""
    charged = record.numbers.get("processing_units")
    if isinstance(charged, int | float):
        return f"{charged:,.2f} processing units for {stage}, as the service charged them"
    kind = prices.get(stage)
    if kind is None:
        return f"what {stage} cost (no quote was kept)"
    least = SMALLEST_REQUEST[kind.mode]
    minimum = f", at least {least:g} a request" if least else ""
    return f"about {kind.tile_units(tile.shape):,.2f} processing units for {stage} ({kind.mode}{minimum})"
