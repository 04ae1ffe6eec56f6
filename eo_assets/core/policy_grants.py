"""Does a policy document grant what another one asks for? For the documents of `bucket_policies`, read back from AWS.

Not AWS's own evaluation: only Allow and Deny, actions, resources and principals are read. A statement with a condition
grants nothing here, unless the wanted one has the same or a narrower one; what a condition denies is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]


def missing_grants(held: Iterable[Document], wanted: Document) -> list[str]:
    """What `wanted` allows and the `held` documents together do not, each as `action on resource`, in its order."""
    statements = [statement for document in held for statement in _many(document.get("Statement", []))]
    return [
        f"{action} on {resource}"
        for asked in _many(wanted["Statement"])
        for action in _many(asked["Action"])
        for resource in _many(asked.get("Resource", ""))
        if not _granted(statements, asked, action, resource)
    ]


def _granted(statements: list[Document], asked: Document, action: str, resource: str) -> bool:
    applying = [one for one in statements if _applies(one, asked, action, resource)]
    denied = any(one["Effect"] == "Deny" and "Condition" not in one for one in applying)
    return not denied and any(
        one["Effect"] == "Allow" and _at_least(one.get("Condition", {}), asked.get("Condition", {})) for one in applying
    )


def _at_least(held: Document, asked: Document) -> bool:
    """Is what meets the wanted condition sure to meet the one that is held?"""
    return all(
        all(any(_covers(pattern, value) for pattern in _many(patterns)) for value in _many(wanted))
        if (wanted := asked.get(operator, {}).get(key))
        else False
        for operator, keys in held.items()
        for key, patterns in keys.items()
    )


def _applies(held: Document, asked: Document, action: str, resource: str) -> bool:
    return (
        any(_covers(pattern.lower(), action.lower()) for pattern in _many(held.get("Action", [])))
        and (not resource or any(_covers(pattern, resource) for pattern in _many(held.get("Resource", []))))
        and ("Principal" not in asked or _names(held.get("Principal", {}), asked["Principal"]))
    )


def _names(held: Any, asked: Any) -> bool:
    if held == "*":
        return True
    wanted = set(_principals(asked))
    return "*" in _principals(held) or wanted <= set(_principals(held))


def _principals(said: Any) -> Iterator[str]:
    """As ARNs: AWS takes a bare account number for its root, and gives back either."""
    for value in _many(said.get("AWS", []) if isinstance(said, Mapping) else []):
        yield f"arn:aws:iam::{value}:root" if re.fullmatch(r"\d{12}", value) else value


def _covers(pattern: str, text: str) -> bool:
    """Does the pattern mean at least what `text` means? `*` in it is any run of characters, stars too."""
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern), text) is not None


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
