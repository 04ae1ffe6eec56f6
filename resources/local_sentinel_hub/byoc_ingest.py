"""What BYOC ingestion finds out about a tile: the files of its path, whether they can be served, their bands."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import shapely
from rasterio.crs import CRS
from shapely.geometry import mapping

from eo_assets.core.utm_zones import UTM_EPSG
from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.api import bad_payload
from resources.local_sentinel_hub.batch_request import to_lonlat
from resources.local_sentinel_hub.buckets import Buckets
from resources.local_sentinel_hub.cog_check import bit_depth, read_cog, sample_format
from resources.local_sentinel_hub.process_request import parse_crs, parse_geometry

PLACEHOLDER = "(BAND)"
SERVED_EPSG = {4326, 3857, 3035, *UTM_EPSG}
TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)


@dataclass(frozen=True)
class BandFound:
    """A band of a tile: its file's key, its number in the file, and what is in it."""

    key: str
    index: int
    source: str
    sample_type: str
    nodata: float | None


@dataclass(frozen=True)
class Ingested:
    """A tile that can be served: bands by name, and the box of its files as GeoJSON with a CRS."""

    bands: Mapping[str, BandFound]
    geometry: dict[str, Any]


def look_at(buckets: Buckets, bucket: str, path: str, cover: Mapping[str, Any] | None) -> Ingested:
    """Check the files at a tile's path.

    Raises:
        ServiceError: there is none, one is not a COG, they lie in several CRSs, or the cover lies elsewhere.
    """
    facts = {name: (key, read_cog(buckets.key(bucket, key), key)) for name, key in _keys(buckets, bucket, path).items()}
    crs = {fact.crs for _, fact in facts.values()}
    if len(crs) > 1:
        raise ServiceError(f"the files at {path} have different CRSs; write them in one")
    epsg = next(iter(crs)).to_epsg()
    if epsg not in SERVED_EPSG:
        raise ServiceError(f"the files at {path} are in EPSG:{epsg}; write them in WGS 84, a UTM zone, 3857 or 3035")
    bands: dict[str, BandFound] = {}
    for name, (key, fact) in facts.items():
        for i, (sample_type, nodata) in enumerate(zip(fact.sample_types, fact.nodata, strict=True), 1):
            band = name if len(fact.sample_types) == 1 else f"{name}_{i}"
            bands[band] = BandFound(key, i, name, sample_type, nodata)
    boxes = shapely.union_all([fact.box for _, fact in facts.values()])
    geometry = _geojson(shapely.box(*boxes.bounds), crs.pop())
    if cover is not None:
        _check_cover(cover, geometry)
    return Ingested(bands, geometry)


def settle_bands(collection: dict[str, Any], found: Mapping[str, BandFound]) -> None:
    """Give a collection without bands those of its first tile, or check that a tile has the bands of its collection.

    A band is found by its source and number; what the files hold beside the collection's bands is not looked at.

    Raises:
        ServiceError: a band of the collection is missing, or has other bits or another sample format.
    """
    known = collection["additionalData"]["bands"]
    if not known:
        known.update({name: _as_collection_band(band) for name, band in found.items()})
        return
    by_place = {(band.source, band.index): band for band in found.values()}
    for name, told in known.items():
        band = by_place.get(place_of(name, told))
        if band is None:
            source, index = place_of(name, told)
            has = ", ".join(f"{band.source} ({band.index})" for band in found.values())
            raise ServiceError(
                f"band {name} is missing: it is band {index} of a file called {source}, found are {has}; name "
                "the files as the collection's bands say"
            )
        expected = (told.get("bitDepth"), told.get("sampleFormat"))
        depth, kind = bit_depth(band.sample_type), sample_format(band.sample_type)
        if expected != (depth, kind):
            message = f"band {name} is {depth} bit {kind}, in the collection {expected[0]} bit {expected[1]}"
            raise ServiceError(f"{message}; convert the file or use another collection")


def place_of(name: str, band: Mapping[str, Any]) -> tuple[str, int]:
    """Where a collection's band is found in a tile: what stands for (BAND) in the path, and the number in the file."""
    return band.get("source") or name, band.get("bandIndex") or 1


def normalised(path: str) -> str:
    """A tile's path as the service keeps it: `folder/(BAND).tiff`."""
    if not isinstance(path, str) or not path.strip("/"):
        raise bad_payload("path must name a folder or a pattern with (BAND)", "path", path)
    clean = path.strip("/")
    if PLACEHOLDER not in clean:
        return f"{clean}/{PLACEHOLDER}.tiff"
    if PLACEHOLDER in clean.rpartition("/")[0] or clean.count(PLACEHOLDER) > 1:
        raise bad_payload(f"(BAND) must occur once, in the file's name: {path!r}", "path", path)
    return clean if TIFF.search(clean) else f"{clean}.tiff"


def crs_of(geojson: Mapping[str, Any]) -> CRS:
    """The CRS that a GeoJSON geometry names, lon/lat if it names none."""
    name = ((geojson.get("crs") or {}).get("properties") or {}).get("name", "CRS84")
    return parse_crs(str(name))


def _keys(buckets: Buckets, bucket: str, path: str) -> dict[str, str]:
    """Keys of the files that match a tile's path, by the name that stands for (BAND)."""
    folder, _, pattern = path.rpartition("/")
    before, _, after = TIFF.sub("", pattern).partition(PLACEHOLDER)
    place = buckets.key(bucket, folder)
    found: dict[str, str] = {}
    for name in (name for name in place.files() if TIFF.search(name)):
        stem = TIFF.sub("", name)
        if not (stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)):
            continue
        band = stem[len(before) : len(stem) - len(after)]
        if band in found:
            raise ServiceError(f"band {band} has two files at {path}, .tif and .tiff; remove one and reingest")
        found[band] = f"{folder}/{name}" if folder else name
    if not found:
        raise ServiceError(f"there is no file at {path} in bucket {bucket}; upload it and reingest")
    return found


def _as_collection_band(band: BandFound) -> dict[str, Any]:
    depth, kind = bit_depth(band.sample_type), sample_format(band.sample_type)
    told = {"source": band.source, "bandIndex": band.index, "bitDepth": depth, "sampleFormat": kind}
    # JSON has no NaN: what the file says of it holds when it is read.
    return {**told, "noData": band.nodata} if band.nodata is not None and math.isfinite(band.nodata) else told


def _geojson(geometry: shapely.Geometry, crs: CRS) -> dict[str, Any]:
    name = f"urn:ogc:def:crs:EPSG::{crs.to_epsg()}"
    return {**mapping(geometry), "crs": {"type": "name", "properties": {"name": name}}}


def _check_cover(cover: Mapping[str, Any], box: Mapping[str, Any]) -> None:
    common = to_lonlat(parse_geometry(cover), crs_of(cover)).intersection(to_lonlat(parse_geometry(box), crs_of(box)))
    if not common.area > 0:
        message = "coverGeometry lies outside of the tile's files"
        raise ServiceError(f"{message}; leave it out, or give it where the files are, with its CRS")
