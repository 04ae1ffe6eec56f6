"""Calls that the real service does not have, for tests: faults, the log of requests, the sum of charges.

They are there only where faults are allowed, and need a token like every other call.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from resources.local_sentinel_hub.api import bad_payload
from resources.local_sentinel_hub.endpoint import Call, Handler
from resources.local_sentinel_hub.service import Service

FAULTS_PATH, LOG_PATH, SPENT_PATH = "/local/faults", "/local/log", "/local/spent"
DEFAULT_LINES = 1000


def _clear(service: Service, call: Call) -> Response:
    service.faults.clear()
    return Response(status_code=204)


def _log(service: Service, call: Call) -> Response:
    given = call.query.get("limit", str(DEFAULT_LINES))
    if not given.isdecimal() or int(given) < 1:
        raise bad_payload(f"limit must be a whole number above 0, not {given!r}", "limit", given)
    return JSONResponse({"calls": service.log.tail(int(given))})


CONTROLS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", FAULTS_PATH, lambda s, c: JSONResponse(s.faults.change(c.body))),
    ("GET", FAULTS_PATH, lambda s, c: JSONResponse(s.faults.view())),
    ("DELETE", FAULTS_PATH, _clear),
    ("GET", LOG_PATH, _log),
    ("GET", SPENT_PATH, lambda s, c: JSONResponse(s.spent())),
)
