"""Batch V2 of Sentinel Hub in the few calls that an order needs, each with its faults told apart."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentinelhub import BatchProcessClient, MimeType, SentinelHubRequest
from sentinelhub.api.base import SentinelHubFeatureIterator
from sentinelhub.exceptions import DownloadFailedException
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from eo_assets.core.tile import Tile
from eo_assets.errors import ServiceError
from resources.batch_orders import Order
from resources.grid_files import write_grid
from resources.object_store import ObjectStore
from resources.sentinel_hub import SentinelHub, http_status, service_errors

WGS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
REPLICA_TRIES = 10
"""How often a request that was just made is asked for again when the service says that there is none."""
CLOCKS_DIFFER = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TilingGrid:
    """A tiling grid of the service and the area (lon/lat) whose tiles are asked for, all of them."""

    grid_id: int
    area: BaseGeometry


@dataclass(frozen=True, slots=True)
class Imagery:
    """What is asked for a tile, whichever tile it is: sources, script, outputs."""

    data: Sequence[Mapping[str, Any]]
    evalscript: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as the service tells it. `cost` is in processing units, None where it does not tell."""

    status: str
    cost: float | None = None
    error: str = ""
    stopped_reason: str = ""
    changed: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class BatchApi:
    """Batch jobs of one service that deliver under `folder` of a store."""

    service: SentinelHub
    store: ObjectStore
    folder: str
    lag_seconds: float = 1.0

    def create(self, order: Order, imagery: Imagery, tiles: Sequence[Tile], grid: TilingGrid | None) -> str:
        """Make the job and return its id; nothing costs yet.

        With a `grid` the service makes the tiles itself; without, it is handed them as a GeoPackage. Raises
        TransientError where the answer was lost: the job may be there all the same.
        """
        responses = [SentinelHubRequest.output_response(name, MimeType.TIFF) for name in imagery.outputs]
        responses.append(SentinelHubRequest.output_response("userdata", MimeType.JSON))
        bounds: dict[str, Any] = {}
        with self._told("batch request") as client:
            if grid is None:
                asked = client.geopackage_input(self.service.bucket_access(self._write_tiles(order, tiles)))
            else:
                first = tiles[0]
                y, x = first.buffer_px
                asked = client.tiling_grid_input(grid.grid_id, first.resolution, buffer_x=x, buffer_y=y)
                bounds = {"bounds": {"geometry": mapping(grid.area), "properties": {"crs": WGS84}}}
            request = {
                "input": {**bounds, "data": [dict(source) for source in imagery.data]},
                "evalscript": imagery.evalscript,
                "output": {"responses": responses},
            }
            place = self.service.bucket_access(f"{self.folder}/<requestId>/<tileName>/<outputId>.<format>")
            output = client.raster_output(place)
            return str(client.create(request, asked, output, description=order.description).request_id)

    def find(self, order: Order) -> str | None:
        """The job of an order whose creation was never answered, by its description; None if there is none.

        A job may take a moment to appear in the list.
        """
        since = dt.datetime.fromisoformat(order.created) - CLOCKS_DIFFER
        for attempt in range(REPLICA_TRIES):
            if attempt:
                time.sleep(self.lag_seconds)
            with self._told(f"looking for {order.description}") as client:
                for job in _listed(client):
                    if (job.get("request") or {}).get("description") == order.description:
                        return str(job["id"])
                    if (created := _time(job.get("created"))) is not None and created < since:
                        break
        return None

    def look(self, job: str) -> JobState:
        """How a job is. For a while after its creation the service may not know of it yet."""
        with self._told(f"batch request {job}") as client:
            for _ in range(REPLICA_TRIES - 1):
                try:
                    return _state(self._ask(client, job))
                except DownloadFailedException as error:
                    if http_status(error) != 404:
                        raise
                time.sleep(self.lag_seconds)
            return _state(self._ask(client, job))

    @staticmethod
    def _ask(client: BatchProcessClient, job: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = client.client.get_json_dict(f"{client.service_url}/process/{job}", use_session=True)
        return answer

    def analyse(self, job: str) -> None:
        """Have the tiles laid out; free."""
        self._act(job, "analysis", ("ANALYSING", "ANALYSIS_DONE", "PROCESSING", "DONE"))

    def start(self, job: str) -> None:
        """From now on it costs. A job that runs already, because the answer to an earlier start was lost, is left."""
        self._act(job, "start", ("PROCESSING", "DONE"))

    def stop(self, job: str) -> None:
        """Make no further tile; what is delivered stays."""
        self._act(job, "stop", ("STOPPED", "DONE", "FAILED"))

    def _act(self, job: str, action: str, wanted: tuple[str, ...]) -> None:
        try:
            with self._told(f"{action} of batch request {job}") as client:
                calls = {"analysis": client.start_analysis, "start": client.start_job, "stop": client.stop_job}
                for attempt in range(REPLICA_TRIES):
                    try:
                        calls[action](job)
                        return
                    except DownloadFailedException as error:
                        if http_status(error) != 404 or attempt + 1 == REPLICA_TRIES:
                            raise
                    time.sleep(self.lag_seconds)
        except ServiceError:
            if self.look(job).status not in wanted:
                raise

    def _write_tiles(self, order: Order, tiles: Sequence[Tile]) -> str:
        key = f"{self.folder}/_orders/{order.id}.gpkg"
        with tempfile.TemporaryDirectory(prefix="eo-assets-") as folder:
            file = Path(folder, "tiles.gpkg")
            write_grid(file, tiles)
            self.store.put_file(key, file)
        return key

    def _told(self, what: str) -> _Told:
        return _Told(self.service, what)


class _Told:
    """A signed-in client whose faults are told as ours."""

    def __init__(self, service: SentinelHub, what: str) -> None:
        self._service, self._errors = service, service_errors(f"{service.name}: {what}")

    def __enter__(self) -> BatchProcessClient:
        self._errors.__enter__()
        return self._service.api(BatchProcessClient)

    def __exit__(self, *raised: Any) -> bool | None:
        return self._errors.__exit__(*raised)


def _listed(client: BatchProcessClient) -> Iterator[Mapping[str, Any]]:
    """The account's jobs as the service tells them: other people's may hold what this client does not know."""
    url = f"{client.service_url}/process"
    yield from SentinelHubFeatureIterator(client=client.client, url=url, params={}, exception_message="no answer")


def _state(job: Mapping[str, Any]) -> JobState:
    """What of a job counts; values that are not known here are taken as they are."""
    if not isinstance(job.get("status"), str):
        raise ServiceError(f"the service's answer tells no status of the job: {sorted(job)}")
    cost = job.get("costPU")
    times = [time for key in ("userActionUpdated", "lastUpdated") if (time := _time(job.get(key))) is not None]
    return JobState(
        job["status"],
        float(cost) if isinstance(cost, int | float) else None,
        str(job.get("error") or ""),
        str(job.get("stoppedStatusReason") or ""),
        max(times, default=None),
    )


def _time(said: Any) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
