"""The periods of a composite: the same for every tile, named without their year, so that a model outlives it.

A period is half open, from its first instant to that of the next. An acquisition in none of them is not used.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Interval = tuple[dt.date, dt.date]
"""The first and the last day of a project's imagery, both of them in it."""

Cut = int | Literal["months"] | tuple[dt.date, ...]
"""How an interval is cut: into so many equal periods, calendar months, or between given days (the last is the end)."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to, but without, `end` (UTC, without time zone). `label` is part of the names of its columns."""

    label: str
    start: dt.datetime
    end: dt.datetime

    @property
    def centre(self) -> dt.datetime:
        """The instant in the middle, to the second: the timestamp of its composite."""
        return (self.start + (self.end - self.start) / 2).replace(microsecond=0)

    def holds(self, time: dt.datetime) -> bool:
        """Does an acquisition belong to it?"""
        return self.start <= time < self.end


def periods_of(interval: Interval, cut: Cut) -> tuple[Period, ...]:
    """The periods of an interval in order of time.

    Equal periods are `p1`, `p2`, ...; months `m01` ... `m12`; those between given days `d0315` for the 15th of March.
    Where a month or a day comes again in a later year, all names begin with the year's place: `y1m01`, `y2m01`.
    """
    if isinstance(cut, int):
        starts, end = _equal(interval, cut)
        width = len(str(cut))
        return _between([f"p{number:0{width}}" for number in range(1, cut + 1)], [*starts, end])
    if cut == "months":
        edges = _months(interval)
        return _between(_seasonal("m%m", edges[:-1]), edges)
    edges = [_midnight(day) for day in cut]
    return _between(_seasonal("d%m%d", edges[:-1]), edges)


def frames_of(periods: Sequence[Period], times: Sequence[dt.datetime]) -> tuple[tuple[int, ...], ...]:
    """For each period the positions of the acquisitions that it holds."""
    return tuple(tuple(i for i, time in enumerate(times) if period.holds(time)) for period in periods)


def labels_of(periods: Sequence[Period]) -> tuple[str, ...]:
    """Their names in order."""
    return tuple(period.label for period in periods)


def centres_of(periods: Sequence[Period]) -> tuple[dt.datetime, ...]:
    """Their timestamps in order."""
    return tuple(period.centre for period in periods)


def are_centres(times: Sequence[dt.datetime], periods: Sequence[Period]) -> bool:
    """Is there one time for each period, at its centre, to the second?"""
    pairs = list(zip(sorted(times), centres_of(periods)))
    return len(times) == len(periods) and all(abs(a - b) <= dt.timedelta(seconds=1) for a, b in pairs)


def days_of(periods: Sequence[Period]) -> tuple[float, ...]:
    """The days from the centre of the first period to that of each, ascending."""
    centres = centres_of(periods)
    return tuple((centre - centres[0]) / dt.timedelta(days=1) for centre in centres)


def _equal(interval: Interval, number: int) -> tuple[list[dt.datetime], dt.datetime]:
    start, end = _midnight(interval[0]), _midnight(interval[1] + dt.timedelta(days=1))
    return [start + (end - start) * i / number for i in range(number)], end


def _months(interval: Interval) -> list[dt.datetime]:
    """The interval's ends, and the first of every month between them."""
    first, end = interval[0], interval[1] + dt.timedelta(days=1)
    months = range(first.year * 12 + first.month, end.year * 12 + end.month)
    firsts = [dt.date(month // 12, month % 12 + 1, 1) for month in months]
    return [_midnight(day) for day in dict.fromkeys([first, *firsts, end])]


def _between(labels: Sequence[str], edges: Sequence[dt.datetime]) -> tuple[Period, ...]:
    return tuple(Period(*period) for period in zip(labels, edges[:-1], edges[1:], strict=True))


def _seasonal(pattern: str, starts: Sequence[dt.datetime]) -> list[str]:
    """Names by the place in the year, with the place of the year in front where one would come twice."""
    names = [start.strftime(pattern) for start in starts]
    if max(Counter(names).values(), default=1) == 1:
        return names
    return [f"y{start.year - starts[0].year + 1}{name}" for name, start in zip(names, starts)]


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.min)
