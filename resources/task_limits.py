"""How often a tile is tried, how long a try may take, and how long it waits for the next one."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """How often a tile is tried, how long a try may take from its start on a worker, and the wait before the second."""

    tries: int = 3
    timeout_s: float = 3600.0
    backoff_s: float = 2.0
    longest_backoff_s: float = 120.0

    def backoff(self, faults: int) -> float:
        """Seconds until the next try: doubled with every fault, and spread, so that tiles don't come back in step."""
        longest = min(self.longest_backoff_s, self.backoff_s * 2.0 ** (faults - 1))
        return longest * random.uniform(0.5, 1.0)


DEFAULT_LIMITS = TaskLimits()
