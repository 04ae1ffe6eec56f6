"""A tile on its way through the tries of `tile_tasks.py`, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from resources.cluster_size import WorkerNeeds
from resources.task_faults import Fault

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Finished(Generic[Work, Result]):
    """One tile's walk: its result, or why there is none after all tries."""

    work: Work
    result: Result | None
    error: str = ""


@dataclass(slots=True)
class Try(Generic[Work]):
    """A tile on its way: what it met so far, since when it runs and on which of Ray's nodes."""

    work: Work
    needs: WorkerNeeds
    faults: list[Fault] = field(default_factory=list)
    ends_at: float | None = None
    stopping: bool = False
    node: str = ""


def name_of(work: Any) -> str:
    """What a log calls a work item: its tile, where it has one."""
    return getattr(getattr(work, "tile", None), "name", None) or str(work)
