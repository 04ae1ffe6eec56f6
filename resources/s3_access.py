"""How buckets are reached: endpoint, region, profile, addressing. No secret: those are found when a call is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PATIENCE_VARIABLE = "EO_ASSETS_S3_PATIENCE_SECONDS"
"""How long a request to a bucket is tried again; a minute and a half unless it is set."""


@dataclass(frozen=True, slots=True)
class S3Access:
    """What one S3 server differs from another by; None is what the AWS chain and the environment say.

    `endpoint` is a URL without user info, `https://eodata.dataspace.copernicus.eu` for instance; None is AWS, or
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL in the environment. `profile` names one of the AWS configuration.
    `addressing` puts the bucket into the path or into the host name.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: Literal["path", "virtual"] | None = None


AWS_CHAIN = S3Access()
"""Everything as the environment says."""
