"""The body of a Process request as typed values. Keys that the local service does not use are accepted and ignored."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, Literal

import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from rasterio.crs import CRS
from rasterio.errors import CRSError

from eo_assets.core.tile import Bounds
from resources.local_sentinel_hub.api import ApiError, bad_payload
from resources.local_sentinel_hub.pixels import PixelGrid
from resources.local_sentinel_hub.scenes import BEGINNING, END, SceneFilter

MAX_PIXELS = 2500
DEFAULT_PIXELS = 256
EPSG_URL = re.compile(r"EPSG[:/]+(?:[\d.]*[:/]+)?(\d+)$", re.IGNORECASE)
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
FORMATS = {"image/tiff": "tif", "image/png": "png", "image/jpeg": "jpg", "application/json": "json"}
USERDATA = "userdata"


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class CrsProperties(_Part):
    """properties of bounds."""

    crs: str = CRS84


class RequestBounds(_Part):
    """input.bounds: a box, a GeoJSON geometry, or both, in one CRS."""

    bbox: tuple[float, float, float, float] | None = None
    geometry: dict[str, Any] | None = None
    properties: CrsProperties = CrsProperties()


class TimeRange(_Part):
    """dataFilter.timeRange, both ends inclusive."""

    from_: dt.datetime = Field(alias="from")
    to: dt.datetime


class DataFilter(_Part):
    """dataFilter of a datasource."""

    time_range: TimeRange | None = None
    max_cloud_coverage: float = Field(default=100.0, ge=0, le=100)
    mosaicking_order: Literal["mostRecent", "leastRecent", "leastCC"] = "mostRecent"


class Processing(_Part):
    """processing of a datasource. harmonizeValues, true unless said, concerns scenes that have an offset declared."""

    upsampling: Literal["NEAREST", "BILINEAR", "BICUBIC"] = "NEAREST"
    downsampling: Literal["NEAREST", "BILINEAR", "BICUBIC"] = "NEAREST"
    harmonize_values: bool | None = None


class DataSource(_Part):
    """One entry of input.data."""

    type: str
    id: str | None = None
    data_filter: DataFilter = DataFilter()
    processing: Processing = Processing()

    @property
    def scenes_wanted(self) -> SceneFilter:
        """The filter over scenes that this datasource asks for."""
        filter_, span = self.data_filter, self.data_filter.time_range
        time_from, time_to = (BEGINNING, END) if span is None else (aware(span.from_), aware(span.to))
        return SceneFilter(time_from, time_to, filter_.max_cloud_coverage, filter_.mosaicking_order)


class RequestInput(_Part):
    """input."""

    bounds: RequestBounds = RequestBounds()
    data: tuple[DataSource, ...] = Field(min_length=1)


class ResponseFormat(_Part):
    """format of a response; parameters behind a semicolon are ignored."""

    type: str = "image/jpeg"

    @property
    def mime_type(self) -> str:
        """The MIME type without parameters."""
        return self.type.split(";")[0].strip()


class RequestedResponse(_Part):
    """One entry of output.responses."""

    identifier: str = "default"
    format: ResponseFormat = ResponseFormat()

    @property
    def extension(self) -> str:
        """The extension of the response's file, without a dot."""
        return FORMATS[self.format.mime_type]


class RequestOutput(_Part):
    """output."""

    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)
    resx: float | None = Field(default=None, gt=0)
    resy: float | None = Field(default=None, gt=0)
    responses: tuple[RequestedResponse, ...] = (RequestedResponse(),)


