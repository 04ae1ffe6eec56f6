"""How this process's memory is held by the C library, where it is glibc: kept for the next block, or given back."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of malloc.h for `mallopt`."""

KEPT = 256 << 20
"""Bytes of free memory at the end of the heap that a worker keeps: the arrays of one block of a tile."""

LARGEST = 1 << 30
"""Bytes from which on an array gets pages of its own from the kernel, which go back to it when the array goes."""


def keep_freed() -> None:
    """Let large arrays lie where those before them lay; called before each tile, since it is cheap.

    Unless told, the C library asks the kernel for every array of over 32 MB and gives it back with the array. The
    stages work block by block, so the kernel would clear the same hundreds of MB anew for each: a tenth of a tile's
    seconds. Before 2.35 glibc refuses so high a limit, and is then left as it is: told of the other one alone it would
    no longer learn from what is freed, and ask the kernel for everything from 128 KB on.
    """
    tune = _function("mallopt")
    if tune and tune(MMAP_THRESHOLD, LARGEST):
        tune(TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Let the C library return its free memory.

    GDAL's cache, and windows of tiffs, would otherwise count as a worker's memory for as long as it lives.
    """
    if trim := _function("malloc_trim"):
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
