"""The ways in which the real service misbehaves, as settings that a test switches on. Plain values."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NEEDED_TO_CREATE = 1000.0
"""Processing units that an account must have for a batch request to be created, docs.sentinel-hub.com says."""

Times = Annotated[int, Field(ge=-1)]


class _Setting(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallFault(_Setting):
    """Which calls it strikes: of those that match, the next `count`, or each with a `probability`.

    `path` is a shell pattern in which `*` stands for slashes too. Whether the n-th matching call is struck follows
    from `seed` and n alone.
    """

    count: int | None = Field(default=None, ge=1)
    probability: float | None = Field(default=None, gt=0, le=1)
    seed: int = 0
    path: str = "/api/*"
    method: Literal["GET", "POST", "PUT", "DELETE"] | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.count is None) == (self.probability is None):
            raise ValueError("give count (the next n calls) or probability, one of them")
        return self

    def matches(self, method: str, path: str) -> bool:
        """Whether a call is of those that may be struck."""
        return self.method in (None, method) and fnmatchcase(path, self.path)

    def strikes(self, kind: str, n: int) -> bool:
        """Whether the n-th matching call, counted from 0, is struck."""
        if self.probability is None:
            return n < (self.count or 0)
        digest = hashlib.sha256(f"{self.seed}/{kind}/{n}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.probability * 2**64


class Throttle(CallFault):
    """429 with Retry-After in milliseconds, as the real service says it."""

    retry_after_ms: int = Field(default=1000, ge=0)


class ServerErrors(CallFault):
    """An answer of the 5xx kind."""

    status: Literal[500, 502, 503, 504] = 503


class Drop(CallFault):
    """The connection is closed without an answer."""


class Faults(_Setting):
    """Everything that can be switched on. The defaults misbehave in nothing."""

    throttle: Throttle | None = None
    errors: ServerErrors | None = None
    drop: Drop | None = None
    slow_call_s: float = Field(default=0.0, ge=0, le=600)
    """Seconds before any call of the API is answered."""

    slow_s: float = Field(default=0.0, ge=0, le=3600)
    """Seconds that a batch tile takes longer."""
    fatal_tiles: dict[str, Times] = Field(default_factory=dict)
    """How often a tile of that name still turns FATAL, -1 for ever."""
    fatal_error: str = "Internal error: the feature failed too often and is not tried again"
    empty_tiles: tuple[str, ...] = ()
    """Tiles that end DONE with the error "No data" and deliver nothing."""
    empty_without_scenes: bool = False
    """The same for every tile for which no scene is found."""

    hide_new_requests: int = Field(default=0, ge=0)
    """A request created from now on is not found by its first n GETs: a read replica that lags."""
    lose_create_answer: int = Field(default=0, ge=0)
    """The next n creations of batch requests do their work and then close the connection without an answer."""
    die_after_tiles: int | None = Field(default=None, ge=1)
    """The process ends at once after so many more delivered tiles; once, not again after its restart."""

    cost_factor: float = Field(default=1.0, gt=0)
    """A batch request's costPU is so many times what the formula says."""
    out_of_units_after: float | None = Field(default=None, ge=0)
    """A running batch request stops itself, OUT_OF_PU, when its costPU has reached this."""
    balance: float | None = Field(default=None, ge=0)
    """Processing units that the account has; None: enough."""
    refuse_restart_minutes: float = Field(default=0.0, ge=0)
    """A stopped request may not be started for so long."""

    token_lifetime_s: int | None = Field(default=None, ge=1)
    """How long tokens given from now on are good."""
    revoke_tokens: bool = False
    """All tokens given so far are refused from now on. Done when it is asked for, and not kept."""

    def of_calls(self) -> tuple[tuple[str, CallFault], ...]:
        """The faults that strike calls, in the order in which they are tried."""
        named = (("drop", self.drop), ("throttle", self.throttle), ("errors", self.errors))
        return tuple((name, fault) for name, fault in named if fault is not None)
