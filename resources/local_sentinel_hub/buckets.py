"""`s3://bucket/key` as a place: below the folder that plays the bucket and never elsewhere, or in a real bucket."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eo_assets.errors import StoreError
from resources.bucket import Bucket
from resources.local_sentinel_hub.api import ApiError, bad_payload
from resources.local_sentinel_hub.tiffs import RemoteTiff, Tiff
from resources.s3_access import S3Access

SCHEME = "s3://"


class Place(Protocol):
    """A file or folder of a bucket. Files appear there whole or not at all."""

    @property
    def name(self) -> str:
        """The last part of its key."""
        ...

    @property
    def tiff(self) -> Tiff:
        """It as a GeoTIFF."""
        ...

    def __truediv__(self, name: str) -> Place: ...

    def exists(self) -> bool:
        """Is there a file?"""
        ...

    def files(self) -> list[str]:
        """The names of the files directly in a folder, sorted; none of one that is not there."""
        ...

    def present(self, places: Iterable[Place]) -> set[Place]:
        """Those of these places, all of them under this folder, where there is a file."""
        ...

    def take(self, draft: Path) -> None:
        """Put a finished file here; the draft is used up."""
        ...

    def write(self, content: bytes) -> None:
        """Put these bytes here."""
        ...

    def local(self) -> AbstractContextManager[Path]:
        """The file as one of this machine, which need not exist, for the length of a block."""
        ...

    def drafts(self, name: str) -> Path:
        """A folder of this machine for what is to be taken here; it need not exist."""
        ...

    def clear_drafts(self, prefix: str) -> None:
        """Remove such folders whose names begin so."""
        ...


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A file or folder of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def tiff(self) -> Path:
        """Its path."""
        return self.path

    def __truediv__(self, name: str) -> FolderPlace:
        return FolderPlace(self.path / name)

    def exists(self) -> bool:
        """Is there a file?"""
        return self.path.is_file()

    def files(self) -> list[str]:
        """The names in the folder."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def present(self, places: Iterable[Place]) -> set[Place]:
        """Those that are files."""
        return {place for place in places if place.exists()}

    def take(self, draft: Path) -> None:
        """Move it here, on one file system: readers see the old file or the new one, whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self.path)

    def write(self, content: bytes) -> None:
        """Write beside it, then move."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.part")
        try:
            draft.write_bytes(content)
            self.take(draft)
        finally:
            draft.unlink(missing_ok=True)

    @contextlib.contextmanager
    def local(self) -> Iterator[Path]:
        """The file itself."""
        yield self.path

    def drafts(self, name: str) -> Path:
        """A folder in this folder, so that drafts can be moved."""
        return self.path / name

    def clear_drafts(self, prefix: str) -> None:
        """Remove such folders."""
        for drafts in self.path.glob(f"{prefix}*"):
            shutil.rmtree(drafts, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """An object, or the objects under a key, of a real bucket."""

    bucket: Bucket
    key: str
    own_drafts: Path
    """Where on this machine its files are made and read, see `Buckets.drafts`."""

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]

    @property
    def tiff(self) -> RemoteTiff:
        """It as GDAL reads it, by range."""
        return RemoteTiff(self.bucket.place(self.key), self.bucket.connection.access)

    def __truediv__(self, name: str) -> BucketPlace:
        return BucketPlace(self.bucket, f"{self.key}/{name}" if self.key else name, self.own_drafts)

    def exists(self) -> bool:
        """Is there an object?"""
        return bool(self.key) and self.bucket.exists(self.key)

    def files(self) -> list[str]:
        """The names of the objects directly under the key."""
        return sorted(self.bucket.versions(self.key))

    def present(self, places: Iterable[Place]) -> set[Place]:
        """Those that one listing, in pages, has: asking for each file of a large request would take hours."""
        keys = {listed.key for listed in self.bucket.under(self.key)}
        return {place for place in places if isinstance(place, BucketPlace) and place.key in keys}

    def take(self, draft: Path) -> None:
        """Put it in one piece, or in parts that become one at the end."""
        self.bucket.put_file(self.key, draft)
        draft.unlink()

    def write(self, content: bytes) -> None:
        """Put the bytes."""
        self.bucket.put(self.key, content)

    @contextlib.contextmanager
    def local(self) -> Iterator[Path]:
        """A copy."""
        self.own_drafts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.own_drafts) as folder:
            copy = Path(folder, self.name)
            if self.exists():
                self.bucket.fetch(self.key, copy)
            yield copy

    def drafts(self, name: str) -> Path:
        """A folder among the service's own files."""
        return self.own_drafts / name

    def clear_drafts(self, prefix: str) -> None:
        """Remove such folders."""
        for drafts in self.own_drafts.glob(f"{prefix}*") if self.own_drafts.is_dir() else ():
            shutil.rmtree(drafts, ignore_errors=True)


@dataclass(frozen=True)
class Buckets:
    """The buckets that are served: folders that stand for some, by name, and with `s3` every bucket of a server.

    What is to be put into a real bucket is made in `drafts`, a folder that no other service and no other user has.
    """

    folders: Mapping[str, Path]
    drafts: Path
    s3: S3Access | None = None

    def place(self, url: str, parameter: str = "url") -> Place:
        """The place of an s3 URL. Nothing need be there.

        Raises:
            ApiError: 400 for a URL that is none, an unknown bucket, or a key that leads out of its bucket.
        """
        if not url.startswith(SCHEME):
            raise bad_payload(f"{url!r} is no s3://bucket/key", parameter, url)
        bucket, _, key = url.removeprefix(SCHEME).partition("/")
        return self.key(bucket, key, parameter)

    def key(self, bucket: str, key: str, parameter: str = "path") -> Place:
        """The place of a key; see `place`."""
        parts = [part for part in key.split("/") if part]
        if ".." in parts or "\\" in key or "\0" in key:
            raise bad_payload(f"key {key!r} leads out of bucket {bucket!r}", parameter, key)
        folder = self.folders.get(bucket)
        if folder is not None:
            return _below(folder.resolve(), parts, bucket, key, parameter)
        if self.s3 is None:
            known = ", ".join(sorted(self.folders)) or "none"
            message = f"bucket {bucket!r} is not served here; there are: {known}. Start the service with it"
            raise ApiError(400, "COMMON_INVALID_BUCKET", message, parameter=parameter, value=bucket)
        try:
            return BucketPlace(Bucket.at(f"{SCHEME}{bucket}", self.s3), "/".join(parts), self.drafts)
        except StoreError as error:
            raise bad_payload(str(error), parameter, bucket) from None


def _below(root: Path, parts: list[str], bucket: str, key: str, parameter: str) -> FolderPlace:
    """A link inside the bucket may lead out of it, so the answer is checked where it really lies."""
    target = root.joinpath(*parts)
    if not target.resolve().is_relative_to(root):
        raise bad_payload(f"key {key!r} leads out of bucket {bucket!r}", parameter, key)
    return FolderPlace(target)
