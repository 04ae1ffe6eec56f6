"""Whether a file is a cloud-optimized GeoTIFF that BYOC takes, and if not, why not and what to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
import shapely
from rasterio.crs import CRS

from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.buckets import Place
from resources.local_sentinel_hub.tiffs import open_tiff

LARGEST_UNTILED = 512
# BYOC takes 8, 16 and 32 bits; 32-bit integers would lose digits in an evalscript's float32 output, but are allowed.
TYPES = {
    "uint8": "UINT8",
    "int8": "INT8",
    "uint16": "UINT16",
    "int16": "INT16",
    "uint32": "UINT32",
    "int32": "INT32",
    "float32": "FLOAT32",
}
REMEDY = "write it with GDAL's COG driver"


@dataclass(frozen=True)
class CogFacts:
    """What BYOC needs to know of a file. `sample_types` and `nodata` are by band."""

    crs: CRS
    box: shapely.Geometry
    sample_types: tuple[str, ...]
    nodata: tuple[float | None, ...]


def read_cog(place: Place, key: str) -> CogFacts:
    """Check a file and describe it; `key` is how messages name it.

    Raises:
        ServiceError: the file is missing, is no GeoTIFF or no COG, has no CRS, or a type that BYOC does not take.
    """
    if not place.exists():
        raise ServiceError(f"{key} does not exist in the bucket; upload it and ingest the tile again")
    try:
        with open_tiff(place.tiff) as source:
            _check_layout(source, key)
            types = tuple(_sample_type(name, key) for name in source.dtypes)
            return CogFacts(source.crs, shapely.box(*source.bounds), types, tuple(source.nodatavals))
    except rasterio.RasterioIOError as error:
        raise ServiceError(f"{key} is not a GeoTIFF that can be read ({error}); {REMEDY}") from error


def bit_depth(sample_type: str) -> int:
    """8, 16 or 32."""
    return np.dtype(sample_type.lower()).itemsize * 8


def sample_format(sample_type: str) -> str:
    """UINT, INT or FLOAT."""
    return sample_type.rstrip("0123456789")


def _check_layout(source: rasterio.DatasetReader, key: str) -> None:
    if source.crs is None or source.crs.to_epsg() is None:
        raise ServiceError(f"{key} is not a COG that can be served: it has no CRS with an EPSG code; {REMEDY}")
    if max(source.shape) <= LARGEST_UNTILED:
        return
    block = source.block_shapes[0]
    if block[1] == source.width:
        raise ServiceError(f"{key} is not a COG: it is stored in strips, not in tiles; {REMEDY}")
    levels = len(source.overviews(1))
    if not levels:
        raise ServiceError(f"{key} is not a COG: it has no overviews; {REMEDY}")
    places = [_directory(source, None), *(_directory(source, level) for level in range(levels))]
    if places != sorted(places):
        raise ServiceError(f"{key} is not a COG: its overviews lie before the full resolution; {REMEDY}")


def _directory(source: rasterio.DatasetReader, level: int | None) -> int:
    return int(source.get_tag_item("IFD_OFFSET", "TIFF", bidx=1, ovr=level) or 0)


def _sample_type(dtype: str, key: str) -> str:
    if dtype not in TYPES:
        raise ServiceError(f"{key} holds {dtype}; BYOC takes {', '.join(TYPES)}: convert it")
    return TYPES[dtype]
