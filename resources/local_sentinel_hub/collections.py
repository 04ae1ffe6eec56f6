"""The collections that the service has pixels for: declared in one YAML file, or made of ingested BYOC tiles."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import shapely
import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from rasterio.warp import transform_bounds

from eo_assets.core.tile import Bounds
from eo_assets.errors import ProjectError
from resources.local_sentinel_hub.tiffs import Tiff, open_tiff

SampleType = Literal["UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "FLOAT32"]
DENSIFY = 21


@dataclass(frozen=True, slots=True)
class Band:
    """A band as the collection declares it. Physical value = DN * scale in `units`; scale None: only DN are known."""

    sample_type: str = "UINT16"
    scale: float | None = None
    units: str = "DN"
    nodata: float | None = None


@dataclass(frozen=True, slots=True)
class BandFile:
    """Where a band of a scene lies: a GeoTIFF and the band's number in it, from 1.

    One that is not of this machine has a version that changes when it may have.
    """

    path: Tiff
    index: int = 1
    version: str = ""


@dataclass(frozen=True)
class Scene:
    """One acquisition. `cover` limits it (lon/lat); None: the whole file. Without a time it is older than any other.

    `product` is what scripts see as its dataPath; None: the folder of its files. `offset` is what its processing has
    added to the digital numbers of bands with a scale: 1000 from Sentinel-2's baseline 04.00 on.
    """

    id: str
    time: dt.datetime | None
    cloud_cover: float | None
    files: Mapping[str, BandFile]
    cover: shapely.Geometry | None = None
    product: str | None = None
    offset: int = 0

    @property
    def footprint(self) -> shapely.Geometry:
        """Where the scene may have data, in lon/lat: its cover, or the box of its first file."""
        if self.cover is not None:
            return self.cover
        file = next(iter(self.files.values()))
        version = file.path.stat().st_mtime_ns if isinstance(file.path, Path) else file.version
        return file_footprint(file.path, version)


@dataclass(frozen=True)
class Collection:
    """What a request's `type` stands for."""

    type: str
    title: str
    bands: Mapping[str, Band]
    scenes: tuple[Scene, ...]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _BandModel(_Declared):
    sample_type: SampleType = "UINT16"
    scale: float | None = Field(default=None, gt=0)
    units: str | None = None
    nodata: float | None = None


class _SceneModel(_Declared):
    time: AwareDatetime
    cloud_cover: float | None = Field(default=None, ge=0, le=100)
    files: dict[str, str] = Field(min_length=1)
    product: str | None = Field(default=None, min_length=1)
    offset: int = Field(default=0, ge=0)

    @field_validator("time")
    @classmethod
    def _utc(cls, value: dt.datetime) -> dt.datetime:
        return value.astimezone(dt.UTC)


class _CollectionModel(_Declared):
    type: str = Field(min_length=1)
    title: str = ""
    bands: dict[str, _BandModel] = Field(min_length=1)
    scenes: tuple[_SceneModel, ...] = ()

    @model_validator(mode="after")
    def _bands_are_declared(self) -> Self:
        for scene in self.scenes:
            unknown = sorted(set(scene.files) - set(self.bands))
            if unknown:
                raise ValueError(f"the scene of {scene.time:%Y-%m-%d} has files of undeclared bands {unknown}")
        return self


class _FileModel(_Declared):
    collections: tuple[_CollectionModel, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _types_are_unique(self) -> Self:
        types = [collection.type for collection in self.collections]
        twice = sorted({name for name in types if types.count(name) > 1})
        if twice:
            raise ValueError(f"collections declared twice: {twice}")
        return self


def load_collections(path: Path) -> dict[str, Collection]:
    """Read the YAML file that declares collections; see docs/local-sentinel-hub.md for its keys.

    Returns:
        Collections by type.

    Raises:
        ProjectError: naming the file, each wrong key and the value; or a file of a scene that is not there.
    """
    try:
        declared = _FileModel.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ProjectError(
            f"{path} can't be read as the YAML of the local Sentinel Hub's collections: {error}"
        ) from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e.get('input')!r:.200})" for e in error.errors()]
        raise ProjectError(f"{path}: {'; '.join(lines)}") from error
    return {model.type: _collection(model, path) for model in declared.collections}


def _collection(model: _CollectionModel, path: Path) -> Collection:
    bands = {name: _band(band) for name, band in model.bands.items()}
    scenes = tuple(_scene(scene, f"{model.type}_{i}", path) for i, scene in enumerate(model.scenes))
    return Collection(model.type, model.title or model.type, bands, scenes)


def _band(model: _BandModel) -> Band:
    units = model.units or ("DN" if model.scale is None else "REFLECTANCE")
    return Band(model.sample_type, model.scale, units, model.nodata)


def _scene(model: _SceneModel, name: str, path: Path) -> Scene:
    places = {band: path.parent / relative for band, relative in model.files.items()}
    for band, place in places.items():
        if not place.is_file():
            raise ProjectError(f"{path}: band {band} of {model.time:%Y-%m-%d} is not at {place}; correct the path")
    files = {band: BandFile(place) for band, place in places.items()}
    stamp = f"{model.time:%Y%m%dT%H%M%S}"
    return Scene(f"{name}_{stamp}", model.time, model.cloud_cover, files, product=model.product, offset=model.offset)


@lru_cache(maxsize=4096)
def file_footprint(path: Tiff, version: int | str) -> shapely.Geometry:
    """The box of a raster file as a lon/lat polygon. `version` keeps the cache honest when a file is replaced."""
    del version
    with open_tiff(path) as source:
        return shapely.box(*transform_bounds(source.crs, "OGC:CRS84", *source.bounds, densify_pts=DENSIFY))


def touches(scene: Scene, area: Bounds) -> bool:
    """Whether a scene may have data in a lon/lat box. Touching along an edge alone does not count."""
    common = shapely.intersection(scene.footprint, shapely.box(*area))
    return bool(common.area > 0 and math.isfinite(common.area))
