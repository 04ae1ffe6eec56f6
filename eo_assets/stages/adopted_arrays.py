"""Arrays of an EOPatch that somebody else wrote, read window by window as if they were tiffs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from eo_assets.project import BandStack, EOPatches, ValidMask
from resources.eopatch_files import DATA, MASK, ROWS, Scaling
from resources.foreign_eopatches import ForeignEOPatch

DIGITAL_NUMBER_SLACK = 0.01
"""How far a value may lie off a whole number times the factor, in digital numbers: float32 is off by 0.004 at most."""

LARGEST = 65_535


class AdoptedFrames:
    """One feature (time, y, x, band), with the dates that are kept, ascending.

    `order` are the positions of those dates in the array. With `bands` values are handed on as the digital numbers that
    they were, by the factor of the project; without, as they are.
    """

    rows_at_once: ClassVar[int] = ROWS
    """Of one stored block: what others wrote may be eight bytes a value."""

    def __init__(self, array: Any, outputs: Sequence[str], order: Sequence[int], bands: BandStack | None, told: str):
        """`outputs` are the names of the last axis."""
        self._array, self._outputs, self._order, self._bands = array, tuple(outputs), list(order), bands
        self._told = told

    @property
    def truth(self) -> bool:
        """Are the values true and false, and no codes?"""
        return bool(self._array.dtype.kind == "b")

    @property
    def dates(self) -> int:
        """How many dates each read has."""
        return len(self._order)

    def read(self, output: str, rows: slice, columns: slice) -> NDArray[Any]:
        """(time, rows, columns) of one band."""
        return self._numbers(self._window(rows, columns)[..., self._outputs.index(output)])

    def stack(self, outputs: Sequence[str], rows: slice, columns: slice) -> NDArray[Any]:
        """(time, rows, columns, band) of several bands."""
        block = self._window(rows, columns)
        whole = tuple(outputs) == self._outputs
        return self._numbers(block if whole else block[..., [self._outputs.index(output) for output in outputs]])

    def _window(self, rows: slice, columns: slice) -> NDArray[Any]:
        """(time, rows, columns, band) of all dates, where it can be without a copy."""
        return read_rows(self._array, (slice(None), rows, columns), self._told)

    def _numbers(self, block: NDArray[Any]) -> NDArray[Any]:
        """The dates that are kept; a date at a time, since fractions are looked at in float64."""
        if self._bands is None:
            return block[self._order]
        dates = (digital_numbers(block[date], self._bands, self._told) for date in self._order)
        first = next(dates)
        numbers = np.empty((len(self._order), *first.shape), first.dtype)
        for position, values in enumerate(itertools.chain([first], dates)):
            numbers[position] = values
        return numbers


def adopted_frames(
    eopatch: ForeignEOPatch, wanted: EOPatches, tile: Tile, dates: int, order: Sequence[int], scratch: Path
) -> dict[str, AdoptedFrames]:
    """Every feature that a project wants, checked for its shape; a mask that joins others may not be there.

    `dates` are those of the EOPatch, `order` the positions of those that are kept. Raises TileError.
    """
    found: dict[str, AdoptedFrames] = {}
    for name, bands in wanted.data.items():
        array, told = eopatch.array(DATA, name, scratch), f"{eopatch.folder}: {DATA}/{name}"
        check_shape(array, (dates, *tile.shape, len(bands.source)), told, tile)
        found[name] = AdoptedFrames(array, bands.source, order, bands, told)
    there = eopatch.names(MASK)
    for name, mask in wanted.masks.items():
        if mask.all_of is not None and name not in there:
            continue  # it is joined from the others
        array, told = eopatch.array(MASK, name, scratch), f"{eopatch.folder}: {MASK}/{name}"
        check_shape(array, (dates, *tile.shape, 1), told, tile)
        found[name] = AdoptedFrames(array, [mask.source or name], order, None, told)
        if mask.all_of is not None and not found[name].truth:
            raise TileError(
                f"{told} holds {array.dtype} codes, and eopatches.masks.{name} joins masks: save it as true and false, "
                "or without it, so that it is joined anew"
            )
    return found


def as_adopted(wanted: EOPatches, frames: Mapping[str, AdoptedFrames]) -> EOPatches:
    """What makes adopted masks: true and false are what their maker found valid, codes are judged as those of tiffs."""
    masks = {
        name: ValidMask.model_validate({"from": mask.source or name, "valid": "bool"})
        if name in frames and frames[name].truth
        else mask
        for name, mask in wanted.masks.items()
    }
    return wanted.model_copy(update={"masks": masks})


def read_rows(array: Any, place: tuple[slice, ...], told: str) -> NDArray[Any]:
    """Part of an array in memory; what can't be decoded is a TileError."""
    try:
        return np.asarray(array[place])
    except (RuntimeError, ValueError, KeyError) as error:
        raise TileError(f"{told} is damaged: {error}") from None


def check_shape(array: Any, shape: tuple[int, ...], told: str, tile: Tile) -> None:
    """Refuse an array that is not of the tile's pixels, or of other dates or bands. Raises TileError."""
    if array.dtype.kind not in "biuf":
        raise TileError(f"{told} holds {array.dtype}, which are no numbers")
    if tuple(array.shape) != shape:
        raise TileError(f"{told} is {tuple(array.shape)}; {tile.name} needs {shape}: (dates, rows, columns, bands)")


def digital_numbers(values: NDArray[Any], bands: BandStack, told: str) -> NDArray[Any]:
    """What the service delivered, out of digital numbers (integers) or of these times the factor (fractions).

    Raises TileError where fractions are no whole multiples of the factor, or where a digital number doesn't fit.
    """
    if bands.factor == 1.0:
        return values
    numbers = values
    if values.dtype.kind == "f":
        exact = values.astype(np.float64) / bands.factor
        numbers = np.rint(exact)
        # NaN is as far off as can be.
        if not (close := np.abs(exact - numbers) <= DIGITAL_NUMBER_SLACK).all():
            raise TileError(
                f"{told}: {values[~close].flat[0]!s} is no whole number times the factor {bands.factor:g} of the "
                "project; it was made with another factor, or was resampled or masked"
            )
    if Scaling(bands.factor).divisor is None or bands.dtype != "float32":
        return numbers
    low, high = numbers.min(), numbers.max()
    if low < 0 or high > LARGEST:
        raise TileError(
            f"{told}: values {values.min()!s} to {values.max()!s} are digital numbers {low:.0f} to {high:.0f}, beyond "
            f"0..{LARGEST}; are they digital numbers already, stored as fractions? Save them as integers"
        )
    return numbers.astype(np.uint16)
