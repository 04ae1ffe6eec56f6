"""The periods of a composite that an evalscript makes: put into its text, so that the project file alone says them."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence

from eo_assets.core.periods import Period

VERSION = re.compile(r"\ufeff?\s*//\s*VERSION\s*=\s*3\b[^\n]*\n")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
USED = re.compile(r"\bPERIODS\b")
_EPOCH, _MS = dt.datetime(1970, 1, 1), dt.timedelta(milliseconds=1)


def with_periods(script: str, periods: Sequence[Period]) -> str:
    """The text with `const PERIODS = [[from, to], ...];` behind its first line, in milliseconds since 1970 (UTC).

    A period holds `from` and not `to`. The constant stands on the script's second line, in front of what is there, so
    that the lines of an error are those of the file. Raises ValueError for a text without `//VERSION=3` in front.
    """
    first = VERSION.match(script)
    if first is None:
        raise ValueError("the first line is not //VERSION=3")
    edges = json.dumps([[_milliseconds(period.start), _milliseconds(period.end)] for period in periods])
    return f"{first[0]}const PERIODS = {edges}; {script[first.end() :]}"


def uses_periods(script: str) -> bool:
    """Does a script name PERIODS anywhere but in a comment?"""
    return USED.search(COMMENT.sub("", script)) is not None


def _milliseconds(time: dt.datetime) -> int:
    """Rounded up: a time of whole milliseconds lies at or after the one where it lies at or after the other."""
    return -((_EPOCH - time) // _MS)
