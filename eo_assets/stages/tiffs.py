"""Stage 1, tiffs: what the service delivered for a tile, checked file by file and committed where it lies.

The order itself is placed for all tiles of a run at once (`assets/imagery.py`); here one delivery becomes an output.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import rasterio

from eo_assets.core.periods import Period, are_centres
from eo_assets.core.tile import Tile
from eo_assets.errors import DamagedDelivery, TileError
from eo_assets.project import Imagery
from eo_assets.stages.stage import StageResult, TileInputs
from resources.batch_orders import NOTHING
from resources.delivered_files import DeliveredTiff, tiffs_in
from resources.delivered_files import Tiffs as DeliveredTiffs

USERDATA = "userdata"
COMPOSITED = "composited"
"""A number of tiffs whose frames are periods, which the evalscript has composited, and not acquisitions."""

UNTOLD = "not delivered by the service"
BASELINE = re.compile(r"_N(\d\d)(\d\d)(?=_|\b)")
"""The processing baseline in the name of a Sentinel-2 product: `_N0400_` is 04.00."""


@dataclass(frozen=True, slots=True)
class Tiffs:
    """One GeoTIFF an output of the evalscript, its bands the dates, and `userdata.json` with the sensing times."""

    imagery: Imagery
    evalscript: str
    periods: tuple[Period, ...] = ()
    """Those that the evalscript composites by: then a delivery has one frame for each."""

    name: ClassVar[str] = "tiffs"
    inputs: ClassVar[tuple[str, ...]] = ()
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    paid: ClassVar[bool] = True
    source: ClassVar[bool] = True
    cpus: ClassVar[float] = 0.5

    def memory_bytes(self, tile: Tile) -> int:
        """Files are hashed and their headers read: nothing that grows with the tile."""
        return 300 << 20

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """Only what changes the service's answer: upgrading the product must never buy twice.

        The periods of a composite that the evalscript makes are in its text.
        """
        unasked = {"expected_dates", "evalscript", "exclude", "tries", "composite_in_evalscript"}
        asked = self.imagery.model_dump(mode="json", exclude=unasked)
        return {"imagery": asked, "evalscript": self.evalscript, "tile": tile_settings(tile)}

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Check the delivered folder `output`: every file there, on the tile's grid, with as many bands as dates."""
        return self.check(tile, output, tiffs_in(output))

    def check(self, tile: Tile, output: Path, tiffs: DeliveredTiffs) -> StageResult:
        """The same, where the GeoTIFFs may lie elsewhere: of those only headers and sizes are looked at."""
        from_order = {"batch_request": output.parent.name}
        nothing = output / f"{NOTHING}.json"
        if nothing.exists():
            return StageResult({"dates": 0, **from_order}, empty=json.loads(nothing.read_text())["reason"])
        dates = read_dates(output, self.imagery.time_interval[0])
        made_of = read_acquisitions(output) if self.imagery.composite_in_evalscript else dates
        if not dates or made_of == []:
            return StageResult({"dates": 0, **from_order}, empty="the service has no acquisition in the time interval")
        if self.periods:
            _check_periods(output, dates, self.periods)
        for name in self.imagery.tiff_outputs:
            if name not in tiffs:
                missing = tiff_path(output, name)
                raise DamagedDelivery(f"{missing} was not delivered; is {name} an output of the evalscript?")
            _check_tiff(tiffs[name], tile, len(dates))
        return StageResult(
            {
                "dates": len(dates),
                "first_date": min(dates).isoformat(),
                "files": len(self.imagery.tiff_outputs),
                **({COMPOSITED: True} if self.periods else {}),
                **from_order,
                **provenance(output, made_of),
            }
        )


def tile_settings(tile: Tile) -> Mapping[str, Any]:
    """What of a tile belongs into the recipe of a request: its cell, pixel size and buffer."""
    return {
        "epsg": tile.epsg,
        "cell": list(tile.cell),
        "resolution": tile.resolution,
        "buffer_px": list(tile.buffer_px),
    }


def tiff_path(folder: Path, output: str) -> Path:
    """The file of one output, with either ending that services use."""
    path = folder / f"{output}.tif"
    return path if path.exists() else folder / f"{output}.tiff"


def read_dates(folder: Path, single_date: dt.date) -> list[dt.datetime]:
    """The sensing times of a delivery, in the order of the tiffs' bands.

    They come from `dates` in `userdata.json`, ISO 8601, and are returned in UTC without a time zone. An evalscript that
    tells none (SIMPLE mosaicking) has one frame, dated with the start of the interval.
    """
    path = folder / f"{USERDATA}.json"
    if not path.exists():
        return [dt.datetime.combine(single_date, dt.time())]
    try:
        userdata = json.loads(path.read_text())
        told = None if userdata is None else userdata.get("dates")
        return [dt.datetime.combine(single_date, dt.time())] if told is None else _times(told)
    except (ValueError, AttributeError, TypeError) as error:
        raise TileError(f"{path}: {error}; the evalscript must set userData to {{dates: [ISO dates]}}") from None


