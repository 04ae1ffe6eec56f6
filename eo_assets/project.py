"""The project file as frozen pydantic models: what a map is made of, typed once, at the edge.

Only shapes, types and ranges live here. `project_file.py` reads, extends and checks a file; the stages take their slice
of these models as their recipe.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
FloatType = Literal["float32", "float64"]
ArrayType = Literal["uint8", "uint16", "int16", "int32", "float32", "float64"]


def _twice(value: object) -> object:
    """A single size stands for both axes."""
    return (value, value) if isinstance(value, int) else value


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _no_timestamp(value: object) -> object:
    """A bare number would be read as seconds since 1970: `sensing_time: 2020` is meant as a year."""
    if isinstance(value, int | float):
        raise ValueError("a number, not a date: write it as YYYY-MM-DD")
    return value


def _utc(value: dt.datetime) -> dt.datetime:
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


Buffer = Annotated[tuple[NonNegativeInt, NonNegativeInt], BeforeValidator(_twice)]
BlockSize = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_twice)]
Date = Annotated[dt.date, BeforeValidator(_no_timestamp)]
Time = Annotated[dt.datetime, BeforeValidator(_no_timestamp), AfterValidator(_utc)]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), Field(min_length=1)]


class Section(BaseModel):
    """A part of the project file: immutable, and no unknown key is let through."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Folders(Section):
    """Sub-folders of the project folder. `{year}` stands for the project's year."""

    input_data: str = "input-data"
    cache: str = "cache"
    tiffs: str = "tiffs/{year}"
    eopatches: str = "data/{year}"
    features: str = "features/{year}"
    reference: str = "raster-reference"
    samples: str = "features-sampled/{year}"
    training_data: str = "training-data"
    model: str = "models"
    predictions: str = "predictions"
    maps: str = "maps"
    byoc_collection: str = "byoc"
    logs: str = "logs"


class Storage(Section):
    """Where the project's data live: a local folder, or `s3://bucket/prefix`."""

    project_folder: str = Field(min_length=1)
    structure: Folders = Folders()


class SentinelHubGridSettings(Section):
    """One of Sentinel Hub's batch tiling grids: 0 (20 km), 1 (10 km), 2 (100 km), 3 (1 degree)."""

    kind: Literal["sentinel_hub"]
    id: Literal[0, 1, 2, 3]


class UtmGridSettings(Section):
    """Square tiles of any size in metres on a global lattice, one a UTM zone."""

    kind: Literal["utm"]
    tile_size_m: PositiveFloat


class CustomGridSettings(Section):
    """The cells of a GeoPackage under input-data, all its layers, names and boxes as given."""

    kind: Literal["custom"]
    file: str
    identifier: str = "identifier"


GridSettings = Annotated[SentinelHubGridSettings | UtmGridSettings | CustomGridSettings, Field(discriminator="kind")]


class Area(Section):
    """The area of interest and how it is cut: files under input-data, grid, pixel size, buffer in pixels (y, x)."""

    files: str = Field("*.geojson", min_length=1)
    grid: GridSettings
    resolution: PositiveFloat
    buffer: Buffer = (0, 0)


class Service(Section):
    """A Sentinel Hub deployment. Its name, never its address, is part of a recipe."""

    base_url: str | None = None
    token_url: str | None = None
    collections: str | None = Field(
        None, description="local service only: its collections file, under the project folder"
    )

    @property
    def local(self) -> bool:
        """Is this the service on this machine, started by the project itself?"""
        return self.base_url is None


SERVICES: Mapping[str, Service] = {
    "local": Service(collections="sentinel-hub/collections.yaml"),
    "sentinel_hub": Service(
        base_url="https://services.sentinel-hub.com",
        token_url="https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
    ),
    "sentinel_hub_uswest": Service(
        base_url="https://services-uswest2.sentinel-hub.com",
        token_url="https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
    ),
    "creodias": Service(
        base_url="https://creodias.sentinel-hub.com",
        token_url="https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
    ),
    "cdse": Service(
        base_url="https://sh.dataspace.copernicus.eu",
        token_url="https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token",
    ),
}
"""Deployments that a project file may name without declaring them."""


class Collection(Section):
    """One data source of a request, bound to the service that holds it."""

    collection: str = Field(min_length=1, description="`sentinel-2-l2a`, `byoc-<id>`, ...")
    id: str | None = Field(None, description="the datasource id that the evalscript uses, with several collections")
    service: str
    upsampling: Literal["NEAREST", "BILINEAR", "BICUBIC"] = "NEAREST"
    downsampling: Literal["NEAREST", "BILINEAR", "BICUBIC"] = "NEAREST"
    mosaicking_order: Literal["mostRecent", "leastRecent", "leastCC"] | None = None
    max_cloud_cover: Annotated[float, Field(ge=0, le=1)] | None = None
    harmonize_values: bool | None = None


class Imagery(Section):
    """What is asked of the service for every tile, and the tiffs that come back."""

    collections: tuple[Collection, ...] = Field(min_length=1)
    time_interval: tuple[Date, Date]
    evalscript: str = Field(description="a file beside the project file")
    tiff_outputs: Names
    expected_dates: PositiveInt = Field(description="dates a tile; what a cost estimate multiplies by")


class BandStack(Section):
    """A data feature of the EOPatch: digital numbers of some tiffs times a factor."""

    source: Names = Field(alias="from")
    factor: PositiveFloat = 1.0
    dtype: FloatType = "float32"


