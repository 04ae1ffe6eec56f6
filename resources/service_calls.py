"""How every call to Sentinel Hub is made: one policy for throttling, faults and refusals, and counts of what it took.

429 waits as the service says, 5xx and broken connections wait longer and longer, every other refusal is told at once in
the service's own words. A call leaves for the deployment's own host only. Nothing here logs, and no error holds a
payload, a header or a token.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]
from sentinelhub import MimeType
from sentinelhub.download.models import DownloadRequest, DownloadResponse
from sentinelhub.download.sentinelhub_client import SentinelHubDownloadClient
from sentinelhub.exceptions import DownloadFailedException, MissingDataInRequestException

from eo_assets.errors import AnswerLost, ServiceError, TransientError
from resources.service_transport import Bearer, OwnHostSession, is_loopback, never_sent, origin, reason_of
from resources.service_words import secrets_in, what_it_said

CREATES = re.compile(r"/batch/process$|/byoc/collections(/[^/]+/tiles)?$")
"""Paths whose POST makes something new each time: never sent again once it may have arrived."""


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """The bounds of one call: how often it is tried, how long one wait and all of it may last, in seconds.

    The wait before try n+1 is drawn from 0 to `backoff_s` x 2^(n-1), so that many workers do not come back at once.
    """

    tries: int = 8
    max_wait_s: float = 60.0
    deadline_s: float = 900.0
    backoff_s: float = 1.0
    connect_timeout_s: float = 15.0
    read_timeout_s: float = 300.0


PATIENT = CallPolicy()
"""For a service on the network."""
QUICK = CallPolicy(max_wait_s=2.0, deadline_s=300.0, backoff_s=0.05)
"""For a service on this machine."""

Outcome = requests.Response | requests.RequestException

_counting = threading.local()
_random = random.SystemRandom()
"""Of the system, since forked workers must not draw the same waits."""


@contextlib.contextmanager
def counted_calls() -> Iterator[dict[str, float]]:
    """Count what this thread's calls take while the block runs; blocks may be nested.

    `requests` (all that were sent, those for tokens too), `throttled` (answers 429), `retried` (requests sent again for
    any reason), `token_refreshes` (tokens fetched), `waited_s` (seconds between tries).
    """
    counts: dict[str, float] = {"requests": 0, "throttled": 0, "retried": 0, "token_refreshes": 0, "waited_s": 0.0}
    active: list[dict[str, float]] = _counting.__dict__.setdefault("active", [])
    active.append(counts)
    try:
        yield counts
    finally:
        # By identity: blocks of generators do not always end in the order in which they began.
        active[:] = [other for other in active if other is not counts]


def count(name: str, amount: float = 1) -> None:
    """Add to a count of this thread's open `counted_calls`."""
    for counts in _counting.__dict__.get("active", ()):
        counts[name] += amount


def pause(seconds: float) -> None:
    """Wait, and count it."""
    count("waited_s", seconds)
    time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it is sent. `token` gives the access token; `renew` takes the refused one and gets another."""

    method: str
    url: str
    json: Any = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    token: Callable[[], str] | None = None
    renew: Callable[[str], None] | None = None

    @property
    def name(self) -> str:
        """For messages: method and path, without the query."""
        return f"{self.method} {urlsplit(self.url).path}"

    @property
    def idempotent(self) -> bool:
        """May it be sent again when nobody knows whether it arrived?"""
        return self.method != "POST" or CREATES.search(urlsplit(self.url).path) is None


def send(call: Call, policy: CallPolicy) -> requests.Response:
    """The 2xx answer to a call, tried as often as the policy allows.

    Raises:
        DownloadFailedException: refused (4xx), or the tries or the time ran out; `http_status` tells which.
        AnswerLost: a call that makes something new may or may not have been carried out.
    """
    started, attempt, renewed, doubt = time.monotonic(), 0, False, ""
    while True:
        attempt += 1
        token = call.token() if call.token else None
        outcome = _try(call, token, policy)
        if isinstance(outcome, requests.Response) and outcome.status_code < 300:
            return outcome
        failure, wait_s = _failure(call, outcome, token, doubt), 0.0
        if http_status(failure) == 401 and token and call.renew and not renewed:
            call.renew(token)
            renewed = True
        else:
            doubt = _consider(call, outcome, failure) or doubt
            wait_s = _wait_s(outcome, attempt, policy)
        if attempt >= policy.tries or time.monotonic() - started + wait_s > policy.deadline_s:
            raise failure
        count("retried")
        pause(wait_s)


def _consider(call: Call, outcome: Outcome, failure: DownloadFailedException) -> str:
    """Raise what must not be tried again; otherwise what later messages have to say of this try, if anything."""
    status = http_status(failure)
    if status == 429:
        count("throttled")
        return ""
    if status is not None and status < 500:
        raise failure
    if isinstance(outcome, requests.RequestException) and never_sent(outcome):
        return ""
    if not call.idempotent:
        raise AnswerLost(f"{failure}; it may have been carried out, so it was not sent again") from failure
    return "" if call.method == "GET" else "; an earlier try may have been carried out"


def _try(call: Call, token: str | None, policy: CallPolicy) -> Outcome:
    count("requests")
    try:
        # A connection of its own: an idle one that the service has closed would look like a lost answer.
        with OwnHostSession() as session:
            session.trust_env = not is_loopback(call.url)  # no proxy between this machine and itself
            response = session.request(
                call.method,
                call.url,
                json=call.json,
                data=call.form,
                headers=call.headers,
                auth=Bearer(token),
                timeout=(policy.connect_timeout_s, policy.read_timeout_s),
            )
    except requests.RequestException as error:
        error.request = None  # holds the payload and the token, and errors travel between processes
        return error
    return response


def _failure(call: Call, outcome: Outcome, token: str | None, doubt: str) -> DownloadFailedException:
    """What went wrong, in the service's own words, without the secrets that were sent."""
    secrets = {*secrets_in(call.json), *secrets_in(call.form), *([token] if token else [])}
    if isinstance(outcome, requests.Response):
        message = f"{call.name}: HTTP {outcome.status_code}: {what_it_said(outcome, secrets)}{doubt}"
        # A bare answer: the real one holds the request and whatever of it the service says back.
        bare = requests.Response()
        bare.status_code, bare.url = outcome.status_code, outcome.url
        return DownloadFailedException(message, request_exception=requests.HTTPError(message, response=bare))
    message = f"{call.name} to {origin(call.url)}: {type(outcome).__name__}: {reason_of(outcome)}{doubt}"
    return DownloadFailedException(message, request_exception=outcome)


