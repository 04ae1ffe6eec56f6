"""What this process has freed, given back to the machine."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Let the C library return its free memory, where it is glibc.

    It keeps blocks of up to 32 MB for itself, once such a block was freed: hundreds of MB of GDAL's cache would count
    as a worker's memory for as long as it lives.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
