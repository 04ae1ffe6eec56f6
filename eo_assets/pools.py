"""Pools: what may run only so many times at once. One for a project's tiles, one for each step that spans them."""

from __future__ import annotations

from typing import Literal, get_args

Shared = Literal["tiles", "train", "map", "publish"]


def pool(project: str, shared: Shared) -> str:
    """The name of a project's pool, as the UI lists it under Deployment, Concurrency."""
    return f"{project}_{shared}"


def pools(project: str) -> list[str]:
    """All pools of a project."""
    return [pool(project, shared) for shared in get_args(Shared)]
