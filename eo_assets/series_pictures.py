"""Pictures of what compositing does to a tile: a row a period, from what was delivered to what the model sees."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.features import FeaturePlan, feature_stack
from eo_assets.core.periods import Period, frames_of
from eo_assets.core.picture_sheet import Panel, Stretch, ramp_colours, sheet
from eo_assets.errors import EoAssetsError
from eo_assets.project import LoadedProject
from eo_assets.project_periods import project_periods
from eo_assets.stages.features import FEATURES, OBSERVATIONS, feature_plan
from eo_assets.stages.quicklooks import RGB
from resources.eopatch_files import DATA, MASK, open_array, read_timestamps
from resources.tile_store import TileStore

SIDE = 100
"""Pixels of a tile that are shown, from its middle: clouds are seen at their own size, and a row fits a page."""

RAW_FRAMES = 3
"""Acquisitions that are shown of a period, spread from its first to its last."""

HEADINGS = ("as delivered", "", "", "masked", "", "", "composite", "gaps filled")
NOTE = (
    "A row a period. Acquisitions as delivered (up to three of them), masked, their composite, the composite with its "
    "gaps filled, and how many clear observations a pixel has, purple for none to yellow for the most. Grey is where "
    "nothing is known. One stretch for all."
)
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Painter:
    """How columns become colours, the same for all panels of a tile: three bands, or one column by a ramp."""

    columns: tuple[int, ...]
    stretch: Stretch
    index: bool

    @classmethod
    def of(cls, plan: FeaturePlan, composites: Array) -> Painter:
        """By what composites (period, y, x, feature) hold: bands in colour if there are any, else the first column."""
        found = next((names for names in RGB if all(name in plan.names for name in names)), None)
        columns = tuple(plan.names.index(name) for name in found) if found else (0, 0, 0)
        return cls(columns, Stretch.of(composites[..., columns]), found is None and bool(plan.indices))

    def panel(self, caption: str, values: Array) -> Panel:
        """A panel of (y, x, feature)."""
        shown = values[..., self.columns]
        known = np.isfinite(shown).all(axis=-1)
        if self.index:
            return Panel(caption, ramp_colours(shown[..., 0], -1, 1, "brbg"), known)
        return Panel(caption, self.stretch.colours(shown), known)


@dataclass(frozen=True, slots=True)
class Series:
    """The middle of a tile: some acquisitions by frame, (y, x, feature), and where they are clear, (y, x); per period
    composites (period, y, x, feature) with their gaps filled, and counts of clear observations (period, y, x)."""

    times: Sequence[dt.datetime]
    acquired: Mapping[int, Array]
    clear: Mapping[int, Array]
    composites: Array
    counts: Array


def series_note(loaded: LoadedProject) -> str:
    """What the pictures of a project show: the days of its periods, and the bands in colour where there are three."""
    names = loaded.project.eopatches.data[loaded.project.features.bands].source
    colours = next((rgb for rgb in RGB if all(name in names for name in rgb)), None)
    said = f"Red, green and blue are {', '.join(colours)}. " if colours else ""
    days = "; ".join(
        f"{p.label} from {p.start:%Y-%m-%d} to before {p.end:%Y-%m-%d}" for p in project_periods(loaded.project)
    )
    return f"{NOTE} {said}Periods: {days}."


def series_picture(series: Series, periods: Sequence[Period], plan: FeaturePlan) -> bytes:
    """PNG of a tile's series before and after compositing."""
    painter = Painter.of(plan, series.composites)
    most = int(series.counts.max(initial=1))
    held = frames_of(periods, series.times)
    return sheet(
        (*HEADINGS, f"seen 0 to {most}"),
        [
            (f"{period.label}: {len(frames)} acquired", _row(series, place, frames, painter, most))
            for place, (period, frames) in enumerate(zip(periods, held, strict=True))
        ],
    )


