"""Places that the processes of one machine share: so many at a time, and no more."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eo_assets.errors import ServiceError
from resources.service_calls import pause

POLL_S = 0.05


@contextlib.contextmanager
def slot(name: str, number: int) -> Iterator[None]:
    """Hold one of `number` places of a name; waits for one. The system frees the place of a process that dies."""
    own = Path(tempfile.gettempdir()) / f"eo-assets-slots-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise ServiceError(f"{own} belongs to somebody else: remove it, or set TMPDIR to a folder of your own")
    folder = own / hashlib.sha256(name.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    while True:
        for place in random.sample(range(number), number):
            with (folder / f"{place}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
        pause(POLL_S)
