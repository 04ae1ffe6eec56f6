"""A bucket as leases use it: their own reads and writes, which no lease guards, and the server's clock."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol


class Guarded(Protocol):
    """What is used of a bucket."""

    def place(self, key: str) -> str: ...
    def get(self, key: str) -> bytes | None: ...
    def swap_unguarded(self, key: str, data: bytes, expected: bytes | None) -> bool: ...
    def delete_unguarded(self, key: str) -> None: ...
    def modified(self, key: str) -> float: ...


@dataclass(frozen=True, slots=True)
class BucketLeases:
    """The bucket as leases use it: their own writes ask for no lease."""

    bucket: Guarded

    def place(self, key: str) -> str:
        return self.bucket.place(key)

    def get(self, key: str) -> bytes | None:
        return self.bucket.get(key)

    def swap(self, key: str, data: bytes, expected: bytes | None) -> bool:
        return self.bucket.swap_unguarded(key, data, expected)

    def age(self, key: str) -> float:
        """Seconds since the object was written, both times by the server's clock; 0 for one that is gone."""
        clock = f"{key}.{secrets.token_hex(4)}.clock"
        self.bucket.swap_unguarded(clock, b"", None)
        try:
            return max(0.0, self.bucket.modified(clock) - self.bucket.modified(key))
        except FileNotFoundError:
            return 0.0
        finally:
            self.bucket.delete_unguarded(clock)
