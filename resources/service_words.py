"""What a refusal of Sentinel Hub says, cut to what helps a person and cleared of secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from typing import Any

import requests

MOST = 600
"""Characters of a service's message that are passed on."""
SECRET_KEYS = {"accesskey", "secretaccesskey", "client_secret"}


def what_it_said(response: requests.Response, secrets: Set[str]) -> str:
    """The service's own message; of its list of errors which parameter broke which rule, never the value that did."""
    text = " ".join(_words(response).split()) or response.reason or "no message"
    for secret in secrets:
        text = text.replace(secret, "***")
    return text if len(text) <= MOST else f"{text[:MOST]} ..."


def secrets_in(payload: Any) -> Iterator[str]:
    """The values of a payload that are keys to something."""
    if isinstance(payload, dict):
        for key, value in payload.items():
            if key.lower() in SECRET_KEYS and isinstance(value, str) and value:
                yield value
            else:
                yield from secrets_in(value)
    elif isinstance(payload, list | tuple):
        for value in payload:
            yield from secrets_in(value)


def _words(response: requests.Response) -> str:
    try:
        said = json.loads(response.content)
    except ValueError:
        return "" if "html" in response.headers.get("Content-Type", "") else response.text
    if not isinstance(said, dict):
        return str(said)
    error = said.get("error", said)
    if isinstance(error, str):  # OAuth: error and error_description
        return ": ".join(filter(None, [error, str(said.get("error_description") or said.get("message") or "")]))
    if not isinstance(error, dict):
        return str(error)
    message = str(error.get("message") or error.get("description") or error.get("reason") or "")
    return "; ".join(filter(None, [message, *_violations(error.get("errors"))]))


def _violations(errors: Any) -> Iterator[str]:
    for error in errors if isinstance(errors, list) else []:
        if isinstance(error, dict) and error.get("violation"):
            yield ": ".join(filter(None, [str(error.get("parameter") or ""), str(error["violation"])]))