def read_acquisitions(folder: Path) -> list[dt.datetime] | None:
    """What the frames of a delivery were composited from: `acquisitions` in `userdata.json`, None if it is not told."""
    path = folder / f"{USERDATA}.json"
    try:
        userdata = json.loads(path.read_text()) if path.exists() else None
        told = None if userdata is None else userdata.get("acquisitions")
        return None if told is None else _times(told)
    except (ValueError, AttributeError, TypeError) as error:
        raise TileError(
            f"{path}: {error}; an evalscript that composites sets userData.acquisitions to a list of ISO dates, or not "
            "at all"
        ) from None


def provenance(folder: Path, dates: Sequence[dt.datetime] | None) -> dict[str, Any]:
    """Acquisition dates, product ids and processing baselines of a delivery, ascending and each once.

    An evalscript tells the products of a date in `userData.products`, a list beside `dates`, each a path or a name, or
    a list of them. The baseline is part of a Sentinel-2 product's name (`_N0400_`). What is not told is said not to be.
    """
    path = folder / f"{USERDATA}.json"
    userdata = json.loads(path.read_text()) if path.exists() else None
    told = userdata.get("products") if isinstance(userdata, dict) else None
    entries = [entry if isinstance(entry, list) else [entry] for entry in told] if isinstance(told, list) else []
    products = sorted({name for entry in entries for name in entry if isinstance(name, str) and name})
    baselines = sorted({f"{found[1]}.{found[2]}" for name in products if (found := BASELINE.search(name))})
    return {
        "acquisitions": UNTOLD if dates is None else sorted({date.date().isoformat() for date in dates}),
        "products": products or UNTOLD,
        "processing_baselines": baselines or UNTOLD,
    }


def _check_periods(folder: Path, dates: Sequence[dt.datetime], periods: Sequence[Period]) -> None:
    """A frame a period, dated by its centre: else frames would be composited anew, and their counts added."""
    if are_centres(dates, periods):
        return
    raise TileError(
        f"{folder / USERDATA}.json: {len(dates)} dates that are not the centres of the {len(periods)} periods of "
        "features.composite; with imagery.composite_in_evalscript the evalscript must deliver a frame for each of "
        "PERIODS, in userData.dates its centre"
    )


def _times(told: Sequence[str]) -> list[dt.datetime]:
    return [_utc(dt.datetime.fromisoformat(text)) for text in told]


def _utc(time: dt.datetime) -> dt.datetime:
    return time if time.tzinfo is None else time.astimezone(dt.UTC).replace(tzinfo=None)


def _check_tiff(file: DeliveredTiff, tile: Tile, dates: int) -> None:
    """Refuse a file that is damaged, short of bands or off the tile's grid."""
    try:
        with rasterio.open(file.path, driver="GTiff") as tiff:
            _check_grid(tiff, tile)
            if tiff.count < dates:
                told = f"{file.path} has {tiff.count} bands for {dates} dates"
                raise TileError(f"{told}; updateOutput must set as many bands as dates")
            _check_whole(tiff, file.size)
    except rasterio.errors.RasterioIOError as error:
        raise DamagedDelivery(
            f"{file.path} can't be opened: {error}; run the tile again to have it delivered anew"
        ) from None


def _check_grid(tiff: Any, tile: Tile) -> None:
    epsg = tiff.crs.to_epsg() if tiff.crs else None
    in_place = tiff.transform.almost_equals(tile.transform, 1e-6)
    if (epsg, tiff.shape, in_place) != (tile.epsg, tile.shape, True):
        raise TileError(
            f"{tiff.name} is not on the grid of {tile.name}: EPSG:{epsg}, {tiff.shape} pixels, corner in place: "
            f"{in_place}; expected EPSG:{tile.epsg}, {tile.shape} pixels; do area.grid, resolution and buffer fit?"
        )


def _check_whole(tiff: Any, size: int) -> None:
    """Every band's last block lies inside the file: a file that was cut short opens, but can't be read."""
    for band, (height, width) in zip(tiff.indexes, tiff.block_shapes):
        place = f"{(tiff.width - 1) // width}_{(tiff.height - 1) // height}"
        offset, length = (tiff.get_tag_item(f"BLOCK_{what}_{place}", "TIFF", bidx=band) for what in ("OFFSET", "SIZE"))
        if offset is not None and length is not None and int(offset) + int(length) > size:
            raise DamagedDelivery(
                f"{tiff.name} ends after {size} bytes, within band {band}; run the tile again to have it delivered anew"
            )
