"""The body of a Batch V2 request as typed values, and the tiles that it stands for."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.errors import CRSError

from eo_assets.core.tile import Bounds
from eo_assets.errors import EoAssetsError
from resources.local_sentinel_hub.api import bad_payload
from resources.local_sentinel_hub.buckets import Buckets, Place
from resources.local_sentinel_hub.pixels import PixelGrid
from resources.local_sentinel_hub.process_request import ProcessRequest, invalid, parse_process_request, repeated

MAX_FEATURE_PIXELS = 3500
DEFAULT_TEMPLATE = "<requestId>/<tileName>/<outputId>.<format>"
PLACEHOLDER = re.compile(r"<[^<>]*>")
PLACEHOLDERS = ("<requestId>", "<tileName>", "<outputId>", "<format>")
FEATURE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")
SEGMENTS_A_SIDE = 100
# What the delivery gives access with is the client's; it has no use here and is not kept.
SECRETS = ("accessKey", "secretAccessKey")


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class S3Place(_Part):
    """An s3 URL."""

    url: str


class Access(_Part):
    """Where to read or deliver."""

    s3: S3Place


class TilingGridInput(_Part):
    """input of type tiling-grid; buffers in pixels."""

    type: Literal["tiling-grid"]
    id: int
    resolution: float
    buffer_x: int = Field(default=0, ge=0)
    buffer_y: int = Field(default=0, ge=0)


class GeoPackageInput(_Part):
    """input of type geopackage."""

    type: Literal["geopackage"]
    features: Access


class RasterOutput(_Part):
    """output of type raster."""

    type: Literal["raster"]
    delivery: Access
    overwrite: bool = False
    skip_existing: bool = False
    cog_output: bool = False
    create_collection: bool = False
    collection_id: str | None = None


class BatchRequest(_Part):
    """A batch request. The size in processRequest.output is ignored: each feature has its own."""

    process_request: dict[str, Any]
    input: Annotated[TilingGridInput | GeoPackageInput, Field(discriminator="type")]
    output: RasterOutput
    description: str | None = None

    @property
    def process(self) -> ProcessRequest:
        """The processRequest, checked."""
        return parse_process_request(self.process_request)


@dataclass(frozen=True)
class Feature:
    """One tile of a batch request."""

    name: str
    grid: PixelGrid


@dataclass(frozen=True)
class Delivery:
    """Where a request's files go: s3 URL templates made places."""

    template: str
    buckets: Buckets

    @property
    def folder(self) -> Place:
        """The request folder, which holds the side files: what comes before the first placeholder of a tile."""
        head = PLACEHOLDER.split(self.template)[0]
        return self.buckets.place(head.rpartition("/")[0], "output.delivery.s3.url")

    def url(self, tile: str, output: str, extension: str) -> str:
        """The s3 URL of one file."""
        filled = self.template.replace("<tileName>", tile).replace("<outputId>", output)
        return filled.replace("<format>", extension)

    def place(self, tile: str, output: str, extension: str) -> Place:
        """The place of one file."""
        return self.buckets.place(self.url(tile, output, extension), "output.delivery.s3.url")


def parse_batch_request(body: Any) -> BatchRequest:
    """Check a request's JSON as far as it can be without reading anything.

    Raises:
        ApiError: 400, naming the key and the value.
    """
    try:
        request = BatchRequest.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from error
    _ = request.process
    if request.output.create_collection or request.output.collection_id:
        raise bad_payload(
            "batch collections are not made here; ingest the delivered tiles by BYOC", "output.createCollection"
        )
    if isinstance(request.input, TilingGridInput):
        _ = request.process.area  # the area is what the tiles are chosen by
    return request


