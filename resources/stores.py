"""Which object store a project folder is."""

from __future__ import annotations

from pathlib import Path

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from resources.s3_access import AWS_CHAIN, S3Access


def open_store(project_folder: str, access: S3Access = AWS_CHAIN) -> ObjectStore:
    """The store of a project folder: a folder of this machine, or a prefix of a bucket."""
    if "://" in project_folder:
        raise StoreError(
            f"storage.project_folder: {project_folder}: projects in a bucket are not supported by this version; "
            "name a local folder"
        )
    return LocalFolder(Path(project_folder))
