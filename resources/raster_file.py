"""A GeoTIFF of a committed output as users are handed it: a handle that moves nothing until it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from resources.bucket import Bucket
from resources.delivered_files import TIFF_ENDINGS
from resources.output_record import OutputRecord
from resources.tile_store import TileStore


@dataclass(frozen=True, slots=True, repr=False)
class RasterFile(os.PathLike[str]):
    """`rasterio.open(handle)` takes it for a path: of a bucket, that of a copy of the whole file on this machine.

    `open` reads the blocks that are asked for and no more, wherever the file lies.
    """

    store: TileStore
    record: OutputRecord
    name: str

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def place(self) -> str:
        """Where it lies: a path, or `s3://bucket/key`."""
        return f"{self.store.place(self.record)}/{self.name}"

    def __str__(self) -> str:
        return self.place

    def __repr__(self) -> str:
        return f"RasterFile({self.place})"

    def __fspath__(self) -> str:
        return str(self.store.path(self.record) / self.name)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A rasterio dataset, for the length of a `with` block."""
        import rasterio

        from resources.gdal_s3 import gdal_env, gdal_path

        bucket = self.store.store
        if not isinstance(bucket, Bucket):
            with rasterio.open(self) as dataset:
                yield dataset
        else:
            with gdal_env(bucket.connection.access), rasterio.open(gdal_path(self.place)) as dataset:
                yield dataset


def raster_files(store: TileStore, record: OutputRecord) -> list[RasterFile]:
    """The GeoTIFFs directly in an output, by name. One whose files are gone, or were retired, is a StoreError."""
    names = [PurePosixPath(key) for key in store.store.keys(record.attempt)]
    if not names:
        store.blocks(record)  # tells why
    return [RasterFile(store, record, path.name) for path in names if path.suffix in TIFF_ENDINGS]
