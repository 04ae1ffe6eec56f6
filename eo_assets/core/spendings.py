"""What was reserved, spent and approved in a calendar month, as plain values that go into JSON and come back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FORMAT = 2
"""2 knows who was signed in."""

UNAUTHENTICATED = "unauthenticated"


@dataclass(frozen=True, slots=True)
class Spending:
    """One job, or the Process requests or machines of one run: what was estimated, is reserved, and was charged.

    Units are processing units of `service`, US dollars for machines of `ec2`. `actual` is None until it is settled.
    """

    id: str
    kind: Literal["batch", "process", "machines"]
    service: str
    tiles: int
    estimate: float
    reserved: float
    user: str = ""
    created: str = ""
    job: str = ""
    actual: float | None = None
    approval: str = ""
    note: str = ""

    @property
    def counted(self) -> float:
        """What it takes of the budget: the reservation while it is open, what was charged afterwards."""
        return self.reserved if self.actual is None else self.actual


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's word that up to `units` may be spent this month; spendings name the approval that they draw on.

    `user` is what the one who approves says, or the command's account; `signed_in` is whom the proxy has signed in.
    """

    id: str
    user: str
    created: str
    units: float
    signed_in: str = UNAUTHENTICATED

    @property
    def by(self) -> str:
        """Who it was, in words that tell a claim from a sign-in."""
        if self.signed_in == UNAUTHENTICATED:
            return f"{self.user} ({UNAUTHENTICATED})"
        return self.signed_in


@dataclass(frozen=True, slots=True)
class Month:
    """The document of a calendar month."""

    spendings: Mapping[str, Spending] = field(default_factory=dict)
    approvals: tuple[Approval, ...] = ()

    @property
    def counted(self) -> float:
        """Spent and reserved together."""
        return sum(spending.counted for spending in self.spendings.values())

    def left_of(self, approval: Approval, besides: str = "") -> float:
        """What an approval still covers, not counting the spending `besides`."""
        drawn = (s.counted for s in self.spendings.values() if s.approval == approval.id and s.id != besides)
        return approval.units - sum(drawn)

    def unapproved(self, services: Collection[str], since: str = "") -> float:
        """What these services have taken or reserved since a time (ISO 8601, UTC) without drawing on an approval."""
        mine = (s for s in self.spendings.values() if s.service in services and not s.approval and s.created >= since)
        return sum(spending.counted for spending in mine)

    def allowed(self, services: Collection[str]) -> float:
        """What the largest approval still covers if all that was spent after it without an approval drew on it too."""
        left = (self.left_of(given) - self.unapproved(services, given.created) for given in self.approvals)
        return max(left, default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": FORMAT,
            "spendings": {name: asdict(spending) for name, spending in self.spendings.items()},
            "approvals": [asdict(approval) for approval in self.approvals],
        }


def month_from_json(document: Mapping[str, Any]) -> Month:
    """What `Month.as_json` gave. Raises ValueError, TypeError or KeyError for anything else."""
    if document["format"] > FORMAT:
        raise ValueError(f"written by a newer version, format {document['format']}")
    spendings = {name: Spending(**values) for name, values in document["spendings"].items()}
    return Month(spendings, tuple(Approval(**values) for values in document["approvals"]))
