"""Reading project files: names and paths, YAML, extends, environment, folders, and what comes out."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from eo_assets import project
from eo_assets.errors import ProjectError
from eo_assets.project import LoadedProject, Project, Section
from eo_assets.project_file import load_project, shipped_projects


def load(name_or_path: str | Path, folder: Path, **environment: str) -> LoadedProject:
    return load_project(name_or_path, inspect_script=None, environment=environment, working_folder=folder)


def write(folder: Path, text: str, name: str = "project.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def refusal(file: str | Path, folder: Path, **environment: str) -> str:
    with pytest.raises(ProjectError) as caught:
        load(file, folder, **environment)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", shipped_projects())
def test_shipped_projects_load_and_keep_their_data_under_the_working_folder(tmp_path: Path, name: str) -> None:
    loaded = load(name, tmp_path)
    assert loaded.project.name == name
    assert Path(loaded.project_folder).is_relative_to(tmp_path)
    assert loaded.project.imagery.evalscript in loaded.evalscripts


def test_a_name_that_is_nothing_lists_what_ships(tmp_path: Path) -> None:
    names = ", ".join(shipped_projects())
    assert refusal("west_afrika", tmp_path) == (
        "west_afrika: no such project file: give the path of a .yaml file or a name; did you mean 'west_africa'? "
        f"projects that ship: {names}"
    )


def test_a_folder_is_no_project_file(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    assert refusal("maps", tmp_path).startswith("maps: a folder, not a project file: give the path of a .yaml file")


BAD_YAML = {
    "tab": (
        "area:\n\tresolution: 10",
        "line 2, column 1: not YAML, found character '\\t' that cannot start any token: "
        "check indentation, quotes and brackets here and on the line above",
    ),
    "bracket": (
        "area: {resolution: 10\n",
        "line 2, column 1: not YAML, expected ',' or '}', but got '<stream end>': "
        "check indentation, quotes and brackets here and on the line above",
    ),
    "same key twice": (
        "maps:\n  nodata: 255\n  nodata: 0\n",
        'line 3, column 3: "nodata": this key was given before, on line 2: keep one of them',
    ),
    "code": (
        "area: !!python/object:os.system {}",
        "line 1, column 7: not YAML, could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object:os.system': write plain values: texts, numbers, dates, lists and mappings",
    ),
    "circle": ("area: &a {files: *a}", "line 1, column 7: an alias that contains itself: write the value out"),
    "two documents": (
        "name: a\n---\nname: b\n",
        "line 2, column 1: not YAML, but found another document: "
        "check indentation, quotes and brackets here and on the line above",
    ),
    "empty": ("# nothing\n", "empty: a project file is `key: value` lines, starting with name"),
    "list": ("- name", '["name"]: not a mapping: a project file is `key: value` lines, starting with name'),
}


@pytest.mark.parametrize(("text", "message"), BAD_YAML.values(), ids=BAD_YAML)
def test_what_is_no_mapping_of_yaml_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(write(tmp_path, text), tmp_path) == f"project.yaml: {message}"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_bytes(b"name: caf\xe9\n")
    assert refusal("project.yaml", tmp_path) == "project.yaml: not UTF-8 (invalid continuation byte): save it as UTF-8"


def test_every_missing_section_is_named_at_once(tmp_path: Path) -> None:
    lines = refusal(write(tmp_path, "name: nothing\nyear: 2020\n"), tmp_path).splitlines()
    required = ["storage", "area", "imagery", "eopatches", "reference", "sampling", "predictions", "maps", "byoc"]
    expected = [
        f"project.yaml: {key}: (missing): this key is required: add it, as docs/project-file.md describes"
        for key in required
    ]
    columns = "no model columns: neither indices nor bands: name indices, or set include_bands"
    expected.insert(4, f"project.yaml: features: (missing): {columns}")
    assert lines == expected


def test_next_year_is_a_file_of_a_few_lines(tmp_path: Path) -> None:
    text = (
        "extends: west_africa\nname: west_africa_2021\nyear: 2021\nimagery: {time_interval: [2021-01-01, 2021-12-31]}\n"
    )
    project = load(write(tmp_path / "mine", text), tmp_path).project
    base = load("west_africa", tmp_path).project
    assert project.folder("tiffs") == "tiffs/2021"
    assert project.imagery.time_interval[1].year == 2021
    changed = {"name", "year", "imagery"}
    assert project.model_dump(exclude=changed, mode="json") == base.model_dump(exclude=changed, mode="json")


def test_extends_merges_mappings_and_replaces_lists_and_kinds(tmp_path: Path) -> None:
    text = """extends: ../base.yaml
