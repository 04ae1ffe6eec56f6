"""Requests to a bucket: one client a process, retries within bounds, and faults told as errors of this project."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import obstore.exceptions
from obstore.store import S3Store

from eo_assets.errors import EoAssetsError, StorageRefused
from resources.bucket_faults import Fault, read_fault, told
from resources.s3_access import PATIENCE_VARIABLE, S3Access
from resources.s3_settings import Handing, S3Settings, credentials, forget_profiles, settings

T = TypeVar("T")
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request waits and how often it is tried again, in seconds."""

    total_s: float = 90
    """From the first attempt until no other is begun: a server that is restarted is waited for."""

    again_s: float = 3
    """The same once a request of this process has waited in vain, until the server answers: cleaning up and telling of
    a run that fails is done soon, and so is the next try of a tile."""

    first_s: float = 0.2
    longest_s: float = 5
    """Pauses grow from the first to the longest, with jitter."""

    connect_s: float = 5
    silence_s: float = 60
    """Without a byte from the server."""

    request_s: float = 900
    """One request with its body."""


PATIENCE = Patience()
SILENT_S = 3
"""Seconds that are waited for a server without a word."""

RENEWABLE = frozenset({"ExpiredToken", "InvalidAccessKeyId", "InvalidToken"})
"""Codes after which the chain is asked once more: somebody may have logged in anew since."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How a bucket is reached. Picklable, and without secrets."""

    bucket: str
    access: S3Access
    patience: Patience = PATIENCE

    def settings(self) -> S3Settings:
        """Endpoint, region and addressing."""
        return settings(self.access)

    def asked(self, place: str, call: Callable[[S3Store], T], *, in_parts: bool = False) -> T:
        """The answer to a request that may be sent twice; what goes wrong is told of `place`.

        Of what goes `in_parts` a lost part is tried again alone, by obstore, which waits without telling so.
        FileNotFoundError, AlreadyExistsError and PreconditionError are answers, and left as they are.
        """
        return self._repeated(place, lambda: call(self._client(again=in_parts and not self._is_away)), [])

    def conditional(self, place: str, call: Callable[[S3Store], object]) -> tuple[bool, bool]:
        """Whether a conditional put was done, and whether an earlier attempt, its answer lost, may have done it."""
        unknown: list[Fault] = []
        try:
            self._repeated(place, lambda: call(self._client(again=False)), unknown)
        except ANSWERS:
            return False, bool(unknown)
        return True, bool(unknown)

    def _repeated(self, place: str, attempt: Callable[[], T], failed: list[Fault]) -> T:
        begun = time.monotonic()
        end = begun + self._patience_s
        pause, renewed = self.patience.first_s, False
        while True:
            try:
                answer = attempt()
                _away.discard(self._server)
                return answer
            except (EoAssetsError, *ANSWERS) as error:
                fault = read_fault(error) if not isinstance(error, EoAssetsError) else None
                if fault is None or _is_an_answer(fault, error):
                    _away.discard(self._server)
                    raise
            except (obstore.exceptions.BaseError, OSError) as error:
                fault = _of_credentials(error, place) or read_fault(error)
            if fault.code in RENEWABLE and not renewed:
                renewed = True
                forget_clients()
                continue
            if not fault.passing or time.monotonic() + pause > end:
                if fault.passing:
                    _away.add(self._server)
                # Without its cause: S3 repeats tokens and what it signed, and so does obstore's text.
                raise told(fault, place, self.settings()) from None
            failed.append(fault)
            if time.monotonic() - begun > SILENT_S:
                self._tell_waiting(place)
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, self.patience.longest_s)

    def _tell_waiting(self, place: str) -> None:
        """Once a process and server, however many threads wait. Where nothing sets logging up it goes to stderr."""
        with _MAKING:
            told_before = self._server in _waited_for
            _waited_for.add(self._server)
        if not told_before:
            LOG.warning(
                "%s: %s cannot be used yet; waiting for it, %g s at most in all (%s sets it)",
                place, self.settings().server, self._patience_s, PATIENCE_VARIABLE,
            )  # fmt: skip

    @property
    def _server(self) -> tuple[str, S3Settings]:
        return self.bucket, self.settings()

    @property
    def _is_away(self) -> bool:
        return self._server in _away

    @property
    def _patience_s(self) -> float:
        return min(self.patience.again_s, self.patience.total_s) if self._is_away else self.patience.total_s

    def _client(self, again: bool) -> S3Store:
        _refuse_forks(f"s3://{self.bucket}")
        environment = tuple(os.environ.get(name) for name in _TELLING)
        with _MAKING:
            return _client_of(self, self.settings(), again, environment, os.getpid())


