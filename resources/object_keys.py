"""The keys of a project folder: relative paths that never leave it, what of them is hidden, and which a glob means."""

from __future__ import annotations

import fnmatch
from pathlib import PurePosixPath

from eo_assets.errors import StoreError

UNFINISHED = frozenset({".part", ".partial", ".crdownload", ".filepart", ".tmp"})
"""Suffixes of what browsers and copying programs have not finished."""

MAGIC = frozenset("*?[")


def checked_key(key: str, place: object) -> PurePosixPath:
    """A key as a relative path. One that leaves `place`, or that not every store can hold, is a StoreError."""
    parts = PurePosixPath(key)
    if parts.is_absolute() or ".." in parts.parts:
        raise StoreError(f"{place}: key {key!r} leaves the project folder; use a relative path without `..`")
    if "//" in key or any(ord(character) < 32 for character in key):
        raise StoreError(f"{place}: key {key!r} has an empty part or a control character; give it another name")
    return parts


def joined(prefix: str, name: str) -> str:
    """The key of a name under a prefix, which may be the root."""
    return f"{prefix}/{name}" if prefix else name


def hidden(key: str) -> bool:
    """Is any part of it a dot name?"""
    return any(part.startswith(".") for part in key.split("/"))


def unfinished(key: str) -> bool:
    """Is it, by its name, still being copied, or a backup of an editor?"""
    return key.endswith("~") or PurePosixPath(key).suffix in UNFINISHED


def literal_head(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The folder that a glob certainly lies in, and its parts below that folder."""
    parts = PurePosixPath(pattern).parts
    first = next((n for n, part in enumerate(parts) if MAGIC.intersection(part)), len(parts) - 1)
    return "/".join(parts[:first]), parts[first:]


def matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Does a file match a glob as `pathlib.Path.glob` matches it? `**` is any number of folders, and no file."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return len(pattern) > 1 and any(matches(parts[n:], pattern[1:]) for n in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])
