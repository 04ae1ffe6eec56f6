"""One call from its arrival to its answer: faults on purpose, access token, JSON in, one shape of refusal, the log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eo_assets.errors import EoAssetsError, EvalscriptError
from resources.local_sentinel_hub.api import ApiError, bad_payload
from resources.local_sentinel_hub.faults import CallFault, ServerErrors, Throttle
from resources.local_sentinel_hub.render import as_api_error
from resources.local_sentinel_hub.request_log import Entry
from resources.local_sentinel_hub.service import Service

LARGEST_BODY_BYTES = 20 << 20
LOG = logging.getLogger(__name__)
Note = dict[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Call:
    """One request as the handlers see it. What they put into `note` stands in the log of requests."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    accept: str
    note: Note = field(default_factory=dict)


Handler = Callable[[Service, Call], Response]


class NoAnswer(Response):
    """Instead of an answer the connection is closed."""


def open_endpoint(service: Service, answer: Callable[[Request], Awaitable[Response]]) -> Endpoint:
    """An endpoint for which no token is needed."""

    async def endpoint(request: Request) -> Response:
        return await _attend(service, request, {}, lambda note: answer(request))

    return endpoint


def guarded_endpoint(service: Service, handler: Handler) -> Endpoint:
    """An endpoint for which a token is needed. The handler runs in a thread."""

    async def endpoint(request: Request) -> Response:
        return await _attend(service, request, {}, lambda note: _authorised(service, handler, request, note))

    return endpoint


def control_endpoint(service: Service, handler: Handler) -> Endpoint:
    """The same for a call that controls the service itself: no fault strikes it, and no log counts it."""

    async def endpoint(request: Request) -> Response:
        service.touch()
        try:
            return await _authorised(service, handler, request, {})
        except Exception as error:
            return refusal(error)

    return endpoint


async def _attend(
    service: Service, request: Request, note: Note, answer: Callable[[Note], Awaitable[Response]]
) -> Response:
    service.touch()
    started = time.monotonic()
    method, path = request.method, request.url.path
    try:
        struck = service.faults.strike(method, path)
        if struck is None:
            await asyncio.sleep(service.faults.now.slow_call_s)
            response = await answer(note)
        else:
            note["fault"], response = struck[0], _faulty(struck[1])
    except Exception as error:
        response = refusal(error)
    if isinstance(response, NoAnswer):
        await _hang_up(request)
    status = None if isinstance(response, NoAnswer) else response.status_code
    entry = Entry(method, path, status, time.monotonic() - started, note)
    service.log.add(entry)
    level = logging.DEBUG if entry.routine else logging.INFO  # polling would fill the log
    LOG.log(level, "%s %s %s %.2f s", method, path, status or "no answer", entry.seconds)
    service.touch()
    return response


async def _authorised(service: Service, handler: Handler, request: Request, note: Note) -> Response:
    service.tokens.check(request.headers.get("authorization", ""), service.faults.token_generation)
    accept = request.headers.get("accept", "")
    call = Call(request.path_params, request.query_params, await _json(request), accept, note)
    return await run_in_threadpool(handler, service, call)


async def _json(request: Request) -> Any:
    body = await request.body()
    if len(body) > LARGEST_BODY_BYTES:
        raise ApiError(413, "COMMON_PAYLOAD_TOO_LARGE", f"the payload is larger than {LARGEST_BODY_BYTES >> 20} MB")
    try:
        return json.loads(body) if body.strip() else None
    except ValueError as error:
        raise bad_payload(f"the payload is no JSON: {error}") from error


def _faulty(fault: CallFault) -> Response:
    if isinstance(fault, Throttle):
        error = ApiError(429, "RATE_LIMIT_EXCEEDED", "You have exceeded your rate limit")
        return JSONResponse(error.body(), 429, {"Retry-After": str(fault.retry_after_ms)})
    if isinstance(fault, ServerErrors):
        error = ApiError(fault.status, "COMMON_EXCEPTION", "The service is not available at the moment; try again")
        return JSONResponse(error.body(), fault.status)
    return NoAnswer()


async def _hang_up(request: Request) -> None:
    """Close the connection of a call. The answer that is returned after it goes nowhere."""
    for connection in tuple(request.app.state.connections):
        if connection.client == request.scope["client"]:
            connection.transport.abort()
    await asyncio.sleep(0)  # lets the server notice


def refusal(error: Exception) -> Response:
    """An error as the service says it."""
    if isinstance(error, EvalscriptError):
        error = as_api_error(error)
    elif isinstance(error, EoAssetsError) and not isinstance(error, ApiError):
        error = ApiError(400, "COMMON_BAD_PAYLOAD", str(error))
    if not isinstance(error, ApiError):
        LOG.error("unexpected error", exc_info=error)
        message = f"{type(error).__name__}: {error}; the service's log says more"
        error = ApiError(500, "COMMON_EXCEPTION", message)
    return JSONResponse(error.body(), error.status)
