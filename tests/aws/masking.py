"""What of a command's output may be committed: no account number, address, key, token or home of anybody."""

from __future__ import annotations

import re
from collections.abc import Mapping

SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CLIENT_ID|DELIVERY", re.IGNORECASE)
SHORTEST = 4
"""A shorter value of such a variable is a switch, and would be found in every other word."""

_PATTERNS = (
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b"), "KEY-ID"),
    (re.compile(r"(?<![\d.])\d{12}(?![\d])"), "ACCOUNT"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?:/\d+)?"), "ADDRESS"),
    (re.compile(r"\bip-\d+-\d+-\d+-\d+\b"), "ADDRESS"),
    (re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.]+\b"), "MAIL"),
    (re.compile(r"(?:/home|/Users)/[^/\s]+"), "HOME"),
    (re.compile(r"\x1b\[[0-9;]*[A-Za-z]"), ""),
)


def masked(text: str, environment: Mapping[str, str]) -> str:
    """The text without them; of the environment, the values of variables whose names tell of a secret."""
    secrets = {value for name, value in environment.items() if SECRET.search(name) and len(value) >= SHORTEST}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "SECRET")
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
