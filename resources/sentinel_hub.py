"""Sentinel Hub, real or local, as one picklable handle: where it is, how to sign in, Process requests.

A handle holds no secret: credentials are read by the process that connects, from the environment or, for the service on
this machine, from its folder. Requests leave only for the addresses that the project file names. The local service is
started when it is first needed.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
from numpy.typing import NDArray
from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]
from sentinelhub import CRS, BBox, MimeType, SentinelHubRequest, SentinelHubSession, SHConfig
from sentinelhub.download import SentinelHubDownloadClient
from sentinelhub.exceptions import DownloadFailedException, OutOfRequestsException

from eo_assets.core.tile import Bounds
from eo_assets.errors import ServiceError, TransientError

LOCAL_BUCKET = "project-folder"
"""The bucket name under which the local service sees a local project folder."""

MAX_REQUEST_PX = 2500
"""The longest side of a Process request."""


@dataclass(frozen=True, slots=True)
class LocalDeployment:
    """The service on this machine: where its state lies, its collections file, the project folder it delivers to."""

    state: Path
    collections: Path | None
    project_folder: Path


@dataclass(frozen=True, slots=True)
class ProcessAnswer:
    """What a Process request gave: values (y, x, band), and what it cost if the service tells."""

    values: NDArray[Any]
    processing_units: float | None = None
    calls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentinelHub:
    """One deployment of Sentinel Hub. Exactly one of `local` and the addresses is given."""

    name: str
    base_url: str | None = None
    token_url: str | None = None
    local: LocalDeployment | None = None

    def config(self) -> SHConfig:
        """A client configuration that is signed in; starts the local service if it is not running."""
        base_url, token_url = self._addresses()
        identity, secret = self._credentials()
        config = SHConfig(use_defaults=True)
        config.sh_client_id, config.sh_client_secret = identity, secret
        config.sh_base_url, config.sh_token_url = base_url, token_url
        config.max_retries, config.download_sleep_time = 20, 1.0
        config.download_timeout_seconds = 300.0
        if self.local is not None:
            _sign_in_here(identity, secret, base_url, token_url)
        return config

    def process(
        self, data: Sequence[Mapping[str, Any]], evalscript: str, bounds: Bounds, epsg: int, shape: tuple[int, int]
    ) -> ProcessAnswer:
        """The default output of an evalscript over a box as (y, x, band), in one request of at most 2500 px a side."""
        request = SentinelHubRequest(
            evalscript=evalscript,
            input_data=[dict(source) for source in data],
            responses=[SentinelHubRequest.output_response("default", MimeType.TIFF)],
            bbox=BBox(tuple(bounds), CRS(str(epsg))),
            size=(shape[1], shape[0]),
            config=self.config(),
        )
        with service_errors(f"{self.name}: Process request"):
            values = np.asarray(request.get_data()[0])
        return ProcessAnswer(values[..., None] if values.ndim == 2 else values)

    def bucket_url(self, key: str) -> str:
        """The address by which the service reads and writes a key of the project folder."""
        if self.local is None:
            raise ServiceError(
                f"service {self.name} delivers to a bucket, but the project folder is a local one; use storage."
                "project_folder: s3://..., or the service on this machine (service: local)"
            )
        return f"s3://{LOCAL_BUCKET}/{key}"

    def bucket_access(self, key: str) -> dict[str, Any]:
        """How a request names a key of the project folder. The service on this machine needs no key to it."""
        return {"s3": {"url": self.bucket_url(key)}}

    def _addresses(self) -> tuple[str, str]:
        if self.local is None:
            if not (self.base_url and self.token_url):
                raise ServiceError(f"services.{self.name}: base_url and token_url are both needed")
            return self.base_url, self.token_url
        from resources.local_sentinel_hub.server import ServiceSettings, ensure_running

        settings = ServiceSettings(
            folder=self.local.state,
            collections=self.local.collections,
            buckets={LOCAL_BUCKET: self.local.project_folder},
        )
        address = ensure_running(settings)
        return address.base_url, address.token_url

    def _credentials(self) -> tuple[str, str]:
        if self.local is not None:
            from resources.local_sentinel_hub.server import client_of

            client = client_of(self.local.state)  # there since the service was started
            return client.client_id, client.client_secret
        identity, secret = os.environ.get("SH_CLIENT_ID"), os.environ.get("SH_CLIENT_SECRET")
        if not identity or not secret:
            raise ServiceError(
                f"service {self.name} ({self.base_url}) needs credentials: set SH_CLIENT_ID and SH_CLIENT_SECRET in "
                "the environment of Dagster and of its workers"
            )
        return identity, secret


class _LoopbackSession(SentinelHubSession):  # type: ignore[misc]
    """Signs in over plain http, which the client refuses elsewhere: only ever to this machine."""

    def info(self) -> dict[str, Any]:
        """The client remembers a session by the identity that it finds here."""
        return {"azp": self.config.sh_client_id}

    def _collect_new_token(self) -> dict[str, Any]:
        url = self.config.sh_token_url
        if not ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback:
            raise ServiceError(f"{url}: tokens are fetched over plain http from this machine only")
        form = {
            "grant_type": "client_credentials",
            "client_id": self.config.sh_client_id,
            "client_secret": self.config.sh_client_secret,
        }
        with requests.Session() as session:
            session.trust_env = False  # the secret is not for a proxy
            response = session.post(url, data=form, timeout=30)
        if response.status_code != 200:
            raise ServiceError(
                f"local Sentinel Hub refused the credentials of client {self.config.sh_client_id!r}; if they have "
                "changed since it was started, stop it and run again: `eo-assets sentinel-hub stop`"
            )
        token: dict[str, Any] = response.json()
        return {**token, "expires_at": time.time() + token["expires_in"]}


@functools.lru_cache(maxsize=16)
def _sign_in_here(identity: str, secret: str, base_url: str, token_url: str) -> None:
    """Give the client a session with the service on this machine, once a process."""
    config = SHConfig(use_defaults=True)
    config.sh_client_id, config.sh_client_secret = identity, secret
    config.sh_base_url, config.sh_token_url = base_url, token_url
    SentinelHubDownloadClient.cache_session(_LoopbackSession(config))


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


@contextlib.contextmanager
def service_errors(what: str) -> Iterator[None]:
    """Tell a refusal (ServiceError) from a fault that may pass (TransientError); secrets are in neither."""
    try:
        yield
    except OAuth2Error as error:
        raise ServiceError(
            f"{what}: signing in was refused ({error.error}: {error.description}); check SH_CLIENT_ID, "
            "SH_CLIENT_SECRET and the service's token_url"
        ) from error
    except (requests.RequestException, OutOfRequestsException) as error:
        raise TransientError(f"{what}: {error}") from error
    except DownloadFailedException as error:
        status = http_status(error)
        kind = ServiceError if status is not None and 400 <= status < 500 and status != 429 else TransientError
        raise kind(f"{what}: {error}") from error


def http_status(error: DownloadFailedException) -> int | None:
    """The HTTP status that a request failed with; None where there was no answer."""
    response = getattr(error.request_exception, "response", None)
    return None if response is None else int(response.status_code)
