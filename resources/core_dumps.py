"""No core dumps: a process that holds credentials leaves none of its memory on a disk."""

from __future__ import annotations

import resource


def forbid_core_dumps() -> None:
    """For this process and all that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
