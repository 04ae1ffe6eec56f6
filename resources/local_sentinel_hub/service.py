"""The service behind the HTTP surface: its state, its collections, its jobs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from resources.local_sentinel_hub.batch import BatchJobs
from resources.local_sentinel_hub.batch_tiles import WORKERS
from resources.local_sentinel_hub.buckets import Buckets
from resources.local_sentinel_hub.byoc import Byoc
from resources.local_sentinel_hub.collections import Collection, load_collections
from resources.local_sentinel_hub.credentials import Client
from resources.local_sentinel_hub.fault_state import FaultState
from resources.local_sentinel_hub.request_log import RequestLog
from resources.local_sentinel_hub.script_child import ScriptLimits
from resources.local_sentinel_hub.store import DocumentStore
from resources.local_sentinel_hub.tokens import TokenIssuer

REQUESTS = "requests.jsonl"
SPENT, PROCESS = "spent", "process"


class Service:
    """One running service. `renderers` bounds how many Process requests are rendered at a time."""

    def __init__(
        self,
        folder: Path,
        collections: Path | None,
        buckets: Buckets,
        client: Client | None,
        limits: ScriptLimits,
        allow_faults: bool = False,
    ) -> None:
        """Open the state in `folder`; without a client given, any is let in.

        Raises:
            ProjectError: the file of collections can't be used.
        """
        self.limits = limits
        self.renderers = threading.BoundedSemaphore(WORKERS)
        self._store = DocumentStore(folder / "state.sqlite")
        self.tokens = TokenIssuer(self._store.signing_key(), client)
        self.faults = FaultState(self._store, allow_faults)
        self.log = RequestLog(folder / REQUESTS)
        self.byoc = Byoc(self._store, buckets)
        self.batch = BatchJobs(self._store, buckets, self.collections, folder / "batch", limits, self.faults)
        self._path = collections
        self._declared: tuple[int, dict[str, Collection]] = (-1, {})
        self._last = time.monotonic()
        self._charging = threading.Lock()
        self.collections()

    @property
    def busy(self) -> bool:
        """Whether the service must not be ended: a batch request is at work or a tile waits to be ingested."""
        return self.batch.busy or self.byoc.busy

    @property
    def idle_s(self) -> float:
        """Seconds since the last request, 0 while the service is busy."""
        if self.busy:
            self.touch()
        return time.monotonic() - self._last

    def touch(self) -> None:
        """A request came or went."""
        self._last = time.monotonic()

    def collections(self) -> dict[str, Collection]:
        """Everything that can be asked for by type. A changed YAML file is read again."""
        if self._path is not None:
            changed = self._path.stat().st_mtime_ns
            if changed != self._declared[0]:
                self._declared = (changed, load_collections(self._path))
        return {**self._declared[1], **self.byoc.served()}

    def charge(self, units: float) -> None:
        """Add what a Process request costs to the sum."""
        with self._charging:
            self._store.put(SPENT, {"id": PROCESS, "units": self._charged() + units})

    def spent(self) -> dict[str, Any]:
        """All charges since the state began: the costPU of each batch request, the sum of Process requests."""
        batch = {document["id"]: document["costPU"] for document in self.batch.all()}
        return {"batch": batch, "process": round(self._charged(), 6)}

    def _charged(self) -> float:
        return float((self._store.get(SPENT, PROCESS) or {"units": 0.0})["units"])

    def resume(self) -> None:
        """Take up what the end of the last process interrupted."""
        self.byoc.resume()
        self.batch.resume()

    def close(self) -> None:
        """End the work in hand; the rest goes on when the service runs again."""
        self.batch.close()
        self.byoc.close()
        self.log.close()
        self._store.close()
