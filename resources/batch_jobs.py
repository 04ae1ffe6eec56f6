"""Batch jobs of Sentinel Hub: one order for many tiles, delivered tile by tile into the project folder.

The folder of a job holds what the service puts there: `<tile>/<output>.tif`, `<tile>/userdata.json` and the side files
`featureManifest-<id>.gpkg` and `execution-<id>.sqlite`.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentinelhub import BatchProcessClient, MimeType, SentinelHubRequest
from sentinelhub.api.batch.base import BatchRequestStatus
from sentinelhub.exceptions import DownloadFailedException
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from eo_assets.core.tile import Tile
from eo_assets.errors import ServiceError
from resources.grid_files import write_grid
from resources.object_store import LocalFolder
from resources.sentinel_hub import SentinelHub, http_status, service_errors

WGS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
REPLICA_TRIES = 10
"""How often a request that was just made is asked for again when the service says that there is none."""
ENDED = {BatchRequestStatus.DONE, BatchRequestStatus.FAILED, BatchRequestStatus.STOPPED}


@dataclass(frozen=True, slots=True)
class TilingGrid:
    """A tiling grid of the service and the area (lon/lat) whose tiles are asked for, all of them."""

    grid_id: int
    area: BaseGeometry


@dataclass(frozen=True, slots=True)
class ImageryOrder:
    """What is asked for: sources, script, outputs and tiles. `folder` is the key that deliveries go under.

    With a `tiling_grid` the service makes the tiles itself; without, it is handed them as a GeoPackage.
    """

    data: Sequence[Mapping[str, Any]]
    evalscript: str
    outputs: tuple[str, ...]
    tiles: tuple[Tile, ...]
    folder: str
    description: str
    tiling_grid: TilingGrid | None = None
    poll_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A tile that has arrived under `folder`, or that the service gave up on, with its reason."""

    tile: Tile
    folder: str | None
    error: str | None = None


def deliveries(service: SentinelHub, store: LocalFolder, order: ImageryOrder) -> Iterator[Delivery | None]:
    """Place the order and yield every tile once, as it arrives; None whenever there is nothing new to tell.

    Raises ServiceError if the service refuses the order, would make other tiles than asked for, or fails as a whole:
    then the tiles that had arrived have been told, and the rest are not.
    """
    with service_errors(f"{service.name}: batch request"):
        client = BatchProcessClient(service.config())
        request_id = _create(client, service, store, order)
        job_folder = f"{order.folder}/{request_id}"
        _when_known(lambda: client.start_analysis(request_id), order.poll_seconds)
        yield from _wait_for_analysis(client, request_id, order.poll_seconds)
        _reconcile(store.path(job_folder) / f"featureManifest-{request_id}.gpkg", order.tiles)
        client.start_job(request_id)
        waiting = {tile.name: tile for tile in order.tiles}
        while waiting:
            job = client.get_request(request_id)
            arrived = [tile for tile in waiting.values() if _complete(store.path(f"{job_folder}/{tile.name}"), order)]
            for tile in arrived:
                del waiting[tile.name]
                yield Delivery(tile, f"{job_folder}/{tile.name}")
            if job.status in ENDED and not arrived:
                break
            if not arrived:
                time.sleep(order.poll_seconds)
                yield None
    yield from _undelivered(waiting.values(), job, store.path(job_folder) / f"execution-{request_id}.sqlite")


def _create(client: BatchProcessClient, service: SentinelHub, store: LocalFolder, order: ImageryOrder) -> str:
    formats = [(name, MimeType.TIFF) for name in order.outputs] + [("userdata", MimeType.JSON)]
    responses = [SentinelHubRequest.output_response(name, kind) for name, kind in formats]
    bounds: dict[str, Any] = {}
    if order.tiling_grid is None:
        key = f"{order.folder}/order-{time.time_ns()}.gpkg"
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        write_grid(store.path(key), order.tiles)
        asked = client.geopackage_input(service.bucket_access(key))
    else:
        first = order.tiles[0]
        asked = client.tiling_grid_input(
            order.tiling_grid.grid_id, first.resolution, buffer_x=first.buffer_px[1], buffer_y=first.buffer_px[0]
        )
        bounds = {"bounds": {"geometry": mapping(order.tiling_grid.area), "properties": {"crs": WGS84}}}
    process_request = {
        "input": {**bounds, "data": [dict(source) for source in order.data]},
        "evalscript": order.evalscript,
        "output": {"responses": responses},
    }
    output = client.raster_output(service.bucket_access(f"{order.folder}/<requestId>/<tileName>/<outputId>.<format>"))
    return str(client.create(process_request, asked, output, description=order.description).request_id)


def _when_known(ask: Callable[[], Any], poll_seconds: float) -> Any:
    """The answer to a question about a request; for a while after its creation, the service may not know of it yet."""
    for _ in range(REPLICA_TRIES):
        try:
            return ask()
        except DownloadFailedException as error:
            if http_status(error) != 404:
                raise
        time.sleep(poll_seconds)
    return ask()


def _wait_for_analysis(client: BatchProcessClient, request_id: str, poll_seconds: float) -> Iterator[None]:
    """Until the service has laid out the tiles. Nothing is spent before the job starts."""
    status = functools.partial(_when_known, lambda: client.get_request(request_id), poll_seconds)
    while (job := status()).status in (BatchRequestStatus.CREATED, BatchRequestStatus.ANALYSING):
        time.sleep(poll_seconds)
        yield None
    if job.status is not BatchRequestStatus.ANALYSIS_DONE:
        raise ServiceError(f"batch request {request_id} ended as {job.status.value} in its analysis: {job.error}")


def _reconcile(manifest: Path, tiles: Sequence[Tile]) -> None:
    """Refuse an analysis that found other tiles than were asked for."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{manifest}?mode=ro", uri=True)) as db:
            layers = [row[0] for row in db.execute("SELECT table_name FROM gpkg_contents")]
            found = {row[0] for layer in layers for row in db.execute(f'SELECT identifier FROM "{layer}"')}
    except sqlite3.Error as error:
        raise ServiceError(
            f"{manifest}: the service's list of tiles can't be read ({error}); nothing was started; run it again"
        ) from None
    expected = {tile.name for tile in tiles}
    if found != expected:
        raise ServiceError(
            f"{manifest}: the service would make {len(found)} tiles, the grid has {len(expected)}; "
            f"only there: {sorted(found - expected)[:5]}, only here: {sorted(expected - found)[:5]}; nothing was "
            "started. Give the service's own tiles as a custom grid (area.grid.kind: custom)"
        )


def _complete(folder: Path, order: ImageryOrder) -> bool:
    """Has every file of a tile arrived? Files appear whole or not at all."""
    stems = {path.stem for path in folder.glob("*.*")} if folder.is_dir() else set()
    return stems.issuperset((*order.outputs, "userdata"))


def _undelivered(tiles: Iterator[Tile] | Any, job: Any, execution: Path) -> Iterator[Delivery]:
    """The tiles that a job which has ended did not deliver, with what its execution database says of them."""
    reasons: dict[str, str] = {}
    # The database says why; without it the tiles are told all the same.
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{execution}?mode=ro", uri=True)) as db,
    ):
        found = db.execute("SELECT name, status, error FROM features")
        reasons = {name: f"{status}: {error}" for name, status, error in found}
    for tile in tiles:
        said = reasons.get(tile.name, "no word of it")
        yield Delivery(tile, None, f"batch request {job.request_id} ({job.status.value}): {said}")