def _row(series: Series, place: int, frames: Sequence[int], painter: Painter, most: int) -> list[Panel | None]:
    shown = spread(frames)
    empty: list[Panel | None] = [None] * (RAW_FRAMES - len(shown))
    raw = [painter.panel(f"{series.times[frame]:%Y-%m-%d}", series.acquired[frame]) for frame in shown]
    masked = [
        painter.panel(f"{clear.mean():.0%} clear", np.where(clear[..., np.newaxis], series.acquired[frame], np.nan))
        for frame, clear in ((frame, series.clear[frame]) for frame in shown)
    ]
    counts, filled = series.counts[place], series.composites[place]
    seen = np.where((counts > 0)[..., np.newaxis], filled, np.nan)
    told = f"{counts.min()} to {counts.max()}"
    return [
        *raw,
        *empty,
        *masked,
        *empty,
        painter.panel(f"{(counts > 0).mean():.0%} known", seen),
        painter.panel(f"{np.isfinite(filled).all(axis=-1).mean():.0%} known", filled),
        Panel(told, ramp_colours(counts, 0, most), np.ones(counts.shape, bool)),
    ]


def spread(frames: Sequence[int]) -> list[int]:
    """At most RAW_FRAMES of them, the first and the last among them."""
    if len(frames) <= RAW_FRAMES:
        return list(frames)
    return [frames[round(place)] for place in np.linspace(0, len(frames) - 1, RAW_FRAMES)]


def tile_pictures(loaded: LoadedProject, store: TileStore) -> Iterator[tuple[str, bytes]]:
    """(tile, PNG) of the tiles with the fewest acquisitions, the most, and the most without an observation.

    A tile whose arrays are damaged or gone has no picture: that is told where they are used.
    """
    for tile in _telling(store) if project_periods(loaded.project) else ():
        # What a damaged chunk raises: zarr's and Blosc's own errors are a RuntimeError or a ValueError.
        with contextlib.suppress(EoAssetsError, OSError, ValueError, RuntimeError):
            yield tile, _tile_picture(loaded, store, tile)


def _tile_picture(loaded: LoadedProject, store: TileStore, tile: str) -> bytes:
    periods, settings = project_periods(loaded.project), loaded.project.features
    plan = feature_plan(settings, loaded.project.eopatches.data[settings.bands].source)
    eopatch, features = (store.path(store.record(stage, tile)) for stage in ("eopatches", "features"))
    times = read_timestamps(eopatch)
    shown = [frame for held in frames_of(periods, times) for frame in spread(held)]
    acquired = _acquired(eopatch, settings.bands, shown, plan)
    clear = _clear(eopatch, settings.mask, shown, acquired)
    series = Series(times, acquired, clear, *_composited(features))
    return series_picture(series, periods, plan)


def _telling(store: TileStore) -> list[str]:
    """The tiles that show most of what compositing does, each once."""
    eopatches = {tile: record for tile, record in store.records("eopatches").items() if not record.empty}
    features = {
        tile: record
        for tile, record in sorted(store.records("features").items())
        if tile in eopatches and not record.empty
    }
    if not features:
        return []
    dates = {tile: eopatches[tile].numbers.get("dates", 0) for tile in features}
    gaps = {tile: record.numbers.get("unobserved_share", 0.0) for tile, record in features.items()}
    chosen = [min(features, key=dates.__getitem__), max(features, key=dates.__getitem__)]
    left = [tile for tile in features if tile not in chosen]
    return list(dict.fromkeys([*chosen, *([max(left, key=gaps.__getitem__)] if left else [])]))


def _acquired(eopatch: Path, bands: str, frames: Sequence[int], plan: FeaturePlan) -> dict[int, Array]:
    array = open_array(eopatch, DATA, bands)
    if not frames:
        return {}
    values = array.oindex[list(frames), *map(_middle, array.shape[1:3])]
    return dict(zip(frames, feature_stack(values, 1.0, None, plan), strict=True))


def _clear(eopatch: Path, mask: str | None, frames: Sequence[int], acquired: Mapping[int, Array]) -> dict[int, Array]:
    if mask is None:
        return {frame: np.ones(values.shape[:2], bool) for frame, values in acquired.items()}
    array = open_array(eopatch, MASK, mask)
    return {frame: np.asarray(array[frame, *map(_middle, array.shape[1:3]), 0]) for frame in frames}


def _composited(features: Path) -> tuple[Array, Array]:
    columns, counts = open_array(features, DATA, FEATURES), open_array(features, MASK, OBSERVATIONS)
    rows, cols = map(_middle, columns.shape[1:3])
    return np.asarray(columns[:, rows, cols]), np.asarray(counts[:, rows, cols, 0])


def _middle(side: int) -> slice:
    first = max(0, (side - SIDE) // 2)
    return slice(first, min(side, first + SIDE))
