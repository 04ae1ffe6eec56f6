"""Recipes and digests: what says whether a committed output is up to date, stale, and where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def recipe(stage: str, settings: Mapping[str, Any], code_version: str, inputs: Mapping[str, str]) -> str:
    """The identity of an output: hash of the stage's settings, its code version and the digests of its inputs.

    `settings` holds JSON values only; the order of keys does not matter. Returns 64 hexadecimal digits.
    """
    return fingerprint({"stage": stage, "settings": settings, "code_version": code_version, "inputs": inputs})


def source_digest(recipe_of_source: str, checksum: str) -> str:
    """What a source (aoi, tiffs, reference, uploads) hands on: its recipe and its bytes."""
    return fingerprint([recipe_of_source, checksum])


def fingerprint(value: object) -> str:
    """sha256 of a JSON value in canonical form (sorted keys, no spaces; NaN and infinities by name)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
