"""Which object store a project folder is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from resources.s3_access import AWS_CHAIN, PATIENCE_VARIABLE, S3Access


def open_store(project_folder: str, access: S3Access = AWS_CHAIN, patience_s: float | None = None) -> ObjectStore:
    """The store of a project folder: a folder of this machine, or a prefix of a bucket. No server is asked.

    `patience_s` is how long a request to a bucket is tried again, unless the environment says it.
    """
    scheme, separator, rest = project_folder.partition("://")
    if not separator:
        return LocalFolder(Path(project_folder))
    if scheme != "s3":
        # Not the address itself: of other schemes it may hold a password.
        raise StoreError(
            f"storage.project_folder: {scheme}:// is not supported; name a local folder, or a bucket as s3://bucket/prefix"
        )
    if "@" in rest.partition("/")[0]:
        raise StoreError("storage.project_folder: an s3:// address holds no user info; see AWS_ACCESS_KEY_ID")
    # What a bucket needs is not loaded for a local project.
    from resources.bucket import Bucket
    from resources.bucket_requests import PATIENCE

    said = os.environ.get(PATIENCE_VARIABLE)
    total_s = float(said) if said else patience_s or PATIENCE.total_s
    try:
        return Bucket.at(project_folder, access, replace(PATIENCE, total_s=total_s))
    except StoreError as error:
        raise StoreError(f"storage.project_folder: {error}") from None