features: {indices: {NDRE: [B8A, B05]}}
area: {grid: {kind: utm, tile_size_m: 12000}}
eopatches: {masks: {QUALITY_MASK: {valid: [1]}}}
"""
    write(tmp_path, "extends: west_africa\nname: base\n", "base.yaml")
    project = load(write(tmp_path / "mine", text), tmp_path).project
    assert project.name == "base"
    assert list(project.features.indices) == ["NDVI", "NDWI", "NDBI", "NDRE"]
    assert project.area.grid.model_dump() == {"kind": "utm", "tile_size_m": 12000}
    assert project.eopatches.masks["QUALITY_MASK"].valid == (1,)


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml", "a.yaml")
    write(tmp_path, "extends: a.yaml", "b.yaml")
    assert refusal("a.yaml", tmp_path) == (
        'b.yaml: extends: "a.yaml": a circle: a.yaml -> b.yaml -> a.yaml: let one of them extend nothing'
    )


def test_a_file_that_extends_nothing_known_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "extends: base.yaml"), tmp_path).startswith(
        'project.yaml: extends: "base.yaml": no such project file: give the path of a .yaml file or a name; '
    )


def test_an_evalscript_is_sought_beside_the_file_that_names_it(tmp_path: Path) -> None:
    write(tmp_path / "base", "imagery script", "script.js")
    write(tmp_path / "base", "extends: west_africa\nimagery: {evalscript: script.js}\n", "base.yaml")
    write(tmp_path / "mine", "labels script", "labels.js")
    text = "extends: ../base/base.yaml\nreference: {source: {evalscript: labels.js}}\n"
    loaded = load(write(tmp_path / "mine", text), tmp_path)
    assert loaded.evalscripts == {"script.js": "imagery script", "labels.js": "labels script"}


def test_two_evalscripts_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "base", "imagery script", "script.js")
    write(tmp_path / "base", "extends: west_africa\nimagery: {evalscript: script.js}\n", "base.yaml")
    write(tmp_path / "mine", "labels script", "script.js")
    text = "extends: ../base/base.yaml\nreference: {source: {evalscript: script.js}}\n"
    assert refusal(write(tmp_path / "mine", text), tmp_path) == (
        'mine/project.yaml: reference.source.evalscript: "script.js": also the name of another file, base/script.js: '
        "give one of the two another name"
    )


def test_variables_come_from_the_environment(tmp_path: Path) -> None:
    text = """extends: west_africa
