"""Reads a project file: extends, environment, models, evalscripts, checks. All that is wrong makes one error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from eo_assets.core.evalscript import ScriptSetup
from eo_assets.core.evalscript_periods import uses_periods, with_periods
from eo_assets.core.periods import periods_of
from eo_assets.errors import EvalscriptError, ProjectError
from eo_assets.project import (
    CollectionReference,
    Composite,
    Features,
    LoadedProject,
    ModelHome,
    ModelOfProject,
    Project,
    Storage,
)
from eo_assets.project_checks import check_sections
from eo_assets.project_model_checks import check_model_home
from eo_assets.project_problems import (
    MISSING,
    REFERENCE,
    Finding,
    KeyPath,
    Problem,
    Refused,
    did_you_mean,
    listed,
    translate,
)
from eo_assets.project_variables import hide, substitute
from eo_assets.project_yaml import Text, find_project, read_text, shipped_projects

Inspect = Callable[[str], ScriptSetup]

__all__ = ["load_project", "shipped_projects"]


@dataclass(frozen=True)
class _Script:
    """An evalscript that the project names: `role` is what the checks call its setup."""

    role: str
    key: KeyPath
    name: str


def load_project(
    name_or_path: str | Path,
    *,
    inspect_script: Inspect | None,
    environment: Mapping[str, str],
    working_folder: Path,
) -> LoadedProject:
    """A checked project, from a project file or the name of one that ships.

    `inspect_script` runs an evalscript's `setup()` and raises EvalscriptError for a broken one; None leaves unchecked
    what only a script can tell. `environment` fills `${VAR}`. Relative paths are relative to `working_folder`.
    Raises ProjectError with every problem found, one a line, and with nothing that the environment holds.
    """
    try:
        text = read_text(find_project(name_or_path, working_folder))
    except Refused as refused:
        raise ProjectError("\n".join(map(str, refused.problems))) from refused
    findings: list[Finding] = []
    data = substitute(text.data, environment, findings)
    unset = {finding.key for finding in findings}
    sections, faults = _validate(data)
    findings += [fault for fault in faults if fault.key not in unset]
    scripts = _named_scripts(sections)
    texts = _read_scripts(scripts, text, findings)
    _tell_periods(sections, texts, findings)
    setups = _inspect_scripts(scripts, texts, inspect_script, findings) if inspect_script else {}
    findings += check_sections({**sections, **setups})
    folder = _project_folder(sections, text, working_folder, findings)
    home = _model_home(sections, text, environment, working_folder, findings)
    if home is not None:
        findings += check_model_home(home, text.file, folder, sections)
    if findings:
        shown = [hide(finding, text.data, environment) for finding in findings]
        raise ProjectError("\n".join(_lines(shown, text)))
    project = Project.model_validate(data)
    by_name = {script.name: setups[script.role] for script in scripts if script.role in setups}
    return LoadedProject(
        project=project,
        file=text.file,
        project_folder=folder,
        evalscripts=texts,
        setups=by_name,
        model_home=home,
    )


def _validate(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Each top-level section on its own: the valid ones by name, and what is wrong with the others."""
    sections: dict[str, Any] = {}
    findings = [_unknown(key, value) for key, value in data.items() if key not in Project.model_fields]
    for name, field in Project.model_fields.items():
        if name in data:
            try:
                sections[name] = _validator(name).validate_python(data[name])
            except ValidationError as error:
                findings += translate(error, name, data[name])
        elif field.is_required():
            findings.append(Finding((name,), MISSING, "this key is required", f"add it, as {REFERENCE} describes"))
        else:
            sections[name] = field.get_default(call_default_factory=True)
    return sections, findings


@cache
def _validator(section: str) -> TypeAdapter[Any]:
    field = Project.model_fields[section]
    annotation: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotation)


def _unknown(key: object, value: object) -> Finding:
    known = sorted((*Project.model_fields, "extends"))
    return Finding((str(key),), value, "unknown key", f"{did_you_mean(str(key), known)}known here: {listed(known)}")


def _lines(findings: list[Finding], text: Text) -> Iterator[str]:
    """One line a problem, in the order of the sections."""
    order = {name: index for index, name in enumerate(Project.model_fields)}
    for finding in sorted(findings, key=lambda finding: order.get(str(finding.key[0]), len(order))):
        file, where = text.origin(finding.key), ".".join(str(part) for part in finding.key)
        remedy = finding.remedy if file == text.file else f"{finding.remedy}; or set the key in {text.file}"
        yield str(Problem(str(file), where, finding.value, finding.what, remedy))


