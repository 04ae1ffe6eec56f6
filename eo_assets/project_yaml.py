"""From YAML files to one plain mapping: strict parsing, `extends`, and which file each key came from.

No meaning of any key but `extends` is known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eo_assets.project_problems import UNSAID, KeyPath, Problem, Refused, did_you_mean, listed

SHIPPED = Path(__file__).parent / "projects"


@dataclass(frozen=True)
class Text:
    """A project file with all that it extends: the merged data, and the file that gave each key."""

    file: Path
    data: dict[str, Any]
    origins: Mapping[KeyPath, Path]

    def origin(self, key: KeyPath) -> Path:
        """The file that gave a key; for a key that no file has, the file of what it would stand in."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, self.file)


def shipped_projects() -> dict[str, Path]:
    """The projects that ship with eo-assets, by name."""
    return {file.parent.name: file for file in sorted(SHIPPED.glob("*/project.yaml"))}


def find_project(name_or_path: str | Path, folder: Path) -> Path:
    """The project file that a name or a path (relative to `folder`) stands for."""
    shipped = shipped_projects()
    path = (folder / Path(name_or_path).expanduser()).resolve()
    if str(name_or_path) in shipped and not path.is_file():
        return shipped[str(name_or_path)]
    if path.is_file():
        return path
    known = f"{did_you_mean(str(name_or_path), shipped)}projects that ship: {listed(shipped)}"
    what = "a folder, not a project file" if path.is_dir() else "no such project file"
    raise Refused(Problem(str(name_or_path), "", UNSAID, what, f"give the path of a .yaml file or a name; {known}"))


def read_text(file: Path, seen: tuple[Path, ...] = ()) -> Text:
    """Read a project file and whatever it extends. Mappings are merged key by key, everything else is replaced."""
    data = _parse(file)
    origins = dict.fromkeys(_paths(data), file)
    base = data.pop("extends", None)
    if base is None:
        return Text(file, data, origins)
    if not isinstance(base, str):
        raise Refused(Problem(str(file), "extends", base, "not a text", "name one project file, or one that ships"))
    below = _extended(file, base, (*seen, file))
    return Text(file, _merge(below.data, data), {**below.origins, **origins})


def _extended(file: Path, base: str, seen: tuple[Path, ...]) -> Text:
    try:
        target = find_project(base, file.parent)
    except Refused as refused:
        problem = refused.problems[0]
        raise Refused(Problem(str(file), "extends", base, problem.what, problem.remedy)) from None
    if target in seen:
        chain = " -> ".join(path.name if path.parent == file.parent else str(path) for path in (*seen, target))
        raise Refused(Problem(str(file), "extends", base, f"a circle: {chain}", "let one of them extend nothing"))
    return read_text(target, seen)


def _merge(base: Any, over: Any) -> Any:
    """`over` laid on `base`. Two mappings of another `kind` have no keys in common: the upper one stands alone."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "kind" in base and "kind" in over and base["kind"] != over["kind"]:
        return over
    return base | {key: _merge(base[key], value) if key in base else value for key, value in over.items()}


def _paths(node: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from _paths(value, (*path, key))


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML values only; an impossible date stays a text, so that the key's own check can name it."""


def _timestamp(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    try:
        return loader.construct_yaml_timestamp(node)
    except ValueError:
        return loader.construct_scalar(node)


_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)


def _parse(file: Path) -> dict[str, Any]:
    """One file as a mapping."""
    try:
        loader = _StrictLoader(file.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if problems := list(_node_problems(str(file), node)):
            raise Refused(*problems)
        data = None if node is None else loader.construct_document(node)
    except OSError as error:
        raise Refused(Problem(str(file), "", UNSAID, f"can't be read ({error.strerror})", "check the path")) from error
    except UnicodeDecodeError as error:
        raise Refused(Problem(str(file), "", UNSAID, f"not UTF-8 ({error.reason})", "save it as UTF-8")) from error
    except yaml.YAMLError as error:
        raise Refused(_syntax_problem(file, error)) from error
    if not isinstance(data, dict):
        what = "empty" if data is None else "not a mapping"
        raise Refused(
            Problem(
                str(file),
                "",
                UNSAID if data is None else data,
                what,
                "a project file is `key: value` lines, starting with name",
            )
        )
    return data


def _syntax_problem(file: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    what = " ".join(str(getattr(error, "problem", None) or error).split())
    remedy = "check indentation, quotes and brackets here and on the line above"
    if isinstance(error, yaml.constructor.ConstructorError):
        remedy = "write plain values: texts, numbers, dates, lists and mappings"
    return Problem(str(file), where, UNSAID, f"not YAML, {what}", remedy)


def _node_problems(file: str, node: yaml.Node | None, above: tuple[yaml.Node, ...] = ()) -> Iterator[Problem]:
    """What YAML lets through and we do not: a key given twice, of which the last would win, and circular aliases."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return
    if any(node is other for other in above):
        where = f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"
        yield Problem(file, where, UNSAID, "an alias that contains itself", "write the value out")
        return
    if isinstance(node, yaml.MappingNode):
        yield from _duplicate_keys(file, node)
    children = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    for child in children:
        yield from _node_problems(file, child, (*above, node))


def _duplicate_keys(file: str, node: yaml.MappingNode) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.value in first and isinstance(key, yaml.ScalarNode):
            where = f"line {line}, column {key.start_mark.column + 1}"
            what = f"this key was given before, on line {first[key.value]}"
            yield Problem(file, where, key.value, what, "keep one of them")
        elif isinstance(key, yaml.ScalarNode):
            first[key.value] = line
