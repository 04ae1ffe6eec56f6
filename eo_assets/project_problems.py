"""What can be wrong with a project file, in words: one line a problem, `FILE: key.path: value: what is wrong: remedy`.

Nothing is raised here. Pydantic's errors are translated into the same lines as our own checks, so that a reader sees
one kind of message whatever found the fault.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from eo_assets.project import Project, Section

KeyPath = tuple[str | int, ...]
REFERENCE = "docs/project-file.md"
MISSING = object()
"""Stands for the value of a key that is not there."""
UNSAID = object()
"""Stands for a value that there is none of, or that a message should not repeat."""


@dataclass(frozen=True)
class Finding:
    """A fault at a key of the merged project: what is wrong and what to do about it."""

    key: KeyPath
    value: object
    what: str
    remedy: str
    follows: bool = False
    """It may only be a consequence of another fault deeper in the same value."""


@dataclass(frozen=True)
class Problem:
    """A fault in a file. `where` is the key's dotted path, or a line and column where no key can be named."""

    file: str
    where: str
    value: object
    what: str
    remedy: str

    def __str__(self) -> str:
        parts = (self.file, self.where, show(self.value), self.what, self.remedy)
        return ": ".join(part for part in parts if part)


class Refused(Exception):
    """Carries problems out of a step that can't go on. `load_project` turns it into a ProjectError."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


USER_INFO = re.compile(r"://[^/@\s]*@")
"""User and password in a URL: a message may end in a log."""


def show(value: object) -> str:
    """A value as the project file would write it, cut to a readable length."""
    if value is UNSAID:
        return ""
    text = "(missing)" if value is MISSING else json.dumps(_plain(value), ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (dt.date, Path)):
        return str(value)
    if isinstance(value, str):
        return USER_INFO.sub("://***@", value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names the nearest known word, or nothing: `did you mean 'area'? `."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lower, n=1)
    return f"did you mean '{lower[close[0]]}'? " if close else ""


def listed(names: Iterable[object]) -> str:
    """Names in one line, or a word for none of them."""
    return ", ".join(str(name) for name in names) or "none"


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def translate(error: ValidationError, section: str, raw: object) -> Iterator[Finding]:
    """Pydantic's errors about one top-level section, as findings. `raw` is the section as the file gives it."""
    found: dict[KeyPath, list[Finding]] = {}
    for detail in error.errors(include_url=False):
        path, in_union = _locate(detail["loc"], raw)
        follows = in_union or detail["type"] in ("too_short", "too_long")
        finding = _finding(detail, (section, *path), raw)
        found.setdefault(finding.key, []).append(finding if not follows else replace(finding, follows=True))
    for key, findings in found.items():
        deeper = any(key == other[: len(key)] != other for other in found)
        if not (deeper and all(finding.follows for finding in findings)):
            yield _joined(findings)


def _joined(findings: list[Finding]) -> Finding:
    """One finding for a value that fits none of the alternatives of a union: their remedies are choices."""
    remedies = list(dict.fromkeys(finding.remedy for finding in findings))
    if len(remedies) == 1:
        return findings[0]
    return replace(findings[0], what="not a value that fits here", remedy=", or ".join(remedies))


def _locate(loc: KeyPath, raw: object) -> tuple[KeyPath, bool]:
    """Pydantic's location as a path of keys: without the tags of unions. True if an untagged union was crossed."""
    path: list[str | int] = []
    node, tag_read, in_union = raw, False, False
    for position, part in enumerate(loc):
        if isinstance(node, Mapping) and not tag_read and node.get("kind") == part:
            tag_read = True
        elif _has(node, part):
            path.append(part)
            node, tag_read = node[part], False  # type: ignore[index]
        elif position == len(loc) - 1 and isinstance(node, Mapping) and str(part).isidentifier() and part not in _TYPES:
            path.append(part)
        else:
            in_union = True
    return tuple(path), in_union


_TYPES = ("bool", "int", "float", "str")


def _has(node: object, part: str | int) -> bool:
    if isinstance(node, Mapping):
        return part in node
    return isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)


