"""Sentinel Hub, real or local, as one picklable handle: where it is, how to sign in, the clients of its APIs.

A handle holds no secret: credentials are read by the process that connects, from the environment or, for the service on
this machine, from its folder. Requests leave only for the addresses that the project file names. The local service is
started when it is first needed. How calls are made is in `service_calls.py`, what tells deployments apart in
`deployments.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sentinelhub import CRS, BBox, MimeType, SentinelHubRequest, SHConfig
from sentinelhub.download import SentinelHubDownloadClient
from sentinelhub.download.models import DownloadResponse

from eo_assets.core.tile import Bounds
from eo_assets.errors import ServiceError, TransientError
from resources.deployments import IN_PLACE, LOCAL_PACE, REMOTE_PACE, Delivery, Pace, from_environment
from resources.local_sentinel_hub.service_folder import state_id
from resources.s3_access import S3Access
from resources.service_calls import PolicyClient, counted_calls, http_status, service_errors
from resources.service_tokens import ServiceSession, session_for
from resources.slots import slot

__all__ = [
    "LOCAL_BUCKET",
    "MAX_REQUEST_PX",
    "LocalDeployment",
    "ProcessAnswer",
    "SentinelHub",
    "http_status",
    "input_data",
    "service_errors",
]

T = TypeVar("T")

LOCAL_BUCKET = "project-folder"
"""The bucket name under which the local service sees a local project folder."""

MAX_REQUEST_PX = 2500
"""The longest side of a Process request."""
UNITS_SPENT = "x-processingunits-spent"


@dataclass(frozen=True, slots=True)
class LocalDeployment:
    """The service on this machine: where its state lies, its collections file, where it delivers to.

    That is a local project folder, or the buckets of an S3 server.
    """

    state: Path
    collections: Path | None
    project_folder: Path | None
    s3: S3Access | None = None


@dataclass(frozen=True, slots=True)
class ProcessAnswer:
    """Values (y, x, band), the processing units that the service says it charged (None: it does not say), and counts.

    `calls` are those of `counted_calls`.
    """

    values: NDArray[Any]
    processing_units: float | None
    calls: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SentinelHub:
    """One deployment of Sentinel Hub. Exactly one of `local` and the addresses is given.

    `credentials` is the prefix of the variables that hold its secrets; `unit` is what its processing units are called.
    """

    name: str
    base_url: str | None = None
    token_url: str | None = None
    local: LocalDeployment | None = None
    unit: str = "PU"
    credentials: str = "SH_"
    delivery: Delivery = IN_PLACE
    own_pace: Pace | None = None

    @property
    def pace(self) -> Pace:
        """How fast it is asked: its own pace, or that of its kind."""
        return self.own_pace or (LOCAL_PACE if self.local else REMOTE_PACE)

    def config(self) -> SHConfig:
        """A configuration that can sign in, for stock clients too; starts the local service if it does not run."""
        base_url, token_url = self._addresses()
        config = SHConfig(use_defaults=True)
        config.sh_client_id, config.sh_client_secret = self._credentials()
        config.sh_base_url, config.sh_token_url = base_url, token_url
        config.max_retries, config.download_sleep_time = 20, 1.0
        config.download_timeout_seconds = self.pace.policy.read_timeout_s
        SentinelHubDownloadClient.cache_session(self._session(config))
        return config

    def client(self, config: SHConfig | None = None) -> PolicyClient:
        """A client whose calls follow the policy and leave for this deployment only."""
        config = config or self.config()
        return PolicyClient(policy=self.pace.policy, session=self._session(config), config=config)

    def api(self, kind: type[T]) -> T:
        """A client of one API (`BatchProcessClient`, `SentinelHubBYOC`, `SentinelHubCatalog`) under the policy."""
        config = self.config()
        service: Any = kind(config)  # type: ignore[call-arg]
        service.client = self.client(config)
        return service  # type: ignore[no-any-return]

    def token_life_s(self) -> float:
        """Sign in, if need be, and say for how many seconds the token is good."""
        with service_errors(self.name):
            return self._session(self.config()).life_s()

    def process(
        self, data: Sequence[Mapping[str, Any]], evalscript: str, bounds: Bounds, epsg: int, shape: tuple[int, int]
    ) -> ProcessAnswer:
        """The default output of an evalscript over a box, in one request of at most 2500 px a side.

        At most `pace.max_process_requests` of this machine are under way at a time.
        """
        config = self.config()
        request = SentinelHubRequest(
            evalscript=evalscript,
            input_data=[dict(source) for source in data],
            responses=[SentinelHubRequest.output_response("default", MimeType.TIFF)],
            bbox=BBox(tuple(bounds), CRS(str(epsg))),
            size=(shape[1], shape[0]),
            config=config,
        ).download_list[0]
        with counted_calls() as calls, service_errors(f"{self.name}: Process request"):
            with slot(f"{config.sh_base_url} process", self.pace.max_process_requests):
                answer = self.client(config).response(request)
            values = _pixels(answer, shape)
        return ProcessAnswer(values, _units_spent(answer), calls)

    def state_id(self) -> str | None:
        """Tells the local service of this machine from that of another one; its name for any other deployment.

        None of a local service that was never started. Nothing is started or asked.
        """
        return self.name if self.local is None else state_id(self.local.state)

    def bucket_url(self, key: str) -> str:
        """The address by which the service reads and writes a key of the project folder."""
        if self.local is not None and self.local.s3 is None:
            return f"s3://{LOCAL_BUCKET}/{key}"
        if self.delivery.bucket is None:
            raise ServiceError(
                f"service {self.name} delivers to a bucket, but the project folder is a local one; use storage."
                "project_folder: s3://..., or the service on this machine (service: local)"
            )
        return f"{self.delivery.bucket.rstrip('/')}/{key}"

    def bucket_access(self, key: str) -> dict[str, Any]:
        """How a request names a key of the project folder, with the right to it. For one call: may hold secrets."""
        return self.delivery.access(self.name, self.bucket_url(key), self.credentials)

    def _session(self, config: SHConfig) -> ServiceSession:
        names = f"{self.credentials}CLIENT_ID, {self.credentials}CLIENT_SECRET"
        remedy = f"check {names} and the service's token_url"
        if self.local is not None:
            remedy = "if its credentials have changed since it was started, `eo-assets sentinel-hub stop` and run again"
        return session_for(config, self.pace.policy, remedy)

    def _addresses(self) -> tuple[str, str]:
        if self.local is None:
            if not (self.base_url and self.token_url):
                raise ServiceError(f"services.{self.name}: base_url and token_url are both needed")
            return self.base_url, self.token_url
        if self.local.collections is not None and not self.local.collections.is_file():
            raise ServiceError(
                f"services.{self.name}.collections: {self.local.collections} does not exist; declare the local "
                "service's collections there"
            )
        from resources.local_sentinel_hub.server import ServiceSettings, ensure_running

        settings = ServiceSettings(
            folder=self.local.state,
            collections=self.local.collections,
            buckets={LOCAL_BUCKET: self.local.project_folder} if self.local.project_folder else {},
            s3=self.local.s3,
        )
        address = ensure_running(settings)
        return address.base_url, address.token_url

    def _credentials(self) -> tuple[str, str]:
        if self.local is not None:
            from resources.local_sentinel_hub.server import client_of

            client = client_of(self.local.state)  # there since the service was started
            return client.client_id, client.client_secret
        identity, secret = from_environment(
            f"service {self.name} ({self.base_url}) needs credentials",
            f"{self.credentials}CLIENT_ID",
            f"{self.credentials}CLIENT_SECRET",
        )
        return identity, secret


def _pixels(answer: DownloadResponse, shape: tuple[int, int]) -> NDArray[Any]:
    """The TIFF of an answer as (y, x, band). One that is damaged may be read as an empty image, hence the shape."""
    try:
        values = np.asarray(answer.decode())
    except Exception as error:  # whatever the reader of a file that came over a wire makes of it
        raise TransientError(f"the answer can't be read as an image: {error}") from error
    if values.shape[:2] != shape:
        raise TransientError(f"the answer is an image of {values.shape} pixels, asked for were {shape}")
    return values[..., None] if values.ndim == 2 else values


def _units_spent(answer: DownloadResponse) -> float | None:
    said = {key.lower(): value for key, value in answer.headers.items()}.get(UNITS_SPENT)
    try:
        return None if said is None else float(said)
    except ValueError:
        return None


def input_data(
    collection: str,
    *,
    datasource: str | None,
    time_interval: tuple[str, str] | None,
    mosaicking_order: str | None,
    max_cloud_cover: float | None,
    upsampling: str,
    downsampling: str,
    harmonize_values: bool | None,
) -> dict[str, Any]:
    """One `input.data` entry of a request. Plain values, so that no address hides in it. Days are whole days in UTC."""
    filters: dict[str, Any] = {}
    if time_interval is not None:
        filters["timeRange"] = {"from": f"{time_interval[0]}T00:00:00Z", "to": f"{time_interval[1]}T23:59:59Z"}
    if mosaicking_order is not None:
        filters["mosaickingOrder"] = mosaicking_order
    if max_cloud_cover is not None:
        filters["maxCloudCoverage"] = round(100 * max_cloud_cover, 6)
    processing: dict[str, Any] = {"upsampling": upsampling, "downsampling": downsampling}
    if harmonize_values is not None:
        processing["harmonizeValues"] = harmonize_values
    identity = {"id": datasource} if datasource else {}
    return {"type": collection, **identity, "dataFilter": filters, "processing": processing}
