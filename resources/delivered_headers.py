"""A delivery in a bucket as its headers tell it: what a hundred megabytes hold is asked in some kilobytes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import rasterio

from resources.bucket import Bucket
from resources.delivered_files import TIFF_ENDINGS, DeliveredTiff, Tiffs
from resources.gdal_s3 import gdal_env, gdal_path
from resources.object_keys import checked_key


@contextlib.contextmanager
def headers(bucket: Bucket, key: str) -> Iterator[tuple[Path, Tiffs]]:
    """A delivered tile for the length of a block: a folder with copies of all but its GeoTIFFs, and where those are.

    In the block rasterio opens them, by range.
    """
    sizes = {listed.key[len(key) + 1 :]: listed.size for listed in bucket.under(key)}
    names = [name for name in sizes if "/" not in name]
    tiffs = {
        PurePosixPath(name).stem: DeliveredTiff(gdal_path(bucket.place(f"{key}/{name}")), sizes[name])
        for ending in reversed(TIFF_ENDINGS)
        for name in names
        if name.endswith(ending)
    }
    with (
        tempfile.TemporaryDirectory(prefix="eo-assets-") as folder,
        gdal_env(bucket.connection.access),
        rasterio.Env(CPL_VSIL_CURL_NON_CACHED="/vsis3/"),  # it may have been delivered anew since this process looked
    ):
        for name in names:
            if not name.endswith(TIFF_ENDINGS):
                bucket.fetch(f"{key}/{name}", Path(folder, checked_key(name, key)))
        yield Path(folder), tiffs
