"""The commit record of an output: which attempt is live, what it was made of, with which numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eo_assets.errors import StoreError

RECORD_FORMAT = 1
RETIRED_FORMAT = 2
"""Of records without pixels: a version that does not know them must not take the output for lost and buy it again."""


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """The commit record of one output: what is live, from what recipe, with which numbers."""

    stage: str
    key: str
    attempt: str
    recipe: str
    digest: str
    created: str
    empty: bool = False
    reason: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    format: int = RECORD_FORMAT
    retired: str = ""
    """Since when its pixels are gone on purpose (ISO time), see `retiring`; empty while they are there."""


def serialized(record: OutputRecord) -> bytes:
    values = dataclasses.asdict(record)
    if not record.retired:
        del values["retired"]  # versions that know of no retired outputs read all others
    return json.dumps(values, indent=1, sort_keys=True).encode()


def parsed(data: bytes, place: str, stage: str, key: str) -> OutputRecord:
    """From its bytes, which lie at `place`; anything else is a StoreError."""
    try:
        values = json.loads(data)
        if values["format"] > RETIRED_FORMAT:
            raise StoreError(f"{place}: written by a newer version (format {values['format']}); upgrade eo-assets")
        return OutputRecord(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{place}: not a commit record ({error}); delete it to make {stage} of {key} anew") from None