def _value(raw: object, path: KeyPath) -> object:
    for part in path:
        if not _has(raw, part):
            return MISSING
        raw = raw[part]  # type: ignore[index]
    return raw


def _finding(detail: Any, key: KeyPath, raw: object) -> Finding:
    kind, context = detail["type"], detail.get("ctx", {})
    value = _value(raw, key[1:])
    if kind == "missing" and isinstance(detail["loc"][-1], int):
        return Finding(key, value, "an entry is missing", "write it as [a, b]")
    if kind == "missing":
        return Finding(key, MISSING, "this key is required", f"add it, as {REFERENCE} describes")
    if kind == "extra_forbidden":
        known = known_keys(key[:-1], raw)
        remedy = f"{did_you_mean(str(key[-1]), known)}known here: {listed(known)}"
        return Finding(key, value, "unknown key", remedy)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        remedy = f"use one of {listed(_kinds(key))}"
        return Finding((*key, "kind"), _value(raw, (*key[1:], "kind")), "no such kind", remedy)
    if kind == "value_error":
        what, _, remedy = str(context["error"]).partition(": ")
        return Finding(key, value, what, remedy)
    what, remedy = _WORDS.get(kind, ("{msg}", f"see {REFERENCE}"))
    words = {"msg": detail["msg"], **context}
    return Finding(key, value, what.format(**words), remedy.format(**words))


_NAME = "use letters, digits and _, a letter first (pattern {pattern})"
_NUMBER = ("not a number", "give a number")
_WHOLE = ("not a whole number", "give a whole number")
_DATE = ("not a date", "write it as YYYY-MM-DD")
_TIME = ("not a time", "write it as YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ")
_LIST = ("not a list", "write it as [a, b]")
_MAPPING = ("not a mapping", "write keys and values under it")
_WORDS: Mapping[str, tuple[str, str]] = {
    "string_type": ("not a text", "put it in quotes"),
    "string_too_short": ("empty", "give a text"),
    "string_too_long": ("too long", "use at most {max_length} characters"),
    "string_pattern_mismatch": ("not a usable name", _NAME),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": ("not true or false", "write true or false"),
    "bool_parsing": ("not true or false", "write true or false"),
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": ("a date with a time of day", "write it as YYYY-MM-DD"),
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "tuple_type": _LIST,
    "too_short": ("too few entries ({actual_length})", "give at least {min_length}"),
    "too_long": ("too many entries ({actual_length})", "give at most {max_length}"),
    "mapping_type": _MAPPING,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "invalid_key": ("a key that is not a text", "put the key in quotes"),
    "literal_error": ("no such choice", "use {expected}"),
    "greater_than": ("too small", "give a number greater than {gt:g}"),
    "greater_than_equal": ("too small", "give {ge:g} or more"),
    "less_than": ("too large", "give a number less than {lt:g}"),
    "less_than_equal": ("too large", "give {le:g} or less"),
}


def known_keys(path: KeyPath, raw: object) -> tuple[str, ...]:
    """The keys that a mapping of the project file may have, as its author writes them, sorted."""
    models = _models_at(path)
    kind = _value(raw, (*path[1:], "kind"))
    chosen = [model for model in models if kind in get_args(_annotation(model, "kind"))] or models
    return tuple(sorted({field.alias or name for model in chosen for name, field in model.model_fields.items()}))


def _kinds(path: KeyPath) -> list[str]:
    return [kind for model in _models_at(path) for kind in get_args(_annotation(model, "kind"))]


def _models_at(path: KeyPath) -> list[type[Section]]:
    """The models that may stand at a path. Names and indices within a mapping or list of models change nothing."""
    models: list[type[Section]] = [Project]
    for part in path:
        fields = [
            field for model in models for name, field in model.model_fields.items() if (field.alias or name) == part
        ]
        models = [model for field in fields for model in _sections_in(field.annotation)] or models
    return models


def _annotation(model: type[Section], name: str) -> Any:
    return model.model_fields[name].annotation if name in model.model_fields else None


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_in(inner)
