"""What a check of an account found: one row of `eo-assets doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from eo_assets.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Row:
    """`good` is None where it can't be known, or stops nothing; `remedy` says what to do where it is not True."""

    about: str
    what: str
    good: bool | None
    found: str
    remedy: str = ""


Rows = Callable[[], Iterable[Row]]


def told(about: str, what: str, ask: Rows, *, stops: bool = True) -> Iterator[Row]:
    """The rows of a check; what AWS refuses is a row too. `stops`: nothing works without what was asked."""
    try:
        yield from ask()
    except ClusterError as error:
        yield Row(about, what, False if stops else None, str(error))