class ProcessRequest(_Part):
    """A Process request; of a batch request, the part processRequest (whose bounds are then the area)."""

    input: RequestInput
    output: RequestOutput = RequestOutput()
    evalscript: str = Field(min_length=1)

    @property
    def crs(self) -> CRS:
        """The CRS of the bounds."""
        return parse_crs(self.input.bounds.properties.crs)

    @property
    def geometry(self) -> shapely.Geometry | None:
        """input.bounds.geometry, in the request's CRS."""
        return None if self.input.bounds.geometry is None else parse_geometry(self.input.bounds.geometry)

    @property
    def bounded(self) -> bool:
        """Whether there are bounds at all: a batch request of a GeoPackage may do without."""
        return self.geometry is not None or self.input.bounds.bbox is not None

    @property
    def area(self) -> shapely.Geometry:
        """The geometry, or else the box, in the request's CRS."""
        geometry, box = self.geometry, self.input.bounds.bbox
        if geometry is None and box is None:
            raise bad_payload("bounds need a bbox or a geometry", "input.bounds")
        return shapely.box(*box) if geometry is None and box is not None else geometry

    @property
    def grid(self) -> PixelGrid:
        """The raster that the request asks for.

        Raises:
            ApiError: the box is empty or the raster is larger than the service allows.
        """
        bounds = Bounds(*(self.input.bounds.bbox or self.area.bounds))
        width, height = bounds.right - bounds.left, bounds.top - bounds.bottom
        if not (width > 0 and height > 0):
            raise bad_payload("bounds must have left < right and bottom < top", "input.bounds.bbox", list(bounds))
        shape = (
            _pixels(height, self.output.height, self.output.resy),
            _pixels(width, self.output.width, self.output.resx),
        )
        check_size(shape, MAX_PIXELS, "ask for a coarser resolution, or for several smaller boxes")
        return PixelGrid(self.crs, bounds, shape)


def parse_process_request(body: Any) -> ProcessRequest:
    """Check a request's JSON, its formats and its responses.

    Raises:
        ApiError: 400, naming the key and the value.
    """
    try:
        request = ProcessRequest.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from error
    for i, response in enumerate(request.output.responses):
        if response.format.mime_type not in FORMATS:
            message = f"format {response.format.type!r} is none of {', '.join(FORMATS)}"
            raise bad_payload(message, f"output.responses[{i}].format.type", response.format.type)
    twice = repeated(response.identifier for response in request.output.responses)
    if twice:
        raise bad_payload(f"responses are asked for twice: {twice}", "output.responses")
    return request


def invalid(error: ValidationError) -> ApiError:
    """A pydantic error as the service's refusal: the first violation as parameter, all of them in the message."""
    errors = error.errors()
    described = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors)
    return bad_payload(f"Invalid request: {described}", ".".join(map(str, errors[0]["loc"])), errors[0].get("input"))


def parse_crs(url: str) -> CRS:
    """A CRS from the URL or URN that the client sends; CRS84 and EPSG:4326 are both longitude, latitude here."""
    if url.upper().endswith("CRS84"):
        return CRS.from_epsg(4326)
    match = EPSG_URL.search(url)
    try:
        if match is None:
            raise CRSError("no EPSG code")
        return CRS.from_epsg(int(match.group(1)))
    except CRSError:
        message = f"CRS {url!r} is not known; write http://www.opengis.net/def/crs/EPSG/0/<code>"
        raise bad_payload(message, "input.bounds.properties.crs", url) from None


def parse_geometry(geojson: Any) -> shapely.Geometry:
    """A GeoJSON polygon or multipolygon that has an area."""
    try:
        geometry = shapely.geometry.shape(geojson)
    except (ValueError, TypeError, KeyError, AttributeError, shapely.GEOSException) as error:
        raise bad_payload(f"the geometry is no GeoJSON polygon: {error}", "geometry") from error
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.area <= 0:
        raise bad_payload(f"the geometry must be a polygon with an area, not a {geometry.geom_type}", "geometry")
    return geometry


def check_size(shape: tuple[int, int], limit: int, remedy: str) -> None:
    """Refuse rasters of more than `limit` pixels on a side."""
    if max(shape) > limit:
        message = f"{shape[1]}x{shape[0]} px is more than the {limit} px a side that the service allows; {remedy}"
        raise bad_payload(message, "output.width", shape[1])


def repeated(names: Iterable[str]) -> str:
    """The names that occur more than once, for a message; empty if there are none."""
    seen = list(names)
    return ", ".join(sorted({name for name in seen if seen.count(name) > 1}))


def aware(time: dt.datetime) -> dt.datetime:
    """UTC; a time without a zone is UTC."""
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)


def _pixels(length: float, pixels: int | None, resolution: float | None) -> int:
    if pixels is not None:
        return pixels
    return max(1, round(length / resolution)) if resolution is not None else DEFAULT_PIXELS
