"""Loops over pixels as machine code: numba, loaded when the first loop runs and not before."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


def run_compiled(loop: Callable[..., None], *arguments: Any) -> None:
    """Run a loop that fills arrays, compiled for the types of its arguments. It lets go of the interpreter's lock.

    Machine code is kept in numba's cache, beside the module or in the user's cache folder, for the processes to come.
    Where neither can be written, the disk is full, or a kept file is damaged, each process compiles for itself: some
    seconds, nothing else.
    """
    try:
        _kept(loop)(*arguments)
    except Exception:  # a damaged file can raise any of pickle's; a loop that fails by itself fails again
        _compiled(loop)(*arguments)


@cache
def _kept(loop: Callable[..., None]) -> Callable[..., None]:
    """The loop with a cache on disk; without one where numba finds no folder to write to."""
    from numba import njit

    try:
        kept: Callable[..., None] = njit(nogil=True, cache=True)(loop)
    except RuntimeError:
        return _compiled(loop)
    return kept


@cache
def _compiled(loop: Callable[..., None]) -> Callable[..., None]:
    from numba import njit

    compiled: Callable[..., None] = njit(nogil=True)(loop)
    return compiled