class ValidMask(Section):
    """A boolean mask of the EOPatch. `valid: bool` is a bare cast: every value but 0 is valid."""

    source: str = Field(alias="from")
    valid: tuple[int, ...] | Literal["bool"]


class EOPatches(Section):
    """From tiffs to the features of an EOPatch: (time, y, x, band)."""

    data: Mapping[Name, BandStack] = Field(min_length=1)
    masks: Mapping[Name, ValidMask] = Field({})


class Features(Section):
    """The model's columns a date: normalised difference indices by band name, then bands as they are."""

    bands: Name = Field("BANDS", description="the data feature that holds the bands")
    mask: Name | None = Field("QUALITY_MASK", description="the mask of valid pixels; null: every pixel is valid")
    indices: Mapping[Name, tuple[str, str]] = Field({})
    include_bands: bool | tuple[str, ...] = False
    validity_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    composite: Literal["none"] = "none"


class CollectionReference(Section):
    """Labels from a collection of the service, through a Process request a tile."""

    kind: Literal["collection"]
    collection: Collection
    evalscript: str
    time_interval: tuple[Date, Date] | None = None


class VectorReference(Section):
    """Labels burnt from the polygons of a file under input-data: a column's value, or one value for all."""

    kind: Literal["vector"]
    file: str
    layer: str | None = None
    column: str | None = None
    value: float = 1.0


class RasterReference(Section):
    """Labels warped from a raster under input-data, by nearest neighbour."""

    kind: Literal["raster"]
    file: str
    band: PositiveInt = 1


class Reference(Section):
    """The labels of a tile, (y, x, 1), and the value that means: nothing is known here."""

    name: Name
    source: Annotated[CollectionReference | VectorReference | RasterReference, Field(discriminator="kind")]
    dtype: ArrayType = "uint8"
    nodata: float


class Sampling(Section):
    """Random blocks of labelled, valid pixels a tile: `block_size` is (y, x) pixels, [1, 1] samples single pixels."""

    block_size: BlockSize = (1, 1)
    number: PositiveInt | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int = 42
    tiles: Literal["all", "labelled"] | tuple[str, ...] = "all"

    @model_validator(mode="after")
    def _one_amount(self) -> Sampling:
        if (self.number is None) == (self.fraction is None):
            raise ValueError(
                "not exactly one of number and fraction: give blocks a tile or their share, null the other"
            )
        return self


class Split(Section):
    """How samples are set aside for scoring: whole ground blocks of `block_px` pixels, none in both sets."""

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.8
    block_px: PositiveInt = 64
    seed: int = 42


class Model(Section):
    """The model: trained here, or a LightGBM file with its signature beside it."""

    source: str = Field("train", description="`train`, or a model file under the project folder")
    kind: Literal["lightgbm_regressor", "lightgbm_classifier"] = "lightgbm_regressor"
    parameters: Mapping[str, bool | int | float | str] = Field({})
    split: Split = Split()


class Predictions(Section):
    """What a tile's prediction is stored as. Invalid pixels hold `nodata`."""

    name: Name
    clip: tuple[float, float] | None = None
    dtype: ArrayType = "float32"
    nodata: float = math.nan
    all_probabilities: bool = False


class CogSettings(Section):
    """Options of the Cloud Optimized GeoTIFF."""

    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
    blocksize: Literal[256, 512, 1024] = 512
    overview_resampling: Literal["nearest", "average", "mode"] = "nearest"


class Maps(Section):
    """One file a zone: `utm<EPSG>_<name>.tiff`."""

    name: Name = "result"
    dtype: Literal["uint8", "uint16", "int16", "int32", "float32"]
    nodata: float
    rounding: Literal["nearest", "truncate"] = "nearest"
    cog: CogSettings = CogSettings()


class Byoc(Section):
    """The published collection."""

    collection_name: str = Field(min_length=1)
    service: str
    sensing_time: Time
    cover_geometry: Literal["area", "bounds"] = "area"


class Budget(Section):
    """What may be spent."""

    max_processing_units: PositiveFloat | None = None


class Logging(Section):
    """A log file a run under logs/, and what is shown while it runs."""

    save: bool = True
    show: bool = True


class Project(Section):
    """One map: its name, its year and everything that makes it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    year: Annotated[int, Field(ge=1972, le=2100)]
    description: str = ""
    sources: tuple[str, ...] = Field((), description="credits and licences, copied into every map")
    storage: Storage
    area: Area
    services: Mapping[Name, Service] = Field({})
    imagery: Imagery
    eopatches: EOPatches
    features: Features = Features()
    reference: Reference
    sampling: Sampling
    model: Model = Model()
    predictions: Predictions
    maps: Maps
    byoc: Byoc
    budget: Budget = Budget()
    logging: Logging = Logging()

    def folder(self, stage: str) -> str:
        """The stage's folder, relative to the project folder."""
        template: str = getattr(self.storage.structure, stage)
        return template.replace("{year}", str(self.year))

    def service(self, name: str) -> Service:
        """A deployment by name: the project's own first, then those that are known."""
        return self.services[name] if name in self.services else SERVICES[name]


class LoadedProject(Section):
    """A checked project: where it was read from, its resolved project folder, and the texts of its evalscripts."""

    project: Project
    file: Path
    project_folder: str = Field(description="absolute local path, or s3://bucket/prefix")
    evalscripts: Mapping[str, str] = Field(description="file name as written in the project file -> text")