def without_secrets(body: dict[str, Any]) -> dict[str, Any]:
    """A copy of a request's JSON without access keys."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items() if key not in SECRETS}
        return [clean(item) for item in value] if isinstance(value, list) else value

    return dict(clean(body))


def delivery(request: BatchRequest, request_id: str, buckets: Buckets) -> Delivery:
    """The request's delivery template with its id filled in.

    Raises:
        ApiError: 400 for an unknown placeholder, or a template by which files would overwrite one another.
    """
    url = request.output.delivery.s3.url
    template = url if PLACEHOLDER.search(url) else f"{url.rstrip('/')}/{DEFAULT_TEMPLATE}"
    unknown = [found for found in PLACEHOLDER.findall(template) if found not in PLACEHOLDERS]
    if unknown or not all(needed in template for needed in ("<tileName>", "<outputId>")):
        message = (
            f"the delivery template needs <tileName> and <outputId>, may have {', '.join(PLACEHOLDERS)}; found {url!r}"
        )
        raise bad_payload(message, "output.delivery.s3.url", url)
    found = Delivery(template.replace("<requestId>", request_id), buckets)
    _ = found.folder
    return found


def features(request: BatchRequest, buckets: Buckets) -> list[Feature]:
    """The tiles of a request, each a name and a raster.

    Raises:
        ApiError: the GeoPackage can't be used, or a feature is larger than the service allows.
        EoAssetsError: the grid has no such resolution, or the area is outside of it.
    """
    source = request.input
    process = request.process
    if isinstance(source, TilingGridInput):
        found = _grid_features(source, process)
    else:
        found = _package(source, buckets)
        found = _touching(found, to_lonlat(process.area, process.crs)) if process.bounded else found
    if not found:
        raise bad_payload("there is no tile to process: the area or the GeoPackage is empty", "input")
    twice = repeated(feature.name for feature in found)
    if twice:
        raise bad_payload(
            f"identifiers occur more than once: {twice:.500}; name each feature differently", "input.features"
        )
    for feature in found:
        if max(feature.grid.shape) > MAX_FEATURE_PIXELS:
            height, width = feature.grid.shape
            message = f"{feature.name} has {width}x{height} px, the service allows {MAX_FEATURE_PIXELS} px a side"
            raise bad_payload(f"{message}; choose a coarser resolution or smaller tiles", "input")
    return found


def _grid_features(source: TilingGridInput, process: ProcessRequest) -> list[Feature]:
    from eo_assets.core.grid import SentinelHubGrid

    grid = SentinelHubGrid(source.id, source.resolution, buffer_px=(source.buffer_y, source.buffer_x))
    tiles = grid.tiles(to_lonlat(process.area, process.crs))
    return [Feature(tile.name, PixelGrid(CRS.from_epsg(tile.epsg), tile.bounds, tile.shape)) for tile in tiles]


def _package(source: GeoPackageInput, buckets: Buckets) -> list[Feature]:
    import pyogrio.raw  # here, because it brings pandas with it: two seconds that most starts have no use for

    url = source.features.s3.url
    try:
        with buckets.place(url, "input.features.s3.url").local() as path:
            return [feature for layer, _ in pyogrio.list_layers(path) for feature in _layer(path, layer)]
    except (pyogrio.errors.DataSourceError, sqlite3.Error, CRSError) as error:
        raise bad_payload(f"{url} can't be read as a GeoPackage: {error}", "input.features.s3.url", url) from error


def _touching(found: list[Feature], area: shapely.Geometry) -> list[Feature]:
    """The features that the request's area (lon/lat) touches: the others are not processed, says the documentation."""
    shapely.prepare(area)
    return [feature for feature in found if shapely.intersects(area, shapely.box(*feature.grid.lonlat_bounds))]


def _layer(path: Path, layer: str) -> list[Feature]:
    import pyogrio.raw

    meta, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
    columns = dict(zip(meta["fields"], fields, strict=True))
    sized = {"width", "height"} <= set(columns)
    if "identifier" not in columns or not (sized or "resolution" in columns):
        message = (
            f"layer {layer!r} needs the columns identifier and resolution (or width and height); it has {list(columns)}"
        )
        raise bad_payload(message, "input.features.s3.url")
    crs = CRS.from_user_input(meta["crs"])
    found = []
    for i, box in enumerate(shapely.bounds(shapely.from_wkb(geometry))):
        name, bounds = str(columns["identifier"][i]), Bounds(*map(float, box))
        if not FEATURE_NAME.match(name):
            raise bad_payload(
                f"identifier {name!r} is not usable as a folder's name: letters, digits, '_', '-', '.'", "input"
            )
        size = (columns["height"][i], columns["width"][i]) if sized else _shape(bounds, float(columns["resolution"][i]))
        found.append(Feature(name, PixelGrid(crs, bounds, (int(size[0]), int(size[1])))))
    return found


def _shape(bounds: Bounds, resolution: float) -> tuple[int, int]:
    if not resolution > 0:
        raise bad_payload(f"resolution {resolution} must be above 0", "input.features.s3.url", resolution)
    height, width = bounds.top - bounds.bottom, bounds.right - bounds.left
    return max(1, round(height / resolution)), max(1, round(width / resolution))


def to_lonlat(area: shapely.Geometry, crs: CRS) -> shapely.Geometry:
    """A geometry in lon/lat, its edges densified so that they stay where they were."""
    left, bottom, right, top = area.bounds
    dense = shapely.segmentize(area, max(right - left, top - bottom) / SEGMENTS_A_SIDE)
    transformer = Transformer.from_crs(crs.to_wkt(), "OGC:CRS84", always_xy=True)
    return shapely.transform(dense, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


def describe_error(error: Exception) -> str:
    """An error for a person: its text if it is one of ours, with its kind if it is not."""
    return str(error) if isinstance(error, EoAssetsError) else f"{type(error).__name__}: {error}"
