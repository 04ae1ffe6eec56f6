"""What every part of the project file is made of: the frozen base model, names, dates and the kinds of numbers."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
FloatType = Literal["float32", "float64"]
ArrayType = Literal["uint8", "uint16", "int16", "int32", "float32", "float64"]

_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_CRON_PART = re.compile(r"(?:\*|(?P<first>\d+)(?:-(?P<last>\d+))?)(?:/(?P<step>\d+))?")


def _twice(value: object) -> object:
    """A single size stands for both axes."""
    return (value, value) if isinstance(value, int) else value


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _no_timestamp(value: object) -> object:
    """A bare number would be read as seconds since 1970: `sensing_time: 2020` is meant as a year."""
    if isinstance(value, int | float):
        raise ValueError("a number, not a date: write it as YYYY-MM-DD")
    return value


def _utc(value: dt.datetime) -> dt.datetime:
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def _cron(value: str) -> str:
    """Five fields of numbers: a schedule that can't be read would otherwise stop every project of the instance."""
    fields = value.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError("not a cron schedule: five fields are wanted, as in '0 6 * * *' (every day at 6:00 UTC)")
    for text, (name, low, high) in zip(fields, _CRON_FIELDS):
        for part in text.split(","):
            found = _CRON_PART.fullmatch(part)
            numbers = [int(found[group]) for group in ("first", "last") if found[group]] if found else [-1]
            if (
                numbers != sorted(numbers)
                or any(not low <= number <= high for number in numbers)
                or part.endswith("/0")
            ):
                raise ValueError(f"not a cron schedule: {part} is no {name}: *, or a number from {low} to {high}")
    return " ".join(fields)


def like(example: str, pattern: str) -> AfterValidator:
    """A text of a pattern; one that is not is told by an example, since few people read patterns."""
    shape = re.compile(pattern)

    def check(value: str) -> str:
        if shape.fullmatch(value) is None:
            raise ValueError(f"not of the right form: write it as {example}")
        return value

    return AfterValidator(check)


Buffer = Annotated[tuple[NonNegativeInt, NonNegativeInt], BeforeValidator(_twice)]
BlockSize = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_twice)]
Date = Annotated[dt.date, BeforeValidator(_no_timestamp)]
Time = Annotated[dt.datetime, BeforeValidator(_no_timestamp), AfterValidator(_utc)]
Cron = Annotated[str, AfterValidator(_cron)]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), Field(min_length=1)]


class Section(BaseModel):
    """A part of the project file: immutable, and no unknown key is let through."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
