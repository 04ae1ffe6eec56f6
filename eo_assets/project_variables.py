"""`${VAR}` in a project file: filled from the environment, and written back as `${VAR}` in whatever a person reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from eo_assets.project_problems import MISSING, UNSAID, Finding, KeyPath

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def substitute(data: Any, environment: Mapping[str, str], findings: list[Finding], path: KeyPath = ()) -> Any:
    """The data with `${VAR}` and `${VAR:-default}` replaced in every text; what can't be is added to `findings`."""
    if isinstance(data, dict):
        return {key: substitute(value, environment, findings, (*path, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [substitute(value, environment, findings, (*path, index)) for index, value in enumerate(data)]
    return _substitute_text(data, environment, findings, path) if isinstance(data, str) else data


def _substitute_text(text: str, environment: Mapping[str, str], findings: list[Finding], path: KeyPath) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            remedy = f"export {name}=..., or write ${{{name}:-a default}}"
            findings.append(Finding(path, text, f"the environment variable {name} is not set", remedy))
        return environment.get(name, "")

    if "${" in VARIABLE.sub("", text):
        remedy = "write ${NAME} or ${NAME:-default}; the year in a folder's name is {year}"
        findings.append(Finding(path, text, "not an environment variable", remedy))
    return VARIABLE.sub(value, text)


def hide(finding: Finding, data: Any, environment: Mapping[str, str]) -> Finding:
    """The finding in the words of the file, whose `data` are as written: a variable may hold a secret.

    A value that a variable is part of is shown as written. Wherever else the message repeats what one of the file's
    variables holds, even as a part of a word, the variable stands in its place.
    """
    names = {match[1] for text in _texts(data) for match in VARIABLE.finditer(text)}
    held = {environment[name]: f"${{{name}}}" for name in names if environment.get(name)}
    words = re.compile("|".join(map(_sought, sorted(held, key=len, reverse=True))))

    def unsaid(text: str) -> str:
        return words.sub(lambda match: held[match[0]], text) if held else text

    value = _value_as_written(finding, data, unsaid)
    return replace(finding, value=value, what=unsaid(finding.what), remedy=unsaid(finding.remedy))


def _sought(word: str) -> str:
    """A pattern that finds the word: a short one, which many other words contain, only where it stands alone."""
    return re.escape(word) if len(word) > 3 else rf"(?<!\w){re.escape(word)}(?!\w)"


def _value_as_written(finding: Finding, data: Any, unsaid: Callable[[str], str]) -> object:
    value, node = finding.value, data
    for part in finding.key:
        if isinstance(node, str):  # one text may stand for a list or a pair
            break
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return _each_text(value, unsaid)
    if value is MISSING or value is UNSAID or value == node:
        return value
    one_of_several = isinstance(value, str) and not isinstance(node, str)
    if not one_of_several and any(VARIABLE.search(text) for text in _texts(node)):
        return node
    return _each_text(value, unsaid)


def _each_text(node: object, change: Callable[[str], str]) -> object:
    if isinstance(node, Mapping):
        return {key: _each_text(value, change) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_each_text(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)