def _named_scripts(sections: Mapping[str, Any]) -> list[_Script]:
    scripts = []
    if "imagery" in sections:
        scripts.append(_Script("imagery_script", ("imagery", "evalscript"), sections["imagery"].evalscript))
    if "reference" in sections and isinstance(source := sections["reference"].source, CollectionReference):
        scripts.append(_Script("reference_script", ("reference", "source", "evalscript"), source.evalscript))
    return scripts


def _read_scripts(scripts: list[_Script], text: Text, findings: list[Finding]) -> dict[str, str]:
    """The texts by name. A path is relative to the file that names it."""
    texts: dict[str, str] = {}
    files: dict[str, Path] = {}
    for script in scripts:
        file = (text.origin(script.key).parent / script.name).resolve()
        if files.setdefault(script.name, file) != file:
            what = f"also the name of another file, {files[script.name]}"
            findings.append(Finding(script.key, script.name, what, "give one of the two another name"))
        try:
            texts[script.name] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            remedy = "put the evalscript there, or mend the path: it starts at the file that names it"
            findings.append(Finding(script.key, script.name, f"{file} can't be read ({reason})", remedy))
    return texts


def _tell_periods(sections: Mapping[str, Any], texts: dict[str, str], findings: list[Finding]) -> None:
    """Put the composite's periods into the text of a script that makes it: what is sent, and part of its recipe."""
    imagery, features = sections.get("imagery"), sections.get("features")
    if imagery is None or not imagery.composite_in_evalscript or imagery.evalscript not in texts:
        return
    key = ("imagery", "evalscript")
    if not uses_periods(texts[imagery.evalscript]):
        remedy = "have it composite by PERIODS, or remove imagery.composite_in_evalscript (docs/evalscripts.md)"
        findings.append(Finding(key, imagery.evalscript, "does not use PERIODS, so it makes no composite", remedy))
    if not isinstance(features, Features) or not isinstance(features.composite, Composite):
        return
    try:
        periods = periods_of(imagery.time_interval, features.composite.periods)
        texts[imagery.evalscript] = with_periods(texts[imagery.evalscript], periods)
    except ValueError as error:
        remedy = "begin it with that line: the periods are put behind it"
        findings.append(Finding(key, imagery.evalscript, str(error), remedy))


def _inspect_scripts(
    scripts: list[_Script], texts: Mapping[str, str], inspect: Inspect, findings: list[Finding]
) -> dict[str, ScriptSetup]:
    """What `setup()` of each says, by the name under which the checks ask for it."""
    setups: dict[str, ScriptSetup] = {}
    for script in scripts:
        try:
            if script.name in texts:
                setups[script.role] = inspect(texts[script.name])
        except EvalscriptError as error:
            findings.append(Finding(script.key, script.name, " ".join(str(error).split()), "mend the evalscript"))
    return setups


def _model_home(
    sections: Mapping[str, Any],
    text: Text,
    environment: Mapping[str, str],
    working_folder: Path,
    findings: list[Finding],
) -> ModelHome | None:
    """Where the project that model.source names keeps its model. Of its file only that is read: it may be another
    version's, and need not be one that could still run."""
    if "model" not in sections or not isinstance(named := sections["model"].source, ModelOfProject):
        return None
    key = ("model", "source", "project")
    try:
        other = read_text(find_project(named.project, text.origin(key).parent))
    except Refused as refused:
        problem = refused.problems[0]
        what = problem.what if problem.file == named.project else f"{problem.file}: {problem.where}: {problem.what}"
        findings.append(Finding(key, named.project, what, problem.remedy))
        return None
    faults: list[Finding] = []
    said, invalid = _validate(substitute(other.data, environment, faults))
    folder = _project_folder(said, other, working_folder, faults)
    needed = ("name", "year", "storage")
    for fault in [*faults, *invalid]:
        if fault.key[0] in needed:
            what = f"{other.file}: {'.'.join(map(str, fault.key))}: {fault.what}"
            findings.append(Finding(key, named.project, what, fault.remedy))
            return None
    storage: Storage = said["storage"]
    models = storage.structure.model.replace("{year}", str(said["year"]))
    return ModelHome(
        project=said["name"],
        year=said["year"],
        file=other.file,
        project_folder=folder,
        s3=storage.s3,
        folder=models,
    )


def _project_folder(sections: Mapping[str, Any], text: Text, working_folder: Path, findings: list[Finding]) -> str:
    """The project folder, absolute. That of a project that ships is under the working folder, not in the package."""
    if "storage" not in sections:
        return ""
    folder: str = sections["storage"].project_folder
    if "://" in folder:
        return folder.rstrip("/")
    try:
        path = Path(folder).expanduser()
    except RuntimeError:
        remedy = "write the path out, or use ${HOME}"
        findings.append(Finding(("storage", "project_folder"), folder, "no such user's home folder", remedy))
        return ""
    above = working_folder if text.file in shipped_projects().values() else text.file.parent
    return str((above / path).resolve())
