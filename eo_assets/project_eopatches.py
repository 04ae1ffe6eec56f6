"""The project file's section about EOPatches: data features of digital numbers, and masks of valid pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, SerializerFunctionWrapHandler, model_serializer

from eo_assets.core.mask_classes import Scheme
from eo_assets.core.masks import Below, NotZero, Rule, invalid_classes, valid_classes
from eo_assets.project_types import FloatType, Name, Names, Section

LARGEST_DILATION = 100


def _class_name(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("no class: write the name of a class")
    return value


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):  # which Python takes for a 1 or a 0
        raise ValueError("true and false are no values of a tiff: write 1 or 0, or the name of a class")
    return value


# A quoted number is a number, as it was when there were no names.
Class = Annotated[
    int | Annotated[str, BeforeValidator(_class_name)],
    Field(union_mode="left_to_right"),
    BeforeValidator(_no_truth_value),
]
Classes = tuple[Class, ...]


class BandStack(Section):
    """A data feature of the EOPatch: digital numbers of some tiffs times a factor."""

    source: Names = Field(alias="from")
    factor: PositiveFloat = 1.0
    dtype: FloatType = "float32"


class ValidMask(Section):
    """A boolean mask of the EOPatch, by exactly one of four rules.

    `valid` and `invalid` list values, or names of a scheme's classes; `valid: bool` is a bare cast: every value but 0
    is valid. `below` is for a probability. `all_of` joins other masks: valid where all of them are.
    """

    source: str | None = Field(None, alias="from")
    classes: Scheme | None = Field(None, description="the scheme that gives values their names")
    valid: Classes | Literal["bool"] | None = None
    invalid: Classes | None = None
    below: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = None
    all_of: tuple[Name, ...] | None = None
    dilate_px: Annotated[int, Field(ge=1, le=LARGEST_DILATION)] | None = Field(
        None, description="radius of the disc by which what is invalid grows"
    )

    @property
    def rule(self) -> Rule | None:
        """What makes a pixel of `source` valid; None for a mask that joins others."""
        if self.valid == "bool":
            return NotZero()
        if self.valid is not None:
            return valid_classes(self.valid, self.classes)
        if self.invalid is not None:
            return invalid_classes(self.invalid, self.classes)
        return None if self.below is None else Below(self.below)

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not said: a key that a later version brings makes no recipe another one."""
        return {key: value for key, value in handler(self).items() if value is not None}


class EOPatches(Section):
    """From tiffs to the features of an EOPatch: (time, y, x, band)."""

    data: Mapping[Name, BandStack] = Field(min_length=1)
    masks: Mapping[Name, ValidMask] = Field({})
