"""Tiffs of somebody else's delivery: copied file by file, and looked into more closely than the service's own."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rasterio

from eo_assets.errors import TileError
from eo_assets.project import Imagery
from eo_assets.stages.tiffs import USERDATA, read_dates, tiff_path
from resources.batch_orders import NOTHING


def copy_delivery(folder: Path, output: Path, outputs: Sequence[str], *, link: bool) -> None:
    """The files of a delivery that count, and no others."""
    wanted = [tiff_path(folder, name) for name in outputs]
    wanted += [folder / f"{name}.json" for name in (USERDATA, NOTHING)]
    for path in wanted:
        if path.is_file():
            target = output / path.name
            if link:
                with contextlib.suppress(OSError):
                    target.hardlink_to(path)
                    continue
            shutil.copyfile(path, target)


def check_delivery(folder: Path, imagery: Imagery) -> None:
    """Refuse dates that are not told or not asked for, and blocks that do not decode."""
    first, last = imagery.time_interval
    times = read_dates(folder, first)
    outside = next((time for time in times if not first <= time.date() <= last), None)
    if outside is not None:
        raise TileError(f"{folder}: {outside.date()} lies outside imagery.time_interval, {first} to {last}")
    untold = _untold(folder)
    for name in imagery.tiff_outputs:
        path = tiff_path(folder, name)
        try:
            with rasterio.open(path) as tiff:
                if untold and tiff.count > 1:
                    raise TileError(
                        f"{path} has {tiff.count} bands, and {USERDATA}.json has no `dates` that would tell which: "
                        "write them there as a list of ISO dates, in the order of the bands"
                    )
                for _, window in tiff.block_windows(1):
                    tiff.read(window=window)
        except rasterio.errors.RasterioIOError as error:
            raise TileError(f"{path} is damaged: {error}") from None


def _untold(folder: Path) -> bool:
    path = folder / f"{USERDATA}.json"
    said: Mapping[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return not said or said.get("dates") is None
