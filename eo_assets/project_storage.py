"""Where a project's data live: its folder or bucket, the sub-folders of its stages, how the bucket is reached."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from eo_assets.project_retention import Prices, Retention
from eo_assets.project_types import Section


def _endpoint(value: str) -> str:
    """The address of a server and no more: whatever else a URL can hold is a slip, or a secret."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("not the address of a server: write https://host, or http://host:port")
    if parts.username or parts.password:
        raise ValueError(
            "an address with a user or password in it: take them out; keys come from AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or from storage.s3.profile"
        )
    return value.rstrip("/")


Endpoint = Annotated[str, AfterValidator(_endpoint)]


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
    spending: str = "spending"
    logs: str = "logs"


class S3Settings(Section):
    """How the bucket is reached. What is not said is what the AWS environment says; keys are never said here.

    `endpoint`: the address of a server that is not AWS. `profile`: one of the AWS configuration. `addressing`: the
    bucket in the `path` of a request, or `virtual`, in its host name.
    """

    endpoint: Endpoint | None = None
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    profile: Annotated[str, Field(min_length=1)] | None = None
    addressing: Literal["path", "virtual"] | None = None


class Storage(Section):
    """Where the project's data live: a local folder, or `s3://bucket/prefix`."""

    project_folder: str = Field(min_length=1)
    s3: S3Settings = S3Settings()
    structure: Folders = Folders()
    retention: Retention = Retention()
    prices: Prices = Prices()
