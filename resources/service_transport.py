"""One HTTP request to a service: over a connection of its own, to no host but the one that was asked."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from eo_assets.errors import ServiceError


class Bearer(requests.auth.AuthBase):
    """Sets the token; with none it still keeps a .netrc file from setting something else."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class OwnHostSession(requests.Session):
    """Follows no redirect to another host: that one would be handed the payload, and secrets with it."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None and origin(urljoin(resp.url, target)) != origin(resp.url):
            raise ServiceError(
                f"{origin(resp.url)} redirects to {origin(urljoin(resp.url, target))}: nothing is sent to a host that "
                "the project does not name; correct the service's base_url and token_url"
            )
        return target


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def is_loopback(url: str) -> bool:
    """Does the address lead to this machine?"""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def reason_of(error: BaseException) -> str:
    """The innermost cause that says something: the outer ones repeat the address of an object."""
    inner = error.args[0] if error.args else None
    if isinstance(inner, MaxRetryError) and inner.reason is not None:
        inner = inner.reason
    return re.sub(r"^.*?object at 0x[0-9a-f]+>[^:]*: |\(.*object at 0x[0-9a-f]+>, ", "", str(inner or error))


def never_sent(error: requests.RequestException) -> bool:
    """Did it fail before a byte of the request went out?"""
    inner = error.args[0] if error.args else None
    reason = inner.reason if isinstance(inner, MaxRetryError) else inner
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError | ConnectTimeoutError)
