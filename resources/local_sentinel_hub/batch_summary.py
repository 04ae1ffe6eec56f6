"""What a batch request asks for, in short: for the log of requests."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from resources.local_sentinel_hub.batch_request import BatchRequest, TilingGridInput
from resources.local_sentinel_hub.buckets import Buckets

MOST_NAMES = 10_000


def summarise(request: BatchRequest, buckets: Buckets) -> dict[str, Any]:
    """The tiling grid, or the first 10,000 identifiers of the GeoPackage and how many there are.

    A GeoPackage that can't be read fails the analysis and not the creation, so it is no error here either.
    """
    source = request.input
    if isinstance(source, TilingGridInput):
        return {"tilingGrid": source.id, "resolution": source.resolution}
    try:
        with buckets.place(source.features.s3.url).local() as package:
            names = _identifiers(package)
    except (OSError, sqlite3.Error):
        return {"tiles": None}
    return {"tiles": names[:MOST_NAMES], "tileCount": len(names)}


def _identifiers(package: Path) -> list[str]:
    """GeoPackages are SQLite files; reading them as such spares the import of GDAL's vector side."""
    with closing(sqlite3.connect(f"{package.as_uri()}?mode=ro", uri=True)) as db:
        layers = db.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'").fetchall()
        quoted = ['"' + name.replace('"', '""') + '"' for (name,) in layers]
        return [str(row[0]) for layer in quoted for row in db.execute(f"SELECT identifier FROM {layer}")]
