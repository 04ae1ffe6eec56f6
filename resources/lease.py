"""A key of a bucket held by one process at a time: a lease object that its holder keeps renewing.

No two clocks are compared. Whoever waits takes a lease over when it saw it unchanged for its whole time by its own
clock, or when the server's clock says so. A holder that can't renew knows at its next write whether it was taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from eo_assets.errors import EoAssetsError, StorageRefused

LEASE_S = 30.0
"""Seconds without a renewal after which a lease may be taken over."""

RENEW_S = 6.0
POLL_S = 1.0
FREE = b'{"owner": null}'
"""What the last holder leaves: deleting could delete the next one's."""

NOBODY = (None, FREE, b"")
"""What is seen of a key that nobody holds. A lock of a local folder, copied into a bucket with the rest, is empty."""


class LeaseStore(Protocol):
    """What a lease needs of a store."""

    def place(self, key: str) -> str: ...
    def get(self, key: str) -> bytes | None: ...
    def swap(self, key: str, data: bytes, expected: bytes | None) -> bool: ...
    def age(self, key: str) -> float: ...


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a lease in seconds."""

    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    poll_s: float = POLL_S


TIMES = Times()


class Lease:
    """A lease that this process holds. `confirm` raises when it was lost."""

    def __init__(self, store: LeaseStore, key: str, times: Times) -> None:
        self.key = key
        self._store, self._times = store, times
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._beat = 0
        self._said = self._text()
        self._confirmed = 0.0
        self._lost = False
        self._renewing = threading.Lock()
        self._ended = threading.Event()

    def take(self, expected: bytes | None) -> bool:
        """Try to become the holder in the place of what was seen there."""
        begun = time.monotonic()
        if not self._store.swap(self.key, self._said, expected):
            return False
        self._confirmed = begun
        threading.Thread(target=self._renew_on, name=f"lease {self.key}", daemon=True).start()
        return True

    def confirm(self) -> None:
        """Still held? A renewal that is overdue is made now; StorageRefused when somebody else took over."""
        if not self._lost and time.monotonic() - self._confirmed > self._times.lease_s * 0.8:
            self._renew()
        if self._lost:
            raise StorageRefused(
                f"{self._store.place(self.key)}: this process was silent for {self._times.lease_s:g} s and another "
                "took its lease over; nothing more is written: start the run again"
            )

    def give_back(self) -> None:
        """Free for the next one; a lost one is left alone."""
        self._ended.set()
        with self._renewing:
            if not self._lost:
                self._store.swap(self.key, FREE, self._said)

    def _renew_on(self) -> None:
        while not self._ended.wait(self._times.renew_s):
            with contextlib.suppress(EoAssetsError):  # the next write asks again, and tells it
                self._renew()
            if self._lost:
                return

    def _renew(self) -> None:
        with self._renewing:
            if self._ended.is_set() or self._lost:
                return
            begun, before = time.monotonic(), self._said
            self._beat += 1
            said = self._text()
            if not self._store.swap(self.key, said, before) and not self._retaken(said):
                self._lost = True
                return
            self._said, self._confirmed = said, begun

    def _retaken(self, said: bytes) -> bool:
        """Is what is there our own word after all: this one, or one whose answer was lost and that this one follows?"""
        seen = self._store.get(self.key)
        return seen == said or (self._is_ours(seen) and self._store.swap(self.key, said, seen))

    def _is_ours(self, seen: bytes | None) -> bool:
        return json.dumps({"owner": self._owner})[:-1].encode() in (seen or b"")

    def _text(self) -> bytes:
        return json.dumps({"owner": self._owner, "beat": self._beat}).encode()


@contextlib.contextmanager
def leased(store: LeaseStore, key: str, waiting: Callable[[], None], times: Times = TIMES) -> Iterator[Lease]:
    """Hold a key; `waiting` is called once if somebody else holds it. A lost lease is told at the end at the latest."""
    lease = Lease(store, key, times)
    _taken(lease, store, waiting, times)
    with _held_here(store.place(""), lease):
        try:
            yield lease
            lease.confirm()
        finally:
            lease.give_back()


def is_held(store: LeaseStore, key: str, times: Times = TIMES) -> bool:
    """Does a living process hold it? Watched until it is renewed, or was silent for its whole time."""
    watch = _Watch(store, key, times)
    while (seen := watch.look()) is not None:
        if watch.changed:
            return seen not in NOBODY
        if watch.silent:
            return False
        time.sleep(times.poll_s)
    return False


def confirm_leases(place: str) -> None:
    """Before a write to the store at `place`: whoever lost a lease of it writes no more."""
    for where, lease in tuple(_HELD):
        if where == place:
            lease.confirm()


class _Watch:
    """What was seen of a lease, and since when it is the same."""

    def __init__(self, store: LeaseStore, key: str, times: Times) -> None:
        self._store, self._key, self._times = store, key, times
        self._seen: bytes | None = None
        self._since = 0.0
        self._first = True
        self._old = False
        self.changed = False

    def look(self) -> bytes | None:
        """What is there, None if it is free."""
        now, seen = time.monotonic(), self._store.get(self._key)
        self.changed = not self._first and seen != self._seen
        if self._first or self.changed:
            self._seen, self._since = seen, now
        self._old = self._first and seen not in NOBODY and self._store.age(self._key) > 2 * self._times.lease_s
        self._first = False
        return None if seen in NOBODY else seen

    @property
    def raw(self) -> bytes | None:
        """What is there, byte by byte."""
        return self._seen

    @property
    def silent(self) -> bool:
        """Was it not renewed for its whole time?"""
        return self._old or time.monotonic() - self._since > self._times.lease_s


def _taken(lease: Lease, store: LeaseStore, waiting: Callable[[], None], times: Times) -> None:
    told = False
    watch = _Watch(store, lease.key, times)
    while True:
        free = watch.look() is None
        if (free or watch.silent) and lease.take(watch.raw):
            return
        if not told and not free and not watch.silent:
            waiting()
            told = True
        time.sleep(times.poll_s)


_HELD: list[tuple[str, Lease]] = []


@contextlib.contextmanager
def _held_here(place: str, lease: Lease) -> Iterator[None]:
    entry = (place, lease)
    _HELD.append(entry)
    try:
        yield
    finally:
        _HELD.remove(entry)
