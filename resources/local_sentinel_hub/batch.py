"""Batch V2: requests that live in the store, and the threads that carry each from status to status."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eo_assets.core.cost import SMALLEST_REQUEST
from resources.local_sentinel_hub.api import ApiError, bad_payload, not_found
from resources.local_sentinel_hub.batch_delivery import check_existing
from resources.local_sentinel_hub.batch_files import Ledger, Tally, write_manifest
from resources.local_sentinel_hub.batch_request import (
    BatchRequest,
    Delivery,
    delivery,
    describe_error,
    features,
    parse_batch_request,
    without_secrets,
)
from resources.local_sentinel_hub.batch_summary import summarise
from resources.local_sentinel_hub.batch_tiles import Order, TileCrew
from resources.local_sentinel_hub.buckets import Buckets
from resources.local_sentinel_hub.clock import now
from resources.local_sentinel_hub.collections import Collection
from resources.local_sentinel_hub.evalscript import inspect_script
from resources.local_sentinel_hub.fault_state import FaultState
from resources.local_sentinel_hub.render import check_responses
from resources.local_sentinel_hub.script_child import ScriptLimits
from resources.local_sentinel_hub.store import Document, DocumentStore

KIND = "batch"
ACCOUNT = "00000000-0000-0000-0000-000000000000"
ALLOWED = {
    "analyse": ("CREATED",),
    "start": ("CREATED", "ANALYSING", "ANALYSIS_DONE", "STOPPED"),
    "stop": ("ANALYSING", "ANALYSIS_DONE", "PROCESSING"),
}
AT_WORK = ("ANALYSING", "PROCESSING")
LOG = logging.getLogger(__name__)


class BatchJobs:
    """All batch requests of one service."""

    def __init__(
        self,
        store: DocumentStore,
        buckets: Buckets,
        collections: Callable[[], Mapping[str, Collection]],
        folder: Path,
        limits: ScriptLimits,
        faults: FaultState,
    ) -> None:
        self._store, self._buckets = store, buckets
        self._folder, self._limits, self._faults = folder, limits, faults
        self._lock = threading.RLock()
        self._threads: dict[str, threading.Thread] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._crew = TileCrew(collections, limits, faults)

    @property
    def busy(self) -> bool:
        """Whether a request is being analysed or processed."""
        return any(thread.is_alive() for thread in list(self._threads.values()))

    def resume(self) -> None:
        """Take up the requests that the end of the last process interrupted: delivered tiles stay delivered."""
        for document in self._store.all(KIND):
            if document["status"] in AT_WORK:
                self._begin(document["id"])

    def close(self) -> None:
        """Stop taking up tiles and wait for those in hand. The requests go on when the service runs again."""
        self._crew.close()
        for thread in list(self._threads.values()):
            thread.join()

    def create(self, body: Any) -> Document:
        """A new request, checked, with its side file request-<id>.json in place."""
        request = parse_batch_request(body)
        self._faults.check_balance()
        identity = str(uuid.uuid4())
        place = delivery(request, identity, self._buckets)
        kept = without_secrets(body)
        kept.pop("instanceType", None)
        created = now()
        document: Document = {
            "id": identity,
            "request": kept,
            "domainAccountId": ACCOUNT,
            "status": "CREATED",
            "userAction": "NONE",
            "userActionUpdated": created,
            "created": created,
            "lastUpdated": created,
            "completionPercentage": 0,
            "costPU": 0.0,
        }
        (place.folder / f"request-{identity}.json").write(json.dumps(document, indent=2).encode())
        self._store.put(KIND, document)
        self._faults.hide(identity)
        return document

    def summary(self, identity: str) -> dict[str, Any]:
        """A request's id and what it asks for, for the log."""
        return {"request": identity, **summarise(self._request(identity)[0], self._buckets)}

    def get(self, identity: str) -> Document:
        """One request. Raises ApiError 404."""
        document = self._store.get(KIND, identity)
        if document is None:
            raise not_found(f"Batch request {identity} does not exist")
        return document

    def all(self) -> list[Document]:
        """All requests, newest first."""
        return self._store.all(KIND)[::-1]

    def describe(self, identity: str, body: Any) -> Document:
        """Change the description of a request that is not at work."""
        if self.get(identity)["status"] in AT_WORK:
            raise bad_payload("a request can't be changed while it is processed; stop it first")
        text = body.get("description") if isinstance(body, dict) else None
        if not isinstance(text, str):
            raise bad_payload("description must be a text", "description", text)
        self._change(identity, request={**self.get(identity)["request"], "description": text})
        return self.get(identity)

    def act(self, identity: str, action: str) -> None:
        """Analyse, start or stop a request. Raises ApiError 400 if its status does not allow that."""
        with self._lock:
            document = self.get(identity)
            if document["status"] not in ALLOWED[action]:
                allowed = ", ".join(ALLOWED[action])
                message = f"{action} is not possible in status {document['status']}, only in: {allowed}"
                raise ApiError(400, "COMMON_BAD_PAYLOAD", message)
            if action == "start" and document["status"] == "STOPPED":
                self._faults.check_pause(document.get("_stoppedAt", 0.0))
            self._change(identity, userAction=action.upper(), userActionUpdated=now())
            if action == "stop":
                if identity not in self._threads:
                    self._stop(identity, "USER_ACTION")
            elif identity not in self._threads:
                self._begin(identity)

    def _begin(self, identity: str) -> None:
        with self._lock:
            status = "PROCESSING" if self._ledger(identity).exists else "ANALYSING"
            self._change(identity, status=status, stoppedStatusReason=None)
            thread = threading.Thread(target=self._work, args=(identity,), name=f"batch-{identity}", daemon=True)
            self._threads[identity] = thread
            thread.start()

    def _work(self, identity: str) -> None:
        """Carry a request to the next status at which it waits for a person, or to its end."""
        try:
            if not self._ledger(identity).exists:
                self._analyse(identity)
            with self._lock:
                action = self.get(identity)["userAction"]
                if action == "STOP":
                    self._stop(identity, "USER_ACTION")
                    return
                if action != "START":
                    self._end(identity, "ANALYSIS_DONE")
                    return
                self._change(identity, status="PROCESSING")
            self._process(identity)
        except Exception as error:
            if self._crew.closing:
                return  # the status still says that there is work: the next process takes it up
            LOG.warning("batch request %s failed: %s", identity, type(error).__name__, exc_info=True)
            with self._lock:
                self._end(identity, "FAILED", error=describe_error(error))
        finally:
            with self._lock:
                self._forget(identity)

    def _analyse(self, identity: str) -> None:
        request, place = self._request(identity)
        found = features(request, self._buckets)
        check_responses(request.process, inspect_script(request.process.evalscript, self._limits))
        check_existing(request, place, found)
        responses = request.process.output.responses
        write_manifest(place.folder / f"featureManifest-{identity}.gpkg", found, responses, place)
        self._ledger(identity).create(found)

    def _process(self, identity: str) -> None:
        ledger = self._ledger(identity)
        self._progress(identity, ledger.tally())  # the last process may have ended before it could
        self._crew.work(
            Order(
                identity,
                *self._request(identity),
                ledger,
                stopped=lambda: self._reason_to_stop(identity) is not None,
                progress=lambda tally: self._progress(identity, tally),
            )
        )
        if self._crew.closing:
            return
        with self._lock:
            if ledger.pending():
                self._stop(identity, self._reason_to_stop(identity) or "USER_ACTION")
            else:
                spent = max(self.get(identity)["costPU"], SMALLEST_REQUEST["batch"])
                self._end(identity, "DONE", completionPercentage=100, costPU=spent)

    def _reason_to_stop(self, identity: str) -> str | None:
        document, limit = self.get(identity), self._faults.now.out_of_units_after
        if document["userAction"] == "STOP":
            return "USER_ACTION"
        return None if limit is None or document["costPU"] < limit else "OUT_OF_PU"

    def _progress(self, identity: str, tally: Tally) -> None:
        """Say how far a request has come. Tiles that end together may tell it in the wrong order: it never falls."""
        share = 100 * tally.ended / tally.total

        def progress(document: Document) -> None:
            document["costPU"] = max(document["costPU"], tally.units)
            document["completionPercentage"] = max(document["completionPercentage"], share)
            document["lastUpdated"] = now()

        self._store.update(KIND, identity, progress)

    def _request(self, identity: str) -> tuple[BatchRequest, Delivery]:
        request = parse_batch_request(self.get(identity)["request"])
        return request, delivery(request, identity, self._buckets)

    def _ledger(self, identity: str) -> Ledger:
        with self._lock:
            if identity not in self._ledgers:
                _, place = self._request(identity)
                published = place.folder / f"execution-{identity}.sqlite"
                self._ledgers[identity] = Ledger(self._folder / f"{identity}.sqlite", published)
            return self._ledgers[identity]

    def _stop(self, identity: str, reason: str) -> None:
        """End in STOPPED. The caller holds the lock."""
        self._end(identity, "STOPPED", stoppedStatusReason=reason, _stoppedAt=time.time())

    def _end(self, identity: str, status: str, **changes: Any) -> None:
        """Leave a request in a status at which nothing works on it. The caller holds the lock."""
        self._change(identity, status=status, **changes)
        self._forget(identity)

    def _forget(self, identity: str) -> None:
        """This thread no longer works on the request; another may already have taken it up."""
        if self._threads.get(identity) is threading.current_thread():
            del self._threads[identity]

    def _change(self, identity: str, **changes: Any) -> None:
        def apply(document: Document) -> None:
            document.update(changes, lastUpdated=now())
            for key in [key for key, value in changes.items() if value is None]:
                del document[key]

        self._store.update(KIND, identity, apply)
