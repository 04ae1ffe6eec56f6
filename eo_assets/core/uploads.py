"""Files that are put into a folder, look by look: still being written, new, the same again, gone or unusable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as a look left it.

    `version` changes whenever its bytes may have. `content` (sha256) and `error` (why it can't be used) are of the last
    version that was judged; empty: none was yet. `judged`: are they of this version?
    """

    version: str
    content: str = ""
    error: str = ""
    judged: bool = False

    @property
    def usable(self) -> bool:
        """Was it judged, and can it be used?"""
        return bool(self.content) and not self.error


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept from look to look: the files by name, what was asked for, and what was last said about spending.

    `untold`: what a look found that asked for a run, and that the next one is to tell.
    """

    files: Mapping[str, Seen] = field(default_factory=dict)
    requests: int = 0
    requested: str = ""
    depends_on: str = ""
    spending: str = ""
    untold: tuple[str, ...] = ()

    def as_json(self) -> str:
        """As text that `memory_from_json` reads."""
        return json.dumps(asdict(self), sort_keys=True)


def memory_from_json(text: str | None) -> Memory:
    """What `Memory.as_json` gave; a fresh memory for no text, or for text that something else wrote."""
    try:
        said: dict[str, Any] = json.loads(text or "{}")
        files = {name: Seen(**seen) for name, seen in said.get("files", {}).items()}
        return Memory(**{**said, "files": files, "untold": tuple(said.get("untold", ()))})
    except (ValueError, TypeError, AttributeError):
        return Memory()


def look(before: Mapping[str, Seen], listed: Mapping[str, str]) -> tuple[dict[str, Seen], list[str]]:
    """The files as they are listed now (name -> version), and the names of those that can be judged.

    A file is judged when two looks in a row find one version: until then it may be half written.
    """
    files, settled = {}, []
    for name, version in listed.items():
        known = before.get(name)
        if known is None:
            files[name] = Seen(version)
        elif known.version != version:
            files[name] = replace(known, version=version, judged=False)
        else:
            files[name] = known
            if not known.judged:
                settled.append(name)
    return files, settled


def usable_contents(files: Mapping[str, Seen]) -> set[str]:
    """The contents that an area can be made of."""
    return {seen.content for seen in files.values() if seen.usable}


def failures(files: Mapping[str, Seen]) -> dict[str, tuple[str, str]]:
    """The files that can't be used: name -> (content, reason)."""
    return {name: (seen.content, seen.error) for name, seen in files.items() if seen.error}


def removed(before: Mapping[str, Seen], files: Mapping[str, Seen]) -> list[str]:
    """The names that are gone together with their content; a file that has only another name now is not."""
    present = usable_contents(files)
    return [name for name, seen in before.items() if name not in files and seen.usable and seen.content not in present]


def same_again(before: Mapping[str, Seen], files: Mapping[str, Seen]) -> dict[str, str]:
    """The files that were judged now and hold what another one holds, or held: name -> that one's name."""
    owners: dict[str, str] = {}
    for name, seen in (*before.items(), *files.items()):
        if seen.usable and seen.judged:
            owners.setdefault(seen.content, name)
    return {
        name: owners[seen.content]
        for name, seen in files.items()
        if seen.judged and seen.usable and before.get(name) != seen and owners[seen.content] != name
    }
