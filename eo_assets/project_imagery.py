"""The project file's sections about what goes in: services, imagery, the model's columns, labels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from eo_assets.project_types import ArrayType, Date, Name, Names, Section, like

RoleArn = Annotated[str, like("arn:aws:iam::123456789012:role/delivers", r"arn:aws[a-z-]*:iam::\d{12}:role/.+")]


class Service(Section):
    """A Sentinel Hub deployment. Its name, never its address, is part of a recipe.

    What is not given is the default of its kind, remote or local; secrets are in variables, never here.
    """

    base_url: str | None = None
    token_url: str | None = None
    collections: str | None = Field(
        None,
        description="local service only: its collections file, under the project folder; of a project in a bucket "
        "beside the project file",
    )
    unit: str | None = Field(None, description="what a processing unit is called where units are counted")
    credentials: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*_$")] = Field(
        "SH_", description="prefix of the variables CLIENT_ID, CLIENT_SECRET, DELIVERY_ACCESS_KEY, DELIVERY_SECRET_KEY"
    )
    delivery: Literal["role", "keys", "folder"] | None = None
    iam_role_arn: RoleArn | None = None
    bucket_region: str | None = None
    max_process_requests: PositiveInt | None = Field(None, description="at a time on one machine")
    poll_seconds: PositiveFloat | None = None
    analysis_poll_seconds: PositiveFloat | None = None

    @property
    def local(self) -> bool:
        """Is this the service on this machine, started by the project itself?"""
        return self.base_url is None

    @property
    def processing_unit(self) -> str:
        """What a processing unit of this deployment is called: units of two deployments are not the same money."""
        return self.unit or f"PU of {urlsplit(self.base_url).hostname if self.base_url else 'the local service'}"


SERVICES: Mapping[str, Service] = {
    "local": Service(collections="sentinel-hub/collections.yaml", delivery="folder"),
    "sentinel_hub": Service(
        base_url="https://services.sentinel-hub.com",
        token_url="https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
        unit="PU of sentinel-hub.com",
        delivery="role",
    ),
    "sentinel_hub_uswest": Service(
        base_url="https://services-uswest2.sentinel-hub.com",
        token_url="https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
        unit="PU of sentinel-hub.com",
        delivery="role",
    ),
    "creodias": Service(
        base_url="https://creodias.sentinel-hub.com",
        token_url="https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
        unit="PU of sentinel-hub.com",
        delivery="keys",
    ),
    "cdse": Service(
        base_url="https://sh.dataspace.copernicus.eu",
        token_url="https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token",
        unit="PU of CDSE",
        delivery="keys",
    ),
}
"""Deployments that a project file may name without declaring them."""


def service_named(declared: Mapping[str, Service], name: str) -> Service:
    """A deployment by name: what the project file says of it, over the deployment that is known by that name."""
    if name not in declared:
        return SERVICES[name]
    said = declared[name]
    if name not in SERVICES:
        return said
    return SERVICES[name].model_copy(update={key: getattr(said, key) for key in said.model_fields_set})


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


class ExcludedDate(Section):
    """A date whose frames are left out, of some tiles or of all."""

    date: Date
    tiles: tuple[str, ...] | None = Field(None, min_length=1, description="none named: all tiles")


def _excluded(value: object) -> object:
    """A date alone stands for that date of all tiles."""
    return value if isinstance(value, dict | ExcludedDate) else {"date": value}


class Imagery(Section):
    """What is asked of the service for every tile, and the tiffs that come back.

    `exclude` and `tries` change nothing of the service's answer: they are no part of what was bought. With
    `composite_in_evalscript` the evalscript composites, and is told the periods of features.composite.
    """

    collections: tuple[Collection, ...] = Field(min_length=1)
    time_interval: tuple[Date, Date]
    evalscript: str = Field(description="a file beside the project file")
    tiff_outputs: Names
    expected_dates: PositiveInt = Field(description="acquisitions read a tile; what a cost estimate multiplies by")
    composite_in_evalscript: bool = False
    exclude: tuple[Annotated[ExcludedDate, BeforeValidator(_excluded)], ...] = ()
    tries: PositiveInt = Field(3, description="how often the service is asked for a tile that it fails to make")

    def excluded_dates(self, tile: str) -> frozenset[dt.date]:
        """The dates to leave out of a tile."""
        return frozenset(entry.date for entry in self.exclude if entry.tiles is None or tile in entry.tiles)


Count = Annotated[int, Field(gt=0, strict=True)]
"""A whole number; YAML's `true` is none."""


