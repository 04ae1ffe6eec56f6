"""Why a tile's task came to nothing, and what follows: again, again with more memory, or never again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eo_assets.errors import EoAssetsError, TransientError

Kind = Literal["final", "passing", "memory", "machine", "overrun"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with one try of a tile, in one line.

    `final` is said by the tile's own code and stays; `passing` may be gone next time; `memory` wants more of it;
    `machine` is a lost node, which is not the tile's doing; `overrun` took too long.
    """

    kind: Kind
    reason: str


def fault_of(error: Exception) -> Fault:
    """What an error of Ray says about a task."""
    import ray.exceptions as said

    cause = getattr(error, "cause", None)
    if isinstance(cause, TransientError):
        return Fault("passing", one_line(cause))
    if isinstance(cause, EoAssetsError):
        return Fault("final", one_line(cause))
    if isinstance(error, said.OutOfMemoryError) or isinstance(cause, MemoryError):
        return Fault("memory", "the machine ran out of memory")
    if isinstance(error, said.WorkerCrashedError):
        return Fault("memory", "its worker was killed, by hand or for want of memory")
    lost = (said.NodeDiedError, said.LocalRayletDiedError, said.ObjectLostError, said.RpcError, said.GetTimeoutError)
    if isinstance(error, lost):
        return Fault("machine", "its machine was lost")
    if isinstance(error, said.TaskCancelledError) and cause is None:
        return Fault("passing", "its task was cancelled")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Fault("final", lines[-1].strip())


def told(faults: list[Fault]) -> str:
    """The last fault of a tile that was given up, how often it was tried, and what it met before: one line."""
    last = faults[-1].reason
    if len(faults) == 1:
        return last
    before = [reason for reason in dict.fromkeys(fault.reason for fault in faults[:-1]) if reason != last]
    return f"{last} (tried {len(faults)} times{''.join(f'; before: {reason}' for reason in before)})"


def one_line(error: BaseException) -> str:
    """An error's text, its lines joined."""
    return " ".join(str(error).split()) or type(error).__name__