CONDITIONS = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
ANSWERS = (FileNotFoundError, *CONDITIONS)

_TELLING = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE")
"""Variables that make another client when they change."""

_MAKING = threading.Lock()
_away: set[tuple[str, S3Settings]] = set()
"""Buckets that a request of this process has waited for in vain; whichever answers is taken out."""

_waited_for: set[tuple[str, S3Settings]] = set()
"""Buckets of which this process has told that it waits."""

_user: int | None = None


def forget_clients() -> None:
    """The next request asks the AWS chain anew."""
    _client_of.cache_clear()
    _away.clear()
    forget_profiles()


@functools.lru_cache(maxsize=32)
def _client_of(
    connection: Connection, found: S3Settings, again: bool, environment: tuple[str | None, ...], process: int
) -> S3Store:
    patience = connection.patience
    return S3Store(
        connection.bucket,
        config=_config(connection.bucket, found),  # type: ignore[arg-type]
        client_options={
            "allow_http": True,  # an endpoint says by its scheme what is wanted
            "connect_timeout": dt.timedelta(seconds=patience.connect_s),
            "read_timeout": dt.timedelta(seconds=patience.silence_s),
            "timeout": dt.timedelta(seconds=patience.request_s),
        },
        retry_config={
            # Single parts of a large upload are tried again by obstore; the whole of a request by `_repeated`.
            "max_retries": 40 if again else 0,
            "retry_timeout": dt.timedelta(seconds=patience.total_s),
            "backoff": {
                "init_backoff": dt.timedelta(seconds=patience.first_s),
                "max_backoff": dt.timedelta(seconds=patience.longest_s),
                "base": 2,
            },
        },
        credential_provider=Handing(credentials(connection.access)),  # type: ignore[arg-type]
    )


def _config(bucket: str, found: S3Settings) -> dict[str, object]:
    config: dict[str, object] = {"region": found.region, "virtual_hosted_style_request": found.virtual}
    if found.endpoint is not None:
        scheme, _, host = found.endpoint.partition("://")
        url = f"{scheme}://{bucket}.{host}" if found.virtual else found.endpoint
        # Both names: obstore reads the second from the environment, and heeds it more than the first.
        config["endpoint"] = config["aws_endpoint_url_s3"] = url
    return config


def _is_an_answer(fault: Fault, error: BaseException) -> bool:
    """A missing bucket comes as a missing object, and a conflict between two writers as an object that exists."""
    return fault.code != "NoSuchBucket" and not (isinstance(error, CONDITIONS) and fault.status == 409)


def _of_credentials(error: BaseException, place: str) -> Fault | None:
    if not isinstance(error, obstore.exceptions.UnauthenticatedError) or "credential provider" not in str(error):
        return None
    raise StorageRefused(
        f"{place}: the AWS credentials could not be renewed; log in anew, or check the role of this machine"
    ) from None


def _refuse_forks(place: str) -> None:
    """obstore's threads do not live on in a forked child: its first request would wait for ever."""
    global _user
    _user = _user or os.getpid()
    if _user != os.getpid():
        raise StorageRefused(
            f"{place}: this process was forked from one that had used the bucket, and can't use it; "
            "start it anew instead (multiprocessing's `spawn`)"
        )
