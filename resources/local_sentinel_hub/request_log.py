"""Every call that was answered, as one JSON line in `requests.jsonl`: never a token, a secret or a payload."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resources.local_sentinel_hub.clock import now

LARGEST_BYTES = 10 << 20
MOST_REPEATED = 1000
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One call. `status` None: there was no answer. `note`: the units, the batch request and its tiles, a fault."""

    method: str
    path: str
    status: int | None
    seconds: float
    note: Mapping[str, Any] = field(default_factory=dict)

    @property
    def routine(self) -> bool:
        """Whether it is a look that found what it looked for: polling is full of them."""
        return self.method == "GET" and self.status == 200 and not self.note

    def line(self) -> dict[str, Any]:
        """The entry as it is written."""
        call = {"time": now(), "method": self.method, "path": self.path, "status": self.status}
        return {**call, "seconds": round(self.seconds, 3), **self.note}


class RequestLog:
    """The file, and the one before it: at 10 MB it becomes `requests.1.jsonl`. Safe for several threads.

    A routine GET that repeats is counted, and written as one line with `count` before the next other call.
    """

    def __init__(self, path: Path, largest_bytes: int = LARGEST_BYTES) -> None:
        self._path, self._largest = path, largest_bytes
        self._lock = threading.Lock()
        self._repeated: dict[str, tuple[int, float]] = {}

    def add(self, entry: Entry) -> None:
        """Write a call down. A full disk does not stop the service."""
        with self._lock:
            if entry.routine and entry.path in self._repeated:
                count, seconds = self._repeated[entry.path]
                self._repeated[entry.path] = (count + 1, seconds + entry.seconds)
                return
            if not entry.routine or len(self._repeated) >= MOST_REPEATED:
                self._settle()
            if entry.routine:
                self._repeated[entry.path] = (0, 0.0)
            self._write([entry.line()])

    def tail(self, most: int) -> list[dict[str, Any]]:
        """The last lines, oldest first."""
        last: deque[str] = deque(maxlen=most)
        with self._lock:
            self._settle()
            for path in (self._older, self._path):
                if path.is_file():
                    with path.open(encoding="utf-8") as file:
                        last.extend(file)
        return [json.loads(line) for line in last if line.endswith("\n")]

    def close(self) -> None:
        """Write down what was only counted so far."""
        with self._lock:
            self._settle()

    @property
    def _older(self) -> Path:
        return self._path.with_name(f"{self._path.stem}.1{self._path.suffix}")

    def _settle(self) -> None:
        repeated = [(path, count, seconds) for path, (count, seconds) in self._repeated.items() if count]
        self._repeated = {}
        self._write([Entry("GET", path, 200, s, {"count": n}).line() for path, n, s in repeated])

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        try:
            if self._path.is_file() and self._path.stat().st_size >= self._largest:
                self._path.replace(self._older)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
        except OSError as error:
            LOG.warning("%s can't be written: %s", self._path, error.strerror)
