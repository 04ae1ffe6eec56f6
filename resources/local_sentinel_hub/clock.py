"""Times as the service writes them."""

from __future__ import annotations

import datetime as dt


def now() -> str:
    """Now in UTC with microseconds, 2024-05-01T12:00:00.000000Z."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
