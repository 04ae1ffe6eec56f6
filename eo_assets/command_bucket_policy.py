"""`eo-assets bucket-policy`: the JSON that gives a role its rights in a bucket, printed and nothing else."""

from __future__ import annotations

import json

from eo_assets.core.bucket_policies import ROLES, YOUR_ACCOUNT, Asked, place_of


def bucket_policy(
    address: str,
    role: str,
    service: str,
    *,
    principal: str | None = None,
    external_id: str | None = None,
    folder: str | None = None,
) -> str:
    """The document of a role (a key of `ROLES`) as JSON. A StoreError for what is no place in a bucket."""
    place = place_of(address)
    if folder is not None:
        folder = place_of(f"s3://{place.bucket}/{folder.strip('/')}").prefix
    asked = Asked(place, service, principal, external_id or YOUR_ACCOUNT, folder)
    return json.dumps(ROLES[role](asked), indent=2)
