"""OAuth2 client credentials: who may have a token, and whether a token is ours. Nothing here is ever logged."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import unquote

from resources.local_sentinel_hub.api import ApiError
from resources.local_sentinel_hub.credentials import Client

LIFETIME_S = 3600
HEADER = {"alg": "HS256", "typ": "JWT"}


class TokenIssuer:
    """Gives out and checks JSON web tokens signed with the service's key. Without a client given, any may come."""

    def __init__(self, key: bytes, client: Client | None) -> None:
        self._key = key
        self._client = client

    def issue(
        self, client_id: str, client_secret: str, lifetime_s: int = LIFETIME_S, generation: int = 0
    ) -> dict[str, Any]:
        """A token response for the client.

        Raises:
            ApiError: 401 for unknown or empty credentials.
        """
        allowed = bool(client_id and client_secret)
        if self._client is not None:
            allowed = self._client.match(client_id, client_secret)
        if not allowed:
            raise ApiError(401, "invalid_client", "Invalid client or Invalid client credentials")
        now = int(time.time())
        claims = {"exp": now + lifetime_s, "iat": now, "iss": "local-sentinel-hub", "sub": client_id, "gen": generation}
        text = f"{_encode(HEADER)}.{_encode(claims)}"
        token = f"{text}.{self._signature(text)}"
        return {"access_token": token, "expires_in": lifetime_s, "token_type": "Bearer", "scope": "SH"}

    def check(self, authorization: str, generation: int = 0) -> None:
        """Refuse an Authorization header without a valid token of ours, of this generation or a later one.

        Raises:
            ApiError: 401.
        """
        scheme, _, token = authorization.partition(" ")
        text, _, signature = token.strip().rpartition(".")
        if scheme.lower() != "bearer" or not hmac.compare_digest(self._signature(text).encode(), signature.encode()):
            message = "You are not authorized! Send a valid access token: Authorization: Bearer <accessToken>"
            raise ApiError(401, "COMMON_UNAUTHORIZED", message)
        claims = _decode(text.rpartition(".")[2])
        if claims["exp"] < time.time():
            raise ApiError(401, "COMMON_UNAUTHORIZED", "The access token has expired; ask for a new one")
        if claims.get("gen", 0) < generation:
            raise ApiError(401, "COMMON_UNAUTHORIZED", "The access token was revoked; ask for a new one")

    def _signature(self, text: str) -> str:
        return _base64(hmac.new(self._key, text.encode(), hashlib.sha256).digest())


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """Client id and secret of a Basic Authorization header, None if it is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return None
    return unquote(name), unquote(secret)


def _encode(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _decode(text: str) -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
