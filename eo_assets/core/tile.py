"""One cell of a grid as an immutable value.

Bounds are (left, bottom, right, top); shapes, sizes and buffers are (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from affine import Affine


class Bounds(NamedTuple):
    """A box in the units of its CRS, in the order of rasterio and shapely."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, slots=True)
class Tile:
    """A named cell of a grid, at a resolution, with a buffer of whole pixels on each side.

    `cell` is the grid's cell without the buffer, in the units of the CRS. `resolution` is in the same units a pixel
    (metres, or degrees for EPSG:4326). Tiles are ordered by (EPSG, name) everywhere.
    """

    name: str
    epsg: int
    cell: Bounds
    resolution: float
    buffer_px: tuple[int, int] = (0, 0)

    @property
    def order(self) -> tuple[int, str]:
        """The sort key of tiles: (EPSG, name)."""
        return self.epsg, self.name

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels, buffer included."""
        height = round((self.cell.top - self.cell.bottom) / self.resolution) + 2 * self.buffer_px[0]
        width = round((self.cell.right - self.cell.left) / self.resolution) + 2 * self.buffer_px[1]
        return height, width

    @property
    def bounds(self) -> Bounds:
        """The box of the tile's pixels, buffer included."""
        y, x = (pixels * self.resolution for pixels in self.buffer_px)
        return Bounds(self.cell.left - x, self.cell.bottom - y, self.cell.right + x, self.cell.top + y)

    @property
    def transform(self) -> Affine:
        """(column, row) to (x, y) of the upper left corner of a pixel, buffer included."""
        return Affine(self.resolution, 0.0, self.bounds.left, 0.0, -self.resolution, self.bounds.top)
