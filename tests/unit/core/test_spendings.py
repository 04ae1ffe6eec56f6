"""What an approval still covers, where spendings need not name one."""

import pytest

from eo_assets.core.spendings import Approval, Month, Spending


def spending(identity: str, service: str, units: float, created: str, approval: str = "") -> Spending:
    return Spending(identity, "batch", service, 1, units, units, created=created, approval=approval)


MONTH = Month(
    {
        spent.id: spent
        for spent in (
            spending("before", "paid", 7, "2026-11-01T00:00:00+00:00"),
            spending("free", "local", 500, "2026-11-03T00:00:00+00:00"),
            spending("named", "paid", 20, "2026-11-03T00:00:00+00:00", approval="first"),
            spending("after", "paid", 30, "2026-11-04T00:00:00+00:00"),
        )
    },
    (
        Approval("first", "ann", "2026-11-02T00:00:00+00:00", 100),
        Approval("second", "ann", "2026-11-05T00:00:00+00:00", 40),
    ),
)


def test_what_was_spent_without_an_approval() -> None:
    assert MONTH.unapproved({"paid"}) == 37
    assert MONTH.unapproved({"paid"}, since="2026-11-02") == 30
    assert MONTH.unapproved({"paid", "local"}) == 537


def test_an_approval_shrinks_by_what_was_spent_since() -> None:
    assert MONTH.allowed({"paid"}) == 50  # 100 less 20 that name it, less 30 that name none
    assert Month({}, MONTH.approvals).allowed({"paid"}) == 100
    assert Month().allowed({"paid"}) == pytest.approx(0)
