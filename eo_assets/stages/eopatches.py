"""Stage 2, eopatches: tiffs to an EOPatch, dates ascending, streamed window by window."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import rasterio

from eo_assets.core.dark_targets import Darkness, joined
from eo_assets.core.tile import Tile
from eo_assets.core.time_axis import ascending
from eo_assets.errors import TileError
from eo_assets.project import EOPatches, Imagery
from eo_assets.stages.delivered_frames import DeliveredFrames
from eo_assets.stages.eopatch_arrays import Frames, held_by_bands, held_by_masks, write_bands, write_masks
from eo_assets.stages.stage import StageResult, TileInputs
from eo_assets.stages.tiffs import COMPOSITED, read_dates
from resources.eopatch_files import write_header
from resources.heap import give_back
from resources.output_record import OutputRecord

STANDS_FOR = "stands_for"
"""A number of tiffs that are not there: the stage whose adopted output they stand before."""

GDAL_CACHE = 32 << 20
"""Bytes of decoded blocks that GDAL keeps: those of one tiff that a window lies in. Unless told, it takes a twentieth
of the machine and keeps whole tiles."""

DECODED = 4 * 256 * 256
"""Bytes of a decoded block of 16 bits a date, which an open tiff holds twice."""

BASE = 350 << 20
"""Bytes of a worker that has done nothing yet: Ray, rasterio and what they bring, with room."""


@dataclass(frozen=True, slots=True)
class EOPatchesStage:
    """Data features (time, y, x, band) in physical units and boolean masks (time, y, x, 1)."""

    imagery: Imagery
    eopatches: EOPatches

    name: ClassVar[str] = "eopatches"
    inputs: ClassVar[tuple[str, ...]] = ("tiffs",)
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = False
    source: ClassVar[bool] = False
    cpus: ClassVar[float] = 1.0

    def memory_bytes(self, tile: Tile) -> int:
        """GDAL's cache and one decoded block, and the most that is held of a window: of bands, or of the masks."""
        dates, shape = self.imagery.expected_dates, tile.shape
        bands = [held_by_bands(dates, shape, bands) for bands in self.eopatches.data.values()]
        return BASE + GDAL_CACHE + dates * DECODED + max(*bands, held_by_masks(dates, shape, self.eopatches.masks))

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """How tiffs become features."""
        return {"eopatches": self.eopatches.model_dump(mode="json", by_alias=True)}

    def input_settings(self, tile: Tile, inputs: Mapping[str, OutputRecord]) -> Mapping[str, Any]:
        """The excluded dates that this tile's imagery has: to exclude a date touches only the tiles that used it."""
        excluded = {date.isoformat() for date in self.imagery.excluded_dates(tile.name)}
        used = inputs["tiffs"].numbers.get("acquisitions", sorted(excluded))
        left_out = sorted(excluded.intersection(used))
        return {"excluded": left_out} if left_out else {}

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Write every data feature and mask; all-invalid tiles are empty."""
        folder = inputs["tiffs"]
        if STANDS_FOR in inputs.records["tiffs"].numbers:
            raise TileError(
                f"the tiffs of {tile.name} were never here, only its EOPatch was adopted, and what the project asks of "
                f"an EOPatch has changed since; delete {tile.name}.json under _commits in the folder of the tiffs to "
                "order them, or adopt an EOPatch that fits"
            )
        self._check_frames(tile, bool(inputs.records["tiffs"].numbers.get(COMPOSITED)))
        # A delivery that tells no date has the one that it was bought for, whatever the project asks for now.
        bought_for = dt.datetime.fromisoformat(inputs.records["tiffs"].numbers["first_date"]).date()
        order, timestamps = self._kept(tile, *ascending(read_dates(folder, bought_for)))
        write_header(output, tile, timestamps)
        if not timestamps:
            return StageResult({"dates": 0}, empty="every date is excluded (imagery.exclude)")
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), DeliveredFrames(folder, order) as tiffs:
            names = (*self.eopatches.data, *self.eopatches.masks)
            return write_eopatch(output, self.eopatches, timestamps, dict.fromkeys(names, tiffs), tile)

    def _check_frames(self, tile: Tile, composited: bool) -> None:
        """Tiffs that were bought with the other setting are kept, but acquisitions are no periods."""
        if composited == self.imagery.composite_in_evalscript:
            return
        bought, asked = ("composites", "acquisitions") if composited else ("acquisitions", "composites")
        raise TileError(
            f"the tiffs of {tile.name} hold {bought}, imagery.composite_in_evalscript: {str(not composited).lower()} "
            f"asks for {asked}: buy them again (--rebuy {tile.name}), or set the key back"
        )

    def _kept(self, tile: Tile, order: list[int], timestamps: list[dt.datetime]) -> tuple[list[int], list[dt.datetime]]:
        """The frames of dates that are not excluded."""
        excluded = self.imagery.excluded_dates(tile.name)
        kept = [(frame, time) for frame, time in zip(order, timestamps) if time.date() not in excluded]
        return [frame for frame, _ in kept], [time for _, time in kept]


def write_eopatch(
    output: Path, eopatches: EOPatches, timestamps: list[dt.datetime], frames: Mapping[str, Frames], tile: Tile
) -> StageResult:
    """Write an EOPatch whose features each have a source of their own, by name, that is read as tiffs are.

    `timestamps` ascend, and so do the frames of the sources.
    """
    write_header(output, tile, timestamps)
    dark = [write_bands(output, name, bands, frames[name], tile, timestamps) for name, bands in eopatches.data.items()]
    shares = write_masks(output, eopatches.masks, frames, tile)
    give_back()
    return _result(timestamps, shares, joined(dark))


def _result(timestamps: list[dt.datetime], shares: Mapping[str, float], dark: Darkness) -> StageResult:
    rounded = {f"valid_share_{name}": round(share, 4) for name, share in shares.items()}
    numbers = {"dates": len(timestamps), **rounded, **({"dark": dark} if any(dark.values()) else {})}
    if shares and not any(shares.values()):
        return StageResult(numbers, empty="no pixel of any date is valid")
    return StageResult(numbers)