def _wait_s(outcome: Outcome, attempt: int, policy: CallPolicy) -> float:
    """How long to wait before the next try: as the service says and a little more, or a random share of the backoff."""
    jitter = _random.uniform(0, min(policy.max_wait_s, policy.backoff_s * 2 ** (attempt - 1)))
    told = None
    if isinstance(outcome, requests.Response) and outcome.status_code == 429:
        told = retry_after_s(outcome.headers)
    # A gateway's Retry-After is in seconds, and nobody says whose a 5xx is: the backoff is enough for those.
    return min(jitter if told is None else told + min(jitter, policy.backoff_s), policy.max_wait_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header: this service says milliseconds; a date is taken too. None where it says neither.

    https://docs.sentinel-hub.com/api/latest/api/overview/rate-limiting/
    """
    said = headers.get("Retry-After", "").strip()
    if said.isdigit():
        return int(said) / 1000
    with contextlib.suppress(ValueError, TypeError):
        moment = email.utils.parsedate_to_datetime(said)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return max((moment - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)
    return None


class PolicyClient(SentinelHubDownloadClient):  # type: ignore[misc]
    """The client of `sentinelhub` with its own retries replaced by the policy, bound to one deployment's host."""

    def __init__(self, *, policy: CallPolicy, session: Any, config: Any) -> None:
        super().__init__(session=session, config=config)
        self.policy = policy

    def response(self, request: DownloadRequest) -> DownloadResponse:
        """The answer to one request: its content, headers and status."""
        return self._execute_download(request)

    def _execute_download(self, request: DownloadRequest) -> DownloadResponse:
        url = str(request.url)
        if origin(url) != origin(self.config.sh_base_url):
            raise ServiceError(
                f"{origin(url)} is not the host of this service, {origin(self.config.sh_base_url)}: nothing was sent"
            )
        session = self.session if request.use_session else None
        call = Call(
            request.request_type.value,
            url,
            json=request.post_values,
            headers={"User-Agent": "eo-assets", **request.headers},
            token=session.access_token if session else None,
            renew=session.renew if session else None,
        )
        answer = DownloadResponse.from_response(send(call, self.policy), request)
        if request.data_type is MimeType.JSON and not _is_json(answer.content):
            raise DownloadFailedException(f"{call.name} at {origin(url)}: the answer is no JSON; is this its base_url?")
        return answer


def _is_json(content: bytes) -> bool:
    """Nothing at all counts: several calls answer with an empty body."""
    try:
        json.loads(content or b"{}")
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def service_errors(what: str) -> Iterator[None]:
    """Tell a refusal (ServiceError) from a fault that may pass (TransientError); secrets are in neither."""
    try:
        yield
    except AnswerLost as error:
        raise AnswerLost(f"{what}: {error}") from error
    except OAuth2Error as error:
        raise ServiceError(f"{what}: signing in was refused ({error.error}: {error.description})") from error
    except MissingDataInRequestException as error:
        raise ServiceError(f"{what}: {error}") from error
    except requests.RequestException as error:
        raise TransientError(f"{what}: {error}") from error
    except DownloadFailedException as error:
        status = http_status(error)
        kind = ServiceError if status is not None and 400 <= status < 500 and status != 429 else TransientError
        raise kind(f"{what}: {error}") from error


def http_status(error: BaseException | None) -> int | None:
    """The HTTP status that a request failed with, also where the error was raised from it; None without an answer."""
    while error is not None and not isinstance(error, DownloadFailedException):
        error = error.__cause__
    response = getattr(getattr(error, "request_exception", None), "response", None)
    return None if response is None else int(response.status_code)
