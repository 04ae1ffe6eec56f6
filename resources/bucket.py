"""A prefix of an S3 bucket as an object store: whole objects by the server, swaps by conditional puts.

Needs of the server: conditional puts (If-None-Match, If-Match), multipart uploads, ListObjectsV2 and bulk deletes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import obstore.exceptions

from eo_assets.errors import StorageRefused, StoreError
from resources import bucket_transfers, lease
from resources.bucket_faults import read_fault
from resources.bucket_leases import BucketLeases
from resources.bucket_listing import BucketListing
from resources.bucket_requests import PATIENCE, Connection, Patience
from resources.object_keys import checked_key
from resources.object_store import Listed
from resources.s3_access import AWS_CHAIN, S3Access
from resources.storage_faults import storage_told

BEYOND_THE_END = 416
"""The status of a range that begins where the object has ended."""

NO_ETAG = f'"{"0" * 32}"'
"""Of no object."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix of a bucket as an object store. Small, immutable and picklable; it holds no secret.

    `prefix` has no slash at its ends, and may be empty.
    """

    connection: Connection
    prefix: str
    times: lease.Times = lease.TIMES

    @classmethod
    def at(cls, address: str, access: S3Access = AWS_CHAIN, patience: Patience = PATIENCE) -> Bucket:
        """The store at `s3://bucket/prefix`. A StoreError for anything else."""
        url = urlsplit(address)
        if url.scheme != "s3" or not url.netloc or url.query or url.fragment or set(url.netloc) & set("@:"):
            raise StoreError(f"{address}: no address of a bucket; write it as s3://bucket/prefix")
        prefix = url.path.strip("/")
        return cls(Connection(url.netloc, access, patience), checked_key(prefix, address).as_posix() if prefix else "")

    def place(self, key: str = "") -> str:
        """`s3://bucket/prefix/key`. A StoreError for a key that leaves the prefix."""
        return f"s3://{self.connection.bucket}/{self._path(key)}".rstrip("/")

    def get(self, key: str) -> bytes | None:
        """The object's bytes, None when it does not exist."""
        path = self._path(key)
        try:
            return self.connection.asked(self.place(key), lambda client: obstore.get(client, path).bytes().to_bytes())
        except FileNotFoundError:
            return None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of an object's bytes, shorter where the object ends. One that does not exist is a StoreError."""
        path, place = self._path(key), self.place(key)

        def read(client: obstore.store.S3Store) -> bytes:
            try:
                # An empty range is an error to S3, one that ends beyond the end is not.
                return obstore.get_range(client, path, start=start, length=max(length, 1)).to_bytes()[:length]
            except obstore.exceptions.BaseError as error:
                if read_fault(error).status == BEYOND_THE_END:
                    return b""
                raise

        with self._told_missing(key):
            return self.connection.asked(place, read)

    def put(self, key: str, data: bytes) -> None:
        """Replace or create the object: readers see the old bytes or the new."""
        self._may_write()
        bucket_transfers.put_bytes(self.connection, self.place(key), self._path(key), data)

    def put_file(self, key: str, source: Path) -> None:
        """The same with the bytes of a file, large ones in parts; an upload that fails leaves nothing to be seen."""
        self._may_write()
        bucket_transfers.put_file(self.connection, self.place(key), self._path(key), source)

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none; False, and nothing changed, if there is one."""
        self._may_write()
        return self._put_if(key, data, "create")

    def swap(self, key: str, data: bytes, expected: bytes | None) -> bool:
        """Replace the object only if its bytes still are `expected` (None: only if it does not exist)."""
        self._may_write()
        return self.swap_unguarded(key, data, expected)

    def fetch(self, key: str, target: Path) -> None:
        """The object as a local file, which appears whole or not at all. One that does not exist is a StoreError."""
        path = self._path(key)
        with self._told_missing(key), storage_told(target.parent):
            bucket_transfers.fetch(self.connection, self.place(key), path, target)

    def copy(self, source: str, key: str) -> None:
        """Put an object under a second key, by the server where it can."""
        self._may_write()
        with self._told_missing(source):
            bucket_transfers.copy(self.connection, self.place(key), self._path(source), self._path(key))

    def exists(self, key: str) -> bool:
        """Is there an object of this key, or anything under it?"""
        path = self._path(key)
        if path:
            with contextlib.suppress(FileNotFoundError):
                self.connection.asked(self.place(key), lambda client: obstore.head(client, path))
                return True
        return self._listing.any_under(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects and folders directly under a prefix, sorted; hidden ones are left out."""
        return iter(self._listing.keys(prefix))

    def folders(self, prefix: str) -> list[str]:
        """The keys of the folders directly under a prefix, sorted; hidden ones are left out."""
        return self._listing.folders(prefix)

    def versions(self, prefix: str) -> dict[str, str]:
        """The names of the objects directly under a prefix, with their ETags."""
        return self._listing.versions(prefix)

    def under(self, prefix: str) -> list[Listed]:
        """All objects under a prefix at any depth, sorted, hidden ones included."""
        return self._listing.under(prefix)

    def matching(self, pattern: str) -> list[Listed]:
        """The objects whose keys match a glob, sorted; hidden ones, and what is still being copied, are left out."""
        return self._listing.matching(pattern)

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""
        self._may_write()
        self.delete_unguarded(key)

    def delete_folder(self, key: str) -> None:
        """Remove everything under a key, a thousand at a time; nothing there is no error."""
        self._may_write()
        found = [self._path(listed.key) for listed in self.under(key)]
        if found:
            self._delete(key, found)

    def check_conditions(self, key: str, data: bytes) -> None:
        """Put an object once more under conditions that do not hold; a server that takes them is refused."""
        for header, condition in (("If-None-Match: *", "create"), ("If-Match", {"e_tag": NO_ETAG})):
            if self._put_under(key, data, condition)[0]:  # type: ignore[arg-type]
                raise StorageRefused(
                    f"{self.place(key)}: the server overlooks {header} of a put, so that two runs would overwrite one "
                    "another; use one that knows conditional puts, as AWS S3, MinIO and SeaweedFS do"
                )

    @contextlib.contextmanager
    def exclusive(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a key against all other processes, see `lease`. A holder that lost it fails at its next write."""
        with lease.leased(self._leases(), self._lock_of(key), waiting, self.times):
            yield

    def held(self, key: str) -> bool:
        """Does a living process hold this key (see `exclusive`)? A dead one is watched for the time of a lease."""
        return lease.is_held(self._leases(), self._lock_of(key), self.times)

    def unlock(self, key: str) -> None:
        """Remove what `exclusive` leaves behind, of a key that nobody will ever hold again."""
        self.delete(self._lock_of(key))

    def modified(self, key: str) -> float:
        """When the object was written, in seconds since 1970 by the server's clock; FileNotFoundError for none."""
        path = self._path(key)
        found = self.connection.asked(self.place(key), lambda client: obstore.head(client, path))
        return found["last_modified"].timestamp()

    def delete_unguarded(self, key: str) -> None:
        """`delete` for leases themselves, which no lease guards."""
        self._delete(key, self._path(key))

    @property
    def _listing(self) -> BucketListing:
        return BucketListing(self.connection, self.prefix)

    def _path(self, key: str) -> str:
        """The key within the bucket."""
        inner = checked_key(key, f"s3://{self.connection.bucket}/{self.prefix}").as_posix() if key else ""
        return "/".join(part for part in (self.prefix, "" if inner == "." else inner) if part)

    def _may_write(self) -> None:
        lease.confirm_leases(self.place())

    def _delete(self, key: str, paths: str | list[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.connection.asked(self.place(key), lambda client: obstore.delete(client, paths))

    def _put_under(self, key: str, data: bytes, condition: obstore.PutMode) -> tuple[bool, bool]:
        """Whether the server says it was done, and whether an earlier attempt, its answer lost, may have done it."""
        path = self._path(key)

        def put(client: obstore.store.S3Store) -> object:
            return obstore.put(client, path, data, mode=condition, use_multipart=False)

        return self.connection.conditional(self.place(key), put)

    def _put_if(self, key: str, data: bytes, condition: obstore.PutMode) -> bool:
        done, unsure = self._put_under(key, data, condition)
        # An attempt whose answer was lost may be what the next one met: then the bytes are ours.
        return done or (unsure and self.get(key) == data)

    def swap_unguarded(self, key: str, data: bytes, expected: bytes | None) -> bool:
        """`swap` for leases themselves, which no lease guards."""
        if expected is None:
            return self._put_if(key, data, "create")
        path = self._path(key)

        def read(client: obstore.store.S3Store) -> tuple[bytes, str | None]:
            found = obstore.get(client, path)
            return found.bytes().to_bytes(), found.meta["e_tag"]

        try:
            seen, tag = self.connection.asked(self.place(key), read)
        except FileNotFoundError:
            return False
        return seen == expected and self._put_if(key, data, {"e_tag": tag})

    def _leases(self) -> BucketLeases:
        return BucketLeases(self)

    def _lock_of(self, key: str) -> str:
        parts = checked_key(key, self.place())
        return parts.with_name(f".{parts.name}.lock").as_posix()

    def _told_missing(self, key: str) -> AbstractContextManager[None]:
        return _missing_told(self.place(key))


@contextlib.contextmanager
def _missing_told(place: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StoreError(f"{place} does not exist") from None
