"""What a model expects of its input and gives: compared with what a project makes, before anything is bought."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from eo_assets.core.dark_targets import WITH_OFFSET
from eo_assets.core.periods import Period
from eo_assets.errors import ModelError

ModelKind = Literal["lightgbm_regressor", "lightgbm_classifier"]

SERVICE_DEFAULT, HARMONISED, AS_DELIVERED = "the service's default", "harmonised", "as delivered"
"""What `offset_handling` says of a collection. Models of older versions say the first of Sentinel-2, whose offset the
service takes out unless told."""

TOLERANCE_DAYS, LEAP_DAY = 2, 1
"""How far the same period of two years may lie apart; and a leap day moves the days after it, and their places, by one.
"""

LEAP_YEAR, DAYS_OF_LEAP_YEAR = 2000, 366

LATER_KEYS = ("composite", "periods", "indices")
"""Keys that signatures of older versions don't have. They say something of composites alone, and are left out where
there is none, so that no recipe changes because of an upgrade."""


@dataclass(frozen=True, slots=True)
class Season:
    """A period of a composite without its year: the days `MM-DD` of its start and of its end, and how long it is."""

    label: str
    start: str
    end: str
    days: float

    @classmethod
    def of(cls, period: Period) -> Season:
        """Where in the year a period lies."""
        days = (period.end - period.start) / dt.timedelta(days=1)
        return cls(period.label, f"{period.start:%m-%d}", f"{period.end:%m-%d}", round(days, 3))

    def same_as(self, other: Season) -> bool:
        """Is it the same part of another year? By its days: a number of periods says nothing of when they are.

        Short ones have less tolerance, a quarter of a period, though never less than what a leap day moves.
        """
        tolerance = min(TOLERANCE_DAYS, max(LEAP_DAY, min(self.days, other.days) / 4))
        apart = (_days_apart(self.start, other.start), _days_apart(self.end, other.end), abs(self.days - other.days))
        return self.label == other.label and max(apart) <= tolerance

    def __str__(self) -> str:
        return f"{self.label} ({self.start} to {self.end}, {self.days:g} days)"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model expects of its input and gives: it must equal the signature of the features it predicts from.

    `columns` are `<feature>_<date>`, or `<feature>_<period>`, in order. `offset_handling` says, collection by
    collection, whether values are harmonised over the processing baseline 04.00. `classes` are the original codes,
    empty for a regression. With a composite, `composite` says in words how one value a period is made, `periods` when
    they are, and `indices` which bands an index is of; all three are empty where dates are taken as they are.
    """

    kind: ModelKind
    columns: tuple[str, ...]
    factor: float
    reference: str
    offset_handling: tuple[str, ...]
    classes: tuple[int, ...] = ()
    composite: str = ""
    periods: tuple[Season, ...] = ()
    indices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the way back."""
        said = asdict(self)
        return {key: value for key, value in said.items() if value or key not in LATER_KEYS}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Signature:
        """The signature written by `as_json`. Raises ModelError for anything else, naming what is amiss."""
        try:
            if bool(values.get("composite")) != bool(values.get("periods")):
                raise ValueError("composite and periods, one without the other")
            return cls(
                kind=values["kind"],
                columns=tuple(map(str, values["columns"])),
                factor=float(values["factor"]),
                reference=str(values["reference"]),
                offset_handling=tuple(map(str, values["offset_handling"])),
                classes=tuple(map(int, values["classes"])),
                composite=str(values.get("composite", "")),
                periods=tuple(_season(period) for period in values.get("periods", ())),
                indices=tuple(map(str, values.get("indices", ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"not a model's signature ({type(error).__name__}: {error}); use the one written with the model"
            ) from None

    def difference(self, other: Signature) -> str | None:
        """The first thing in which two signatures differ, in words; None when a model fits."""
        for name in ("kind", "reference", "factor", "offset_handling"):
            mine, others = getattr(self, name), getattr(other, name)
            same = _handled(mine) == _handled(others) if name == "offset_handling" else mine == others
            if not same:
                return f"{name}: the model has {mine!r}, the project {others!r}"
        if self.composite != other.composite:
            mine, others = (said or "none, dates as they are" for said in (self.composite, other.composite))
            return f"composite: the model has {mine}; the project has {others}"
        return (
            _difference_of_periods(self.periods, other.periods)
            or _difference_of_lists("index", self.indices, other.indices)
            or _difference_of_lists("column", self.columns, other.columns)
        )


def first_difference(columns: Sequence[str], others: Sequence[str]) -> int | None:
    """The first position at which two lists of columns differ, which may be the end of the shorter; None if nowhere."""
    if tuple(columns) == tuple(others):
        return None
    unequal = (position for position, pair in enumerate(zip(columns, others)) if pair[0] != pair[1])
    return next(unequal, min(len(columns), len(others)))


def _handled(offset_handling: Sequence[str]) -> list[str]:
    """What has been done about the offset, where older versions say whose choice it was."""
    default = {f"{name}: {SERVICE_DEFAULT}": f"{name}: {HARMONISED}" for name in WITH_OFFSET}
    return [default.get(said, said) for said in offset_handling]


def _difference_of_lists(what: str, mine: Sequence[str], others: Sequence[str]) -> str | None:
    position = first_difference(mine, others)
    if position is None:
        return None
    own, other = ((*names, "none")[position] for names in (mine, others))
    return f"{what} {position}: the model has {own}, the project {other}"


def _difference_of_periods(mine: Sequence[Season], others: Sequence[Season]) -> str | None:
    if len(mine) != len(others):
        own, other = (f"{len(periods)} ({periods[0]} to {periods[-1]})" for periods in (mine, others))
        return f"periods: the model has {own}; the project has {other}"
    for position, (period, wanted) in enumerate(zip(mine, others)):
        if not period.same_as(wanted):
            return f"period {position}: the model has {period}; the project has {wanted}"
    return None


def _days_apart(day: str, other: str) -> int:
    """Days between two days `MM-DD` of the year, the short way round its end."""
    first, second = (dt.date.fromisoformat(f"{LEAP_YEAR}-{text}") for text in (day, other))
    apart = abs((first - second).days)
    return min(apart, DAYS_OF_LEAP_YEAR - apart)


def _season(values: Mapping[str, Any]) -> Season:
    start, end = str(values["start"]), str(values["end"])
    _days_apart(start, end)  # raises for what is no day of the year
    return Season(str(values["label"]), start, end, float(values["days"]))