storage: {project_folder: "${BUCKET}/africa"}
year: ${YEAR:-2019}
byoc: {collection_name: "Built-up ${EMPTY:-of West Africa}"}
"""
    loaded = load(write(tmp_path, text), tmp_path, BUCKET="s3://maps", EMPTY="")
    assert loaded.project_folder == "s3://maps/africa"
    assert (loaded.project.year, loaded.project.byoc.collection_name) == (2019, "Built-up of West Africa")


def test_an_unset_variable_is_named_and_an_overridden_one_is_not_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "extends: west_africa\nstorage: {project_folder: '${NOWHERE}'}\n", "base.yaml")
    assert refusal("base.yaml", tmp_path) == (
        'base.yaml: storage.project_folder: "${NOWHERE}": the environment variable NOWHERE is not set: '
        "export NOWHERE=..., or write ${NOWHERE:-a default}"
    )
    write(tmp_path, "extends: base.yaml\nstorage: {project_folder: here}\n", "over.yaml")
    assert load("over.yaml", tmp_path).project_folder == str(tmp_path / "here")


SECRET = "hunter2-and-more"
LEAKS = {
    "a value": (
        'model: {source: "../${MYSECRET}"}',
        'model.source: "../${MYSECRET}": ',
    ),
    "a part of a list": (
        'imagery: {tiff_outputs: [B01, "${MYSECRET}", "${MYSECRET}"]}',
        'imagery.tiff_outputs: "${MYSECRET}": ',
    ),
    "a value that stands for a list": (
        'imagery: {time_interval: "${MYSECRET}"}',
        'imagery.time_interval: "${MYSECRET}": not a list: write it as [a, b]',
    ),
    "a date in a list": (
        'imagery: {time_interval: ["${DAY}", 2020-01-01]}',
        'imagery.time_interval: ["${DAY}", "2020-01-01"]: an empty interval: it ends before it starts: '
        "write [2020-01-01, ${DAY}]",
    ),
    "a path in what is wrong": (
        'imagery: {evalscript: "x-${MYSECRET}.js"}',
        'imagery.evalscript: "x-${MYSECRET}.js": x-${MYSECRET}.js can\'t be read (No such file or directory)',
    ),
    "the names that are known": (
        'eopatches: {masks: {QUALITY_MASK: {from: QN}}}\nimagery: {tiff_outputs: [QM, "${MYSECRET}"]}',
        'eopatches.masks.QUALITY_MASK.from: "QN": not one of imagery.tiff_outputs: tiffs: QM, ${MYSECRET}',
    ),
    "a short one in what is wrong": (
        'storage: {project_folder: "${PIN}://folder"}',
        'storage.project_folder: "${PIN}://folder": no storage of kind ${PIN}: use a local folder or s3://bucket/prefix',
    ),
    "an unknown section": ('imagry: {a: ["${MYSECRET}"]}', 'imagry: {"a": ["${MYSECRET}"]}: unknown key: '),
}


@pytest.mark.parametrize(("text", "message"), LEAKS.values(), ids=LEAKS)
def test_what_the_environment_holds_is_never_shown(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, f"extends: west_africa\n{text}\n")
    shown = refusal(file, tmp_path, MYSECRET=SECRET, PIN="x1", DAY="2020-12-24")
    assert f"project.yaml: {message}" in shown
    assert "hunter2" not in shown
    assert "2020-12-24" not in shown


def test_an_empty_variable_and_a_default_are_shown_as_written(tmp_path: Path) -> None:
    text = 'extends: west_africa\narea: {resolution: "${PIXEL:-wide}"}\nstorage: {project_folder: "${EMPTY}"}\n'
    lines = refusal(write(tmp_path, text), tmp_path, EMPTY="").splitlines()
    assert lines == [
        'project.yaml: storage.project_folder: "${EMPTY}": empty: give a text',
        'project.yaml: area.resolution: "${PIXEL:-wide}": not a number: give a number',
    ]


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("data", "{file}/data"),
        ("../data", "{tmp}/data"),
        ("/srv/data", "/srv/data"),
        ("~/data", "{home}/data"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
    ],
)
def test_the_project_folder_is_absolute(tmp_path: Path, written: str, resolved: str) -> None:
    file = write(tmp_path / "mine", f"extends: west_africa\nstorage: {{project_folder: {written}}}\n")
    expected = resolved.format(file=file.parent, tmp=tmp_path, home=Path.home())
    assert load(file, tmp_path / "elsewhere").project_folder == expected


def test_a_project_survives_json_yaml_and_pickle(tmp_path: Path) -> None:
    loaded = load("west_africa", tmp_path)
    as_json = loaded.project.model_dump_json(by_alias=True)
    plain = loaded.project.model_dump(mode="json", by_alias=True)
    assert Project.model_validate_json(as_json).model_dump_json(by_alias=True) == as_json
    assert (
        Project.model_validate(yaml.safe_load(yaml.safe_dump(plain, sort_keys=False))).model_dump_json(by_alias=True)
        == as_json
    )
    again = pickle.loads(pickle.dumps(loaded))  # noqa: S301, our own bytes
    assert again.model_dump_json() == loaded.model_dump_json()


def test_a_project_can_not_be_changed(tmp_path: Path) -> None:
    loaded = load("west_africa", tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        loaded.project.area.resolution = 60  # type: ignore[misc]


def test_every_section_is_had_from_one_module() -> None:
    sections = {section.__name__ for section in sections_of(LoadedProject)}
    assert sections <= set(project.__all__)
    assert all(hasattr(project, name) for name in project.__all__)


def sections_of(annotation: Any) -> Iterator[type[Section]]:
    """A model and all that it is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections_of(field.annotation)
    for inner in get_args(annotation):
        yield from sections_of(inner)


def test_the_reference_page_names_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "project-file.md").read_text()
    quoted = re.findall(r"`([^`\n]+)`", page) + re.findall(r"^## (.+)$", page, re.MULTILINE)
    words = set(re.findall(r"[a-z0-9_]+", " ".join(quoted)))
    keys = {field.alias or key for model in sections_of(Project) for key, field in model.model_fields.items()}
    assert keys <= words, f"not in docs/project-file.md: {sorted(keys - words)}"
