"""GeoTIFFs that the service reads: files of this machine, and objects, opened with the key that finds the bucket."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio

from resources.gdal_s3 import gdal_env, gdal_path
from resources.s3_access import S3Access
from resources.s3_settings import Credentials, credentials

KEY_S = 60
"""For how long the AWS chain is not asked again: it may run a program, or call a server, for each file of a request."""


@dataclass(frozen=True, slots=True)
class RemoteTiff:
    """An object `s3://bucket/key` and how its server is reached."""

    address: str
    access: S3Access

    def __str__(self) -> str:
        return self.address


Tiff = Path | RemoteTiff


def open_tiff(tiff: Tiff) -> Any:
    """The file, an object by range. RasterioIOError if it can't be read, StorageRefused without a key."""
    if isinstance(tiff, Path):
        return rasterio.open(tiff, driver="GTiff")
    with gdal_env(tiff.access, _key(tiff.access, int(time.monotonic() // KEY_S))):
        return rasterio.open(gdal_path(tiff.address), driver="GTiff")


@functools.lru_cache(maxsize=4)
def _key(access: S3Access, minute: int) -> Credentials:
    del minute  # keeps the cache honest when somebody logs in anew
    return credentials(access)
