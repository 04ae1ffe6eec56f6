"""Labels of a vector file for one tile: polygons ready to be burnt, points on their pixels. Runs on workers."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import shapely
from numpy.typing import NDArray

from eo_assets.core.labels import cast
from eo_assets.core.points import Points, in_cell, pixels_of
from eo_assets.core.tile import Tile
from eo_assets.errors import TileError
from resources.vector_features import Features, read_features


def polygons_of(
    path: Path, layer: str | None, column: str | None, value: float, tile: Tile, order_by: str | None = None
) -> list[tuple[Any, float]]:
    """(geometry in the tile's CRS, value) of every polygon that meets the tile, the topmost last.

    The value is the column's, or `value` for all. Later polygons are burnt over earlier ones: in the order of the file,
    or ascending by `order_by`, those that are equal in the order of the file. Points, lines and polygons without an
    area are left out. Raises TileError for a file, layer or column that is not there, and for a polygon whose value or
    place in the order is no number.
    """
    named = [name for name in (column, order_by) if name is not None]
    read = read_features(path, layer, named, tile)
    has_area = shapely.area(shapely.convex_hull(read.shapes)) > 0  # GEOS and GDAL fail on a polygon that is a line
    found = read.take((shapely.get_dimensions(read.shapes) == 2) & has_area)
    if order_by is not None:
        found = found.take(np.argsort(_numbers(found, order_by), kind="stable"))
    values = np.full(len(found.shapes), value) if column is None else _numbers(found, column)
    return list(zip(found.placed(tile.epsg).tolist(), values.tolist()))


@dataclass(frozen=True, slots=True)
class PointColumns:
    """Where a points file says what: names, labels, dates and weights. `dtype` and `nodata` are the reference's."""

    layer: str | None
    id: str
    label: str
    date: str | None
    weight: str | None
    dtype: str
    nodata: float

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [name for name in (self.id, self.label, self.date, self.weight) if name is not None]


def points_of(path: Path, columns: PointColumns, tile: Tile) -> Points:
    """The points in the tile's cell, in the order of the file.

    Raises TileError for whatever `check_points` refuses in a feature near the tile.
    """
    found = _read_points(path, columns, tile)
    ids, labels, dates, weights = _checked(found, columns)
    x, y = shapely.get_coordinates(found.placed(tile.epsg)).T
    here = in_cell(x, y, tile)
    pixels = pixels_of(x[here], y[here], tile)
    return Points(pixels, ids[here], labels[here], dates[here], weights[here])


def check_points(path: Path, columns: PointColumns) -> None:
    """Read the whole file, and raise TileError unless every feature is one point with all that its columns promise.

    A point needs an id of its own, a number as its label that fits the reference's type and is not its nodata, a weight
    above 0 and a date that can be read (or none). The message names file, feature, column, value and remedy.
    """
    found = _read_points(path, columns, None)
    ids = _checked(found, columns)[0]
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(again):
        first, second = found.numbers[order[again[0]]], order[again[0] + 1]
        _refuse(found, second, columns.id, f"also the id of feature {first}", "give every point an id of its own")


def _checked(
    found: Features, columns: PointColumns
) -> tuple[NDArray[np.str_], NDArray[Any], NDArray[np.datetime64], NDArray[np.float32]]:
    """Ids, labels, dates and weights (n,) of features that are all points."""
    labels = _numbers(found, columns.label)
    _each(found, columns.label, labels == columns.nodata, "reference.nodata", "choose another nodata or label")
    stored, fits = cast(labels, columns.dtype)
    unfit = f"a label that reference.dtype {columns.dtype} can't hold"
    _each(found, columns.label, ~fits, unfit, "choose a type that holds it")
    weights = np.ones(len(labels)) if columns.weight is None else _numbers(found, columns.weight)
    light = ~((weights > 0) & np.isfinite(weights.astype(np.float32)))
    _each(found, columns.weight or "", light, "no weight", "give every point a weight above 0, or remove the point")
    return _ids(found, columns.id), stored, _dates(found, columns.date), weights.astype(np.float32)


def _read_points(path: Path, columns: PointColumns, tile: Tile | None) -> Features:
    """Features that are all single points, a multipoint of one among them."""
    found = read_features(path, columns.layer, columns.names, tile)
    shapes = found.shapes
    parts = shapely.get_num_geometries(shapes)
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    kinds = shapely.get_type_id(shapes)
    multi = kinds == shapely.GeometryType.MULTIPOINT
    wrong = np.flatnonzero(missing | (parts != 1) | ~(multi | (kinds == shapely.GeometryType.POINT)))
    if len(wrong):
        first = wrong[0]
        of = f" of {parts[first]}" if multi[first] else ""
        kind = "no geometry" if missing[first] else f"a {shapes[first].geom_type}{of}"
        raise TileError(
            f"{path}: feature {found.numbers[first]} has {kind}, and kind: points needs single points; take it out of "
            "the file, or use kind: vector for polygons"
        )
    lost = np.flatnonzero(~np.isfinite(shapely.get_coordinates(shapes)).all(axis=1))
    if len(lost):
        raise TileError(
            f"{path}: feature {found.numbers[lost[0]]} has the coordinates {shapes[lost[0]]}; mend or remove it"
        )
    return replace(found, shapes=np.asarray(shapely.get_geometry(shapes, 0), dtype=object))


def _ids(found: Features, column: str) -> NDArray[np.str_]:
    values = found.columns[column]
    _each(found, column, _is_null(values), "no id", "give every point one")
    whole = values.dtype.kind == "f" and bool((values == np.rint(values)).all())
    return np.asarray([str(int(value) if whole else value) for value in values], dtype=np.str_)


def _dates(found: Features, column: str | None) -> NDArray[np.datetime64]:
    """The day of each point, NaT where its column is empty."""
    days = np.full(len(found.shapes), "NaT", dtype="datetime64[D]")
    if column is None:
        return days
    values = found.columns[column]
    if values.dtype.kind == "M":
        return values.astype("datetime64[D]")
    for index in np.flatnonzero(~_is_null(values)):
        days[index] = _day(found, column, int(index))
    return days


def _day(found: Features, column: str, index: int) -> np.datetime64:
    """The day of an ISO date or time, as it is written. A number would be taken for days since 1970."""
    value = found.columns[column][index]
    try:
        if isinstance(value, int | float | np.number):
            raise ValueError
        return np.datetime64(dt.datetime.fromisoformat(str(value)).date(), "D")
    except ValueError:
        _refuse(found, index, column, "not a date", "write dates as YYYY-MM-DD, or leave the value empty")


def _numbers(found: Features, column: str) -> NDArray[np.float64]:
    """The column as numbers: a feature without one would silently take the label of another beneath it."""
    values = found.columns[column]
    if values.dtype.kind not in "biuf":
        wrong = np.asarray([not isinstance(value, int | float | np.number | np.bool_) for value in values], dtype=bool)
        _each(found, column, wrong, "no number", NUMBER)
    numbers = np.asarray(values, dtype=np.float64)
    _each(found, column, ~np.isfinite(numbers), "no number", NUMBER)
    return numbers


NUMBER = "give every feature a number, or remove those without one"


def _each(found: Features, column: str, wrong: NDArray[np.bool_], what: str, remedy: str) -> None:
    """Refuse the first feature that is wrong."""
    if wrong.any():
        _refuse(found, int(wrong.argmax()), column, what, remedy)


def _refuse(found: Features, index: int, column: str, what: str, remedy: str) -> NoReturn:
    value = found.columns[column][index]
    shown = value.item() if isinstance(value, np.generic) and value.dtype.kind != "M" else value
    raise TileError(f"{found.path}: feature {found.numbers[index]}: column {column} holds {shown!r}: {what}; {remedy}")


def _is_null(values: NDArray[Any]) -> NDArray[np.bool_]:
    empty = [value is None or value == "" or (isinstance(value, float) and math.isnan(value)) for value in values]
    return np.asarray(empty, dtype=bool)
