"""How GDAL reaches the same bucket: its settings, derived from the same access in one place.

GDAL ignores AWS_ENDPOINT_URL and knows fewer sources of credentials than the AWS chain: it is handed what the chain
found. Its settings hold a secret: they go into `gdal_env` and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import rasterio
from rasterio.session import DummySession

from eo_assets.errors import StoreError
from resources.s3_access import AWS_CHAIN, S3Access
from resources.s3_settings import Credentials, credentials, settings

READING = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff,.jp2",
    "GDAL_HTTP_MAX_RETRY": "8",
    "GDAL_HTTP_RETRY_DELAY": "0.2",
    "GDAL_HTTP_CONNECTTIMEOUT": "5",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "VSI_CACHE": "FALSE",
}
"""For every server: no listing of neighbours, no side files asked for, what passes is tried again, and a
server that says nothing for 20 seconds is taken to have broken the connection."""


def gdal_path(address: str) -> str:
    """The name of `s3://bucket/key` for GDAL; a local path is its own name."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    if scheme != "s3" or not rest.partition("/")[2]:
        raise StoreError(f"{address}: GDAL reads local files and objects as s3://bucket/key")
    return f"/vsis3/{rest}"


def gdal_options(access: S3Access = AWS_CHAIN, source: Credentials | None = None) -> dict[str, str]:
    """GDAL's configuration of a server, secrets included: for `gdal_env`, rasterio.Env itself refuses keys."""
    key = (source or credentials(access)).get_frozen_credentials()
    return {
        **server_options(access),
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        # An empty one, so that a token in the environment, of another key, is not taken.
        "AWS_SESSION_TOKEN": key.token or "",
    }


def server_options(access: S3Access = AWS_CHAIN) -> dict[str, str]:
    """GDAL's configuration of a server without any secret, which may go into the environment."""
    found = settings(access)
    options = {
        **READING,
        "AWS_REGION": found.region,
        "AWS_VIRTUAL_HOSTING": "TRUE" if found.virtual else "FALSE",
        **({"AWS_PROFILE": access.profile} if access.profile else {}),
    }
    if found.endpoint is not None:
        url = urlsplit(found.endpoint)
        options["AWS_S3_ENDPOINT"] = f"{url.netloc}{url.path}"
        options["AWS_HTTPS"] = "NO" if url.scheme == "http" else "YES"
    return options


class _Found(DummySession):  # type: ignore[misc]  # rasterio has no types
    """What the AWS chain found, as a session: rasterio takes keys from sessions only, and its own would ask boto3."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__()
        self.credentials = options

    def get_credential_options(self) -> dict[str, str]:
        return self.credentials


@contextlib.contextmanager
def gdal_env(access: S3Access = AWS_CHAIN, source: Credentials | None = None) -> Iterator[None]:
    """Within it rasterio opens `gdal_path` of this server, in this thread, with the key of that moment.

    `source` spares asking the AWS chain, for who opens many files.
    """
    with rasterio.Env(session=_Found(gdal_options(access, source))):
        yield
