"""Who is believed to have launched a run: only whom the proxy names."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from resources.signed_in import IDENTITY_HEADER, LONGEST, PROXY_HEADER, identity

SECRET = "d41d8cd98f00"


def named(headers: Mapping[str, str], secret: str = SECRET) -> str:
    return identity(headers.get, secret)


def test_whom_the_proxy_names_is_believed() -> None:
    assert named({PROXY_HEADER: SECRET, IDENTITY_HEADER: "ann@example.com"}) == "ann@example.com"


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({}, SECRET),
        ({IDENTITY_HEADER: "ann@example.com"}, SECRET),
        ({PROXY_HEADER: "guessed", IDENTITY_HEADER: "ann@example.com"}, SECRET),
        ({PROXY_HEADER: "gu\u00e9ss\u00e9d", IDENTITY_HEADER: "ann@example.com"}, SECRET),
        ({PROXY_HEADER: SECRET}, SECRET),
        ({PROXY_HEADER: SECRET, IDENTITY_HEADER: " "}, SECRET),
        ({PROXY_HEADER: "", IDENTITY_HEADER: "ann@example.com"}, ""),
        ({IDENTITY_HEADER: "ann@example.com"}, ""),
    ],
)
def test_anybody_else_is_unauthenticated(headers: Mapping[str, str], secret: str) -> None:
    assert named(headers, secret) == "unauthenticated"


def test_a_name_is_one_short_line() -> None:
    said = named({PROXY_HEADER: SECRET, IDENTITY_HEADER: "ann\nby order of joe" + "x" * 500})
    assert said.startswith("annby order") and len(said) == LONGEST
