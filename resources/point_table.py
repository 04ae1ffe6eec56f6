"""The table of a tile's points beside its EOPatch: `points/points.npz`, a folder that `EOPatch.load` passes over."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from eo_assets.core.points import Points
from eo_assets.errors import StoreError

TABLE = Path("points", "points.npz")


def write_points(folder: Path, points: Points) -> None:
    """One array a column, none of them pickled. The same points give the same bytes."""
    (folder / TABLE).parent.mkdir()
    np.savez(folder / TABLE, **{column.name: getattr(points, column.name) for column in fields(Points)})


def read_points(folder: Path) -> Points:
    """The table of a committed output. Raises StoreError where it has none."""
    if not (folder / TABLE).is_file():
        raise StoreError(f"{folder / TABLE} does not exist; make the output again")
    with np.load(folder / TABLE, allow_pickle=False) as table:
        return Points(**{column.name: table[column.name] for column in fields(Points)})
