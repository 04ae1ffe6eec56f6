"""Faults that are switched on and how often each has struck. They are kept with the service's state."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from pydantic import ValidationError

from resources.local_sentinel_hub.api import ApiError, bad_payload
from resources.local_sentinel_hub.faults import NEEDED_TO_CREATE, CallFault, Faults
from resources.local_sentinel_hub.process_request import invalid
from resources.local_sentinel_hub.store import DocumentStore

KIND = "faults"
DEATH = 70
"""Exit status of a process that dies on purpose."""


class FaultState:
    """What misbehaves now. Where faults are not `allowed` nothing does, whatever was kept. Safe for several threads."""

    def __init__(self, store: DocumentStore, allowed: bool) -> None:
        self.allowed = allowed
        self._store = store
        self._lock = threading.RLock()
        self._kept = store.get(KIND, KIND) or {"id": KIND, "given": {}, "counts": {}, "token_generation": 0}
        self._faults = self._read()

    @property
    def now(self) -> Faults:
        """The faults that are on."""
        return self._faults

    @property
    def token_generation(self) -> int:
        """How often all tokens were revoked; a token of an earlier generation is no longer good."""
        return int(self._kept["token_generation"])

    def view(self) -> dict[str, Any]:
        """The faults that were given, and how often each has been looked at or has struck."""
        return {"faults": self._kept["given"], "counts": self._kept["counts"]}

    def change(self, body: Any) -> dict[str, Any]:
        """Switch on what the body names, counted anew; what it does not name stays, null switches off.

        Raises:
            ApiError: 400, naming the wrong key.
        """
        if not isinstance(body, dict):
            raise bad_payload('faults must be a JSON object, for instance {"throttle": {"count": 3}}')
        try:
            Faults.model_validate({key: value for key, value in body.items() if value is not None})
            unknown = set(body) - set(Faults.model_fields)
        except ValidationError as error:
            raise invalid(error) from error
        if unknown:
            raise bad_payload(f"there is no fault {sorted(unknown)[0]!r}", sorted(unknown)[0])
        with self._lock:
            if body.get("revoke_tokens"):
                self._kept["token_generation"] += 1
            given = {**self._kept["given"], **body, "revoke_tokens": None}
            self._kept["given"] = {key: value for key, value in given.items() if value is not None}
            self._forget(body)
            self._keep()
            return self.view()

    def clear(self) -> None:
        """Switch everything off. Revoked tokens stay revoked."""
        with self._lock:
            self._kept["given"], self._kept["counts"] = {}, {}
            self._keep()

    def strike(self, method: str, path: str) -> tuple[str, CallFault] | None:
        """The fault that a call meets, with its name."""
        for name, fault in self.now.of_calls():
            if fault.matches(method, path) and fault.strikes(name, self._count(name)):
                self._count(f"{name}.struck")
                return name, fault
        return None

    def turns_fatal(self, tile: str) -> bool:
        """Whether this try at a tile fails."""
        times = self.now.fatal_tiles.get(tile, 0)
        return times != 0 and (self._count(f"fatal_tiles.{tile}") < times or times < 0)

    def hide(self, request: str) -> None:
        """A batch request was created."""
        if self.now.hide_new_requests:
            with self._lock:
                self._kept["counts"][f"hide_new_requests.{request}"] = self.now.hide_new_requests
                self._keep()

    def hides(self, request: str) -> bool:
        """Whether this look at a batch request finds nothing."""
        key = f"hide_new_requests.{request}"
        with self._lock:
            left = self._kept["counts"].get(key, 0) if self.allowed else 0
            if left:
                self._kept["counts"][key] = left - 1
                self._keep()
        return bool(left)

    def loses_answer(self) -> bool:
        """Whether the answer to this creation is lost."""
        return self.now.lose_create_answer > 0 and self._count("lose_create_answer") < self.now.lose_create_answer

    def check_balance(self) -> None:
        """Raise ApiError 403 if the account has too little for a batch request to be created."""
        balance = self.now.balance
        if balance is not None and balance < NEEDED_TO_CREATE:
            message = f"The account has {balance:g} processing units, a batch request needs {NEEDED_TO_CREATE:g}"
            raise ApiError(403, "COMMON_INSUFFICIENT_PU", message)

    def check_pause(self, stopped_at: float) -> None:
        """Raise ApiError 400 if a batch request that was stopped then, in seconds since 1970, may not start yet."""
        left_s = stopped_at + 60 * self.now.refuse_restart_minutes - time.time()
        if left_s > 0:
            message = f"A stopped request may not be started again for {self.now.refuse_restart_minutes:g} minutes"
            raise ApiError(400, "COMMON_BAD_PAYLOAD", f"{message}; try again in {left_s:.0f} s")

    def tile_delivered(self) -> None:
        """A batch tile was delivered and written down: the end of the process, if that was asked for."""
        with self._lock:
            last = self.now.die_after_tiles
            if last is None or self._count("die_after_tiles") + 1 < last:
                return
            del self._kept["given"]["die_after_tiles"]
            self._keep()
            os._exit(DEATH)

    def _count(self, name: str) -> int:
        """How often this was asked before; kept at once."""
        with self._lock:
            before = int(self._kept["counts"].get(name, 0))
            self._kept["counts"][name] = before + 1
            self._store.put(KIND, self._kept)
        return before

    def _forget(self, names: dict[str, Any]) -> None:
        counts = self._kept["counts"]
        self._kept["counts"] = {key: n for key, n in counts.items() if key.partition(".")[0] not in names}

    def _keep(self) -> None:
        self._store.put(KIND, self._kept)
        self._faults = self._read()

    def _read(self) -> Faults:
        return Faults.model_validate(self._kept["given"]) if self.allowed else Faults()
