"""How a run over tiles tells how far it is: to its log by default, to a terminal when the command line asks for it."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from eo_assets.stages.walk import StageOutcome

ENOUGH_TILES, ENOUGH_SECONDS = 8, 20.0
"""No rate is told before so many tiles were worked on after the first, over so long a time."""

WINDOW_SECONDS, SAMPLES = 600.0, 60
"""The rate is that of the last ten minutes, looked at so often."""

MINUTE, HOUR, DAY = 60, 3600, 86400


class Progress(Protocol):
    """Told of every outcome of a run, and of time passing without one."""

    def started(self, title: str, tiles: int, stages: int) -> None: ...
    def advanced(self, outcome: StageOutcome | None) -> None: ...
    def finished(self) -> None: ...


class Pace:
    """How many tiles of a run are through, how fast, and how long the rest takes.

    Tiles that are up to date cost nothing, and are told first: they are through, and not part of the rate. The time
    before the first tile, when imagery is waited for, is not part of it either.
    """

    def __init__(self, tiles: int, stages: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self.tiles, self._stages, self._clock = tiles, max(1, stages), clock
        self._worked, self._last = 0, ""
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    @property
    def through(self) -> int:
        """Tiles all of whose stages have been told."""
        return self.counts.total() // self._stages

    def add(self, outcome: StageOutcome) -> None:
        """One stage of one tile; all stages of a tile come one after the other."""
        self.counts[outcome.status] += 1
        if outcome.status in ("done", "failed") and outcome.tile != self._last:
            self._last = outcome.tile
            self._worked += 1
            now = self._clock()
            if not self._samples or now - self._samples[-1][0] >= WINDOW_SECONDS / SAMPLES:
                self._samples.append((now, self._worked))

    def rate(self) -> float | None:
        """Tiles a second of late; None as long as that would be a guess."""
        if not self._samples:
            return None
        since, before = self._samples[0]
        seconds, worked = self._clock() - since, self._worked - before
        return worked / seconds if worked >= ENOUGH_TILES and seconds >= ENOUGH_SECONDS else None

    def pace(self) -> str:
        """`14 tiles/min, about 25 min left`; empty as long as nothing is known, and at the end."""
        rate, left = self.rate(), self.tiles - self.through
        return f"{per_time(rate)}, {duration(left / rate)} left" if rate and left else ""

    def __str__(self) -> str:
        pace = self.pace()
        return f"{self.through} of {self.tiles} tiles{f', {pace}' if pace else ''} (stages: {counted(self.counts)})"


class LogProgress:
    """A line in the log now and then: at most one every `seconds`, and one at the end."""

    def __init__(self, logger: logging.Logger | None = None, seconds: float = 30.0) -> None:
        self._log = logger or logging.getLogger("eo_assets.progress")
        self._seconds, self._told = seconds, time.monotonic()
        self._title, self._pace = "", Pace(0, 1)

    def started(self, title: str, tiles: int, stages: int) -> None:
        self._title, self._pace, self._told = title, Pace(tiles, stages), time.monotonic()
        self._log.info("%s: %d tiles", title, tiles)

    def advanced(self, outcome: StageOutcome | None) -> None:
        if outcome is not None:
            self._pace.add(outcome)
        if time.monotonic() - self._told > self._seconds:
            self._tell()

    def finished(self) -> None:
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._log.info("%s: %s", self._title, self._pace)


def counted(counts: Counter[str]) -> str:
    """`12 done, 3 up to date`"""
    return ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items()) or "nothing yet"


def per_time(rate: float) -> str:
    """Tiles a second in the unit in which it is a number that a person reads: `14 tiles/min`, `5.2 tiles/h`."""
    unit, seconds = ("min", MINUTE) if rate * MINUTE >= 1 else ("h", HOUR)
    value = rate * seconds
    return f"{value:.0f} tiles/{unit}" if value >= 10 else f"{value:.1f} tiles/{unit}"


def duration(seconds: float) -> str:
    """An estimate, no more precise than it is: `about 40 s`, `about 25 min`, `about 3 h 20 min`, `about 2 days 5 h`."""
    if seconds < 1.5 * MINUTE:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    if seconds < 1.5 * HOUR:
        return f"about {round(seconds / MINUTE)} min"
    if seconds < 1.5 * DAY:
        hours, tens = divmod(round(seconds / (10 * MINUTE)), 6)
        return f"about {hours} h{f' {10 * tens} min' if tens else ''}"
    days, hours = divmod(round(seconds / HOUR), 24)
    return f"about {days} day{'s' if days > 1 else ''}{f' {hours} h' if hours else ''}"
