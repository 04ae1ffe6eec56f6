"""What every part of the project file is made of: the frozen base model, names, dates and the kinds of numbers."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
FloatType = Literal["float32", "float64"]
ArrayType = Literal["uint8", "uint16", "int16", "int32", "float32", "float64"]


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


Buffer = Annotated[tuple[NonNegativeInt, NonNegativeInt], BeforeValidator(_twice)]
BlockSize = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_twice)]
Date = Annotated[dt.date, BeforeValidator(_no_timestamp)]
Time = Annotated[dt.datetime, BeforeValidator(_no_timestamp), AfterValidator(_utc)]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), Field(min_length=1)]


class Section(BaseModel):
    """A part of the project file: immutable, and no unknown key is let through."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
