"""Which object store a project folder is."""

from __future__ import annotations

from pathlib import Path

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from resources.s3_access import AWS_CHAIN, S3Access


def open_store(project_folder: str, access: S3Access = AWS_CHAIN) -> ObjectStore:
    """The store of a project folder: a folder of this machine, or a prefix of a bucket. No server is asked."""
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
    from resources.bucket import Bucket  # what it needs is not loaded for a local project

    try:
        return Bucket.at(project_folder, access)
    except StoreError as error:
        raise StoreError(f"storage.project_folder: {error}") from None