class Gaps(Section):
    """What a pixel gets in a period without a clear observation: from the clear periods around it, or nothing.

    `max_days` is the longest that may lie between the centres of the two periods that a value is interpolated between,
    or to the nearest one.
    """

    method: Literal["linear", "nearest", "none"] = "none"
    max_days: PositiveFloat | None = None

    @property
    def in_words(self) -> str:
        """What is done about gaps, as models and metadata tell it."""
        reach = "" if self.max_days is None or self.method == "none" else f" over at most {self.max_days:g} days"
        return f"gaps {self.method}{reach}"


class Composite(Section):
    """One value a period instead of the acquisitions as they are: the same columns in every tile, named for periods.

    `periods` is a number of equal ones, `months`, or the days between which they lie (the last day is the end, not in
    it). `index` decides for max_index: a name of `indices`, or two bands. `observations` names the data feature that
    counts what a frame was made of, where the evalscript has composited: every frame is one period's then.
    """

    method: Literal["median", "mean", "max_index", "geomedian"]
    periods: (
        Annotated[int, Field(gt=0, strict=True)] | Literal["months"] | Annotated[tuple[Date, ...], Field(min_length=2)]
    )
    index: Name | tuple[str, str] | None = None
    gaps: Gaps = Gaps()
    observations: Name | None = None


class Features(Section):
    """The model's columns a date: normalised difference indices by band name, then bands as they are."""

    bands: Name = Field("BANDS", description="the data feature that holds the bands")
    mask: Name | None = Field("QUALITY_MASK", description="the mask of valid pixels; null: every pixel is valid")
    indices: Mapping[Name, tuple[str, str]] = Field({})
    include_bands: bool | tuple[str, ...] = False
    validity_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    composite: Literal["none"] | Composite = "none"

    def bands_of(self, index: str | tuple[str, str]) -> tuple[str, str]:
        """The two bands of an index that is given by its name or by them."""
        return self.indices[index] if isinstance(index, str) else index


class FusedCollection(Collection):
    """One of several collections of a request, which may have an interval of its own."""

    time_interval: tuple[Date, Date] | None = None


class CollectionReference(Section):
    """Labels from one collection of the service, or from several at once, through Process requests of a tile."""

    kind: Literal["collection"]
    collection: Collection | None = None
    collections: tuple[FusedCollection, ...] = ()
    evalscript: str
    time_interval: tuple[Date, Date] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> CollectionReference:
        if (self.collection is None) == (not self.collections):
            raise ValueError(
                "not exactly one of collection and collections: give one collection, or a list of those that the "
                "evalscript reads together, null the other"
            )
        return self

    @property
    def requested(self) -> tuple[tuple[Collection, tuple[Date, Date] | None], ...]:
        """Every collection with its interval: its own, or that of the whole reference."""
        if self.collection is not None:
            return ((self.collection, self.time_interval),)
        return tuple((each, each.time_interval or self.time_interval) for each in self.collections)

    @property
    def service(self) -> str:
        """The deployment that holds the collections."""
        return self.requested[0][0].service


class VectorReference(Section):
    """Labels burnt from the polygons of a file under input-data: a column's values, or one value for all."""

    kind: Literal["vector"]
    file: str
    layer: str | None = None
    column: str | None = None
    value: float = 1.0
    all_touched: bool = Field(False, description="burn every pixel that a polygon touches, not only by its centre")
    order_by: str | None = Field(None, description="the column whose highest value lies on top; null: the file's order")


class PointsReference(Section):
    """Labels of single pixels, from points of a file under input-data. Each point is a sample, with what it says."""

    kind: Literal["points"]
    file: str
    layer: str | None = None
    id: str = Field(description="the column of their names, no two alike")
    column: str = Field(description="the column of their labels")
    date: str | None = None
    weight: str | None = None


class RasterReference(Section):
    """Labels warped from a raster under input-data."""

    kind: Literal["raster"]
    file: str
    band: PositiveInt = 1
    resampling: Literal["nearest", "mode", "average"] = "nearest"


AnyReference = CollectionReference | VectorReference | PointsReference | RasterReference


class Reference(Section):
    """The labels of a tile, (y, x, 1), and the value that means: nothing is known here."""

    name: Name
    source: Annotated[AnyReference, Field(discriminator="kind")]
    dtype: ArrayType = "uint8"
    nodata: float
