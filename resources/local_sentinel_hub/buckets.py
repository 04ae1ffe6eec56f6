"""`s3://bucket/key` as a path below the bucket's folder, and never anywhere else."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resources.local_sentinel_hub.api import ApiError, bad_payload

SCHEME = "s3://"


@dataclass(frozen=True)
class Buckets:
    """Folders that stand for buckets, by bucket name."""

    folders: Mapping[str, Path]

    def path(self, url: str, parameter: str = "url") -> Path:
        """The file of an s3 URL. It need not exist.

        Raises:
            ApiError: 400 for a URL that is none, an unknown bucket, or a key that leads out of its bucket.
        """
        if not url.startswith(SCHEME):
            raise bad_payload(f"{url!r} is no s3://bucket/key", parameter, url)
        bucket, _, key = url.removeprefix(SCHEME).partition("/")
        return self.key(bucket, key, parameter)

    def key(self, bucket: str, key: str, parameter: str = "path") -> Path:
        """The file of a key; see `path`."""
        folder = self.folders.get(bucket)
        if folder is None:
            known = ", ".join(sorted(self.folders)) or "none"
            message = f"bucket {bucket!r} is not served here; there are: {known}. Start the service with it"
            raise ApiError(400, "COMMON_INVALID_BUCKET", message, parameter=parameter, value=bucket)
        root = folder.resolve()
        parts = key.split("/")
        target = root.joinpath(*[part for part in parts if part])
        # A link inside the bucket may lead out of it, so the answer is checked where it really lies.
        if ".." in parts or "\\" in key or "\0" in key or not target.resolve().is_relative_to(root):
            raise bad_payload(f"key {key!r} leads out of bucket {bucket!r}", parameter, key)
        return target


def publish(draft: Path, target: Path) -> None:
    """Move a finished file to its place: readers see the old file or the new one, whole. Both on one file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def publish_bytes(content: bytes, target: Path) -> None:
    """Write a file so that it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        draft.write_bytes(content)
        publish(draft, target)
    finally:
        draft.unlink(missing_ok=True)
