"""Signing in: one session a process and deployment, shared by its threads, renewed before its token ends and at a 401.

A wrong credential is told once, with the remedy, and not tried again; a token service that throttles or is down is
waited for like any other. Tokens live in memory only.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from sentinelhub import SentinelHubSession, SHConfig
from sentinelhub.exceptions import DownloadFailedException

from eo_assets.errors import ServiceError
from resources.service_calls import Call, CallPolicy, count, http_status, send
from resources.service_transport import is_loopback

REFUSED_S = 60.0
"""For so long a refusal is repeated from memory: a thousand tiles with a wrong secret must not lock the account."""
MARGIN_S = 120.0
"""A token is renewed this long before it ends, or in the last fifth of a short life."""


class ServiceSession(SentinelHubSession):  # type: ignore[misc]
    """A session of `sentinelhub` whose tokens are fetched under a call policy. `remedy` is what to do when refused."""

    def __init__(self, config: SHConfig, policy: CallPolicy, remedy: str) -> None:
        self._lock = threading.Lock()
        self._policy, self._remedy, self._life_s = policy, remedy, 0.0
        self._refused, self._refused_at = "", 0.0
        self._token: dict[str, Any]
        super().__init__(config, _token={"access_token": "", "expires_at": 0.0})

    @property
    def token(self) -> dict[str, Any]:
        """A token that is good for a while yet."""
        with self._lock:
            if self._token["expires_at"] - time.time() <= min(MARGIN_S, self._life_s / 5):
                self._token = self._collect_new_token()
            return dict(self._token)

    def access_token(self) -> str:
        """The text of the token."""
        return str(self.token["access_token"])

    def renew(self, refused: str) -> None:
        """Fetch a new token in place of one that the service has refused, unless another thread just did."""
        with self._lock:
            if self._token["access_token"] == refused:
                self._token = self._collect_new_token()

    def life_s(self) -> float:
        """Seconds that the token is still good for."""
        return float(self.token["expires_at"] - time.time())

    def info(self) -> dict[str, Any]:
        """Stock clients remember a session by the identity that they find here."""
        return {"azp": self.config.sh_client_id}

    def _collect_new_token(self) -> dict[str, Any]:
        url = str(self.config.sh_token_url)
        if self._refused and time.monotonic() - self._refused_at < REFUSED_S:
            raise ServiceError(self._refused)
        if not url.startswith("https://") and not is_loopback(url):
            raise ServiceError(f"{url}: over plain http a token is fetched from this machine only; use https")
        form = {
            "grant_type": "client_credentials",
            "client_id": self.config.sh_client_id,
            "client_secret": self.config.sh_client_secret,
        }
        try:
            token = send(Call("POST", url, form=form, headers={"User-Agent": "eo-assets"}), self._policy).json()
            life_s = float(token.get("expires_in", 3600))
            fetched = {**token, "access_token": str(token["access_token"]), "expires_at": time.time() + life_s}
        except DownloadFailedException as error:
            status = http_status(error)
            if status is None or status == 429 or status >= 500:
                raise
            self._refused = f"{url}: signing in was refused ({error}); {self._remedy}"
            self._refused_at = time.monotonic()
            raise ServiceError(self._refused) from error
        except (ValueError, KeyError, TypeError, AttributeError):
            # Not chained: the answer may hold half a token.
            raise ServiceError(f"{url}: the answer holds no token; is it the service's token_url?") from None
        count("token_refreshes")
        self._life_s, self._refused = life_s, ""
        return fetched


_sessions: dict[tuple[str, ...], ServiceSession] = {}
_sessions_lock = threading.Lock()


def session_for(config: SHConfig, policy: CallPolicy, remedy: str) -> ServiceSession:
    """The process's session for these addresses and credentials; it signs in when a token is first needed."""
    key = (config.sh_base_url, config.sh_token_url, config.sh_client_id, config.sh_client_secret)
    with _sessions_lock:
        if key not in _sessions:
            _sessions[key] = ServiceSession(config, policy, remedy)
        return _sessions[key]
