"""How a run over tiles tells how far it is: to its log by default, to a terminal when the command line asks for it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Protocol

from eo_assets.stages.walk import StageOutcome


class Progress(Protocol):
    """Told of every outcome of a run, and of time passing without one."""

    def started(self, title: str, tiles: int, stages: int) -> None: ...
    def advanced(self, outcome: StageOutcome | None) -> None: ...
    def finished(self) -> None: ...


class LogProgress:
    """A line in the log now and then: at most one every `seconds`, and one at the end."""

    def __init__(self, logger: logging.Logger | None = None, seconds: float = 30.0) -> None:
        self._log = logger or logging.getLogger("eo_assets.progress")
        self._seconds, self._told, self._total = seconds, time.monotonic(), 0
        self._title, self._counts = "", Counter[str]()

    def started(self, title: str, tiles: int, stages: int) -> None:
        self._title, self._total, self._counts = title, tiles * stages, Counter()
        self._log.info("%s: %d tiles", title, tiles)

    def advanced(self, outcome: StageOutcome | None) -> None:
        if outcome is not None:
            self._counts[outcome.status] += 1
        if time.monotonic() - self._told > self._seconds:
            self._tell()

    def finished(self) -> None:
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._log.info("%s: %d of %d (%s)", self._title, self._counts.total(), self._total, counted(self._counts))


def counted(counts: Counter[str]) -> str:
    """`12 done, 3 up to date`"""
    return ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items()) or "nothing yet"
