"""The time axis of a project and the names of its model columns: (date, feature), in date order.

A model needs the same columns in every tile. Without a composite a tile's dates are its own acquisition days, and tiles
that differ are refused. With one its dates are the periods of the project, the same for all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from eo_assets.core.periods import Period, centres_of, labels_of
from eo_assets.errors import ModelError, TileError


def ascending(timestamps: Sequence[dt.datetime]) -> tuple[list[int], list[dt.datetime]]:
    """The order that sorts sensing times (the service returns the newest first), and the sorted times."""
    order = sorted(range(len(timestamps)), key=lambda i: timestamps[i])
    return order, [timestamps[i] for i in order]


def labels(timestamps: Sequence[dt.datetime], periods: Sequence[Period] = ()) -> tuple[str, ...]:
    """The name of each date of a tile: the day in UTC. Neighbouring tiles differ by seconds, not by days.

    With periods they are the dates, and the timestamps have to be their centres: TileError where they are not.
    """
    if not periods:
        return tuple(t.date().isoformat() for t in timestamps)
    if tuple(timestamps) != centres_of(periods):
        raise TileError(
            f"{len(timestamps)} dates that are not the centres of the {len(periods)} periods of features.composite: "
            "make the features anew: --only features"
        )
    return labels_of(periods)


def columns(dates: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """The model's columns: every feature of the first date, then of the second, named `<feature>_<date>`."""
    return tuple(f"{feature}_{date}" for date in dates for feature in features)


def common_dates(dates_of_tiles: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The dates that all tiles share, ascending.

    Tiles that differ are refused, with the names and dates of two of them; so is a tile with one date twice, whose
    model columns would bear the same name.
    """
    first_name, first = next(iter(dates_of_tiles.items()))
    for name, dates in dates_of_tiles.items():
        _refuse_repeated(name, dates)
        if tuple(dates) != tuple(first):
            raise ModelError(
                f"tiles {first_name} and {name} have different dates, so their model columns differ: "
                f"{first_name} has {_brief(first, dates)}, {name} has {_brief(dates, first)}; with features.composite: "
                "none every tile needs the same dates: narrow imagery.time_interval, or leave the tile out of "
                "sampling.tiles"
            )
    return tuple(first)


def _refuse_repeated(name: str, dates: Sequence[str]) -> None:
    repeated = next((date for date in dates if dates.count(date) > 1), None)
    if repeated is not None:
        raise ModelError(
            f"tile {name} has {dates.count(repeated)} acquisitions on {repeated}, so its model columns would share "
            "names; merge the acquisitions of a day in the evalscript (updateOutput, preProcessScenes)"
        )


def _brief(dates: Sequence[str], others: Sequence[str]) -> str:
    extra = [d for d in dates if d not in others]
    return f"{len(dates)} dates" + (
        f" ({', '.join(extra[:3])}{', ...' if len(extra) > 3 else ''} alone)" if extra else ""
    )
