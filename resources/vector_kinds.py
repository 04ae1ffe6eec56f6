"""What kind of vector file it is, by its first bytes: before GDAL opens it.

GDAL itself asks every driver it has, whatever the file's name: its virtual formats would then read the files and
addresses that such a file names.
"""

from __future__ import annotations

from pathlib import Path

DRIVERS = frozenset({"GPKG", "GeoJSON", "GeoJSONSeq", "FlatGeobuf", "ESRI Shapefile"})
"""What GDAL may find a file to be once it has opened it."""

_SIGNS = (b"SQLite format 3\x00", b"fgb", b"\x00\x00\x27\x0a")
"""How a GeoPackage, a FlatGeobuf and a shapefile begin."""

_JSON = (b"{", b"[", b"\x1e")
_BOM = b"\xef\xbb\xbf"


def may_be_opened(path: Path) -> bool:
    """Does it begin like a GeoPackage, GeoJSON, FlatGeobuf or shapefile? Only the first bytes are read."""
    with path.open("rb") as file:
        head = file.read(4096)
    return head.startswith(_SIGNS) or head.removeprefix(_BOM).lstrip().startswith(_JSON)
