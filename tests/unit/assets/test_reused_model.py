"""Models of other projects: found without a trace there, judged before anything is bought, each difference told."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from eo_assets.assets.model import make_model, wanted_model
from eo_assets.assets.reused_model import check_model_fits, model_note, model_problem, reused_model
from eo_assets.cli import main
from eo_assets.core.signature import Signature
from eo_assets.errors import ModelError, ProjectError
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from eo_assets.stages.build import tile_store
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from eo_assets.stages.signature import expected_signature

MONTHS = {"method": "median", "periods": "months"}
YEAR = ["2017-01-01", "2017-12-31"]
NEXT = {
    "extends": "y2017.yaml",
    "name": "y2018",
    "year": 2018,
    "storage": {"project_folder": "next"},
    "imagery": {"time_interval": ["2018-01-01", "2018-12-31"]},
    "model": {"source": {"project": "y2017.yaml"}},
}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in base.keys() & over.keys() if isinstance(base[key], dict) and isinstance(over[key], dict)}
    return {**base, **over, **{key: merged(base[key], over[key]) for key in both}}


def opened(file: Path, **environment: str) -> LoadedProject:
    return load_project(file, inspect_script=None, environment=environment, working_folder=file.parent)


def written(folder: Path, name: str, said: dict[str, Any]) -> LoadedProject:
    (folder / name).write_text(yaml.safe_dump(said))
    return opened(folder / name)


def this_year(folder: Path, composite: Any = None) -> LoadedProject:
    """The project of 2017, without a model yet."""
    (folder / "this/sentinel-hub").mkdir(parents=True, exist_ok=True)
    said = {
        "extends": "demo",
        "name": "y2017",
        "storage": {"project_folder": "this"},
        "imagery": {"time_interval": YEAR},
        "features": {"composite": composite or MONTHS},
    }
    return written(folder, "y2017.yaml", said)


def next_year(folder: Path, **changes: Any) -> LoadedProject:
    return written(folder, "y2018.yaml", merged(NEXT, changes))


def trees(features: int) -> str:
    """A model of one leaf."""
    data = lightgbm.Dataset(np.zeros((20, features)), np.ones(20), params={"verbosity": -1})
    text: str = lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=1).model_to_string()
    return text


def commit_model(loaded: LoadedProject, signature: Signature | None = None, text: str | None = None) -> Path:
    """A model that says what the project calls for, or something else."""
    store = tile_store(loaded)
    told = signature or expected_signature(loaded.project)
    with store.attempt("model", "model") as attempt:
        (attempt.folder / MODEL_FILE).write_text(trees(len(told.columns)) if text is None else text)
        (attempt.folder / SIGNATURE_FILE).write_text(json.dumps(told.as_json()))
        (attempt.folder / "trained_on.json").write_text("{}")
        store.commit("model", "model", attempt, "recipe")
    return attempt.folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_of_another_project_is_copied_and_nothing_is_written_there(tmp_path: Path) -> None:
    commit_model(this_year(tmp_path))
    before = everything(tmp_path / "this")
    loaded = next_year(tmp_path)
    assert model_problem(loaded) is None
    store = tile_store(loaded)
    record = make_model(loaded, store)
    assert sorted(path.name for path in store.path(record).iterdir()) == [
        "answers.npz", "metrics.json", MODEL_FILE, SIGNATURE_FILE, "trained_on.json",
    ]  # fmt: skip
    assert record.numbers["source_project"] == "y2017 2017"
    assert record.numbers["source"].startswith(str(tmp_path / "this/models"))
    assert everything(tmp_path / "this") == before
    assert make_model(loaded, store).attempt == record.attempt


def test_the_bytes_of_the_model_are_its_identity(tmp_path: Path) -> None:
    first = this_year(tmp_path)
    folder = commit_model(first)
    loaded = next_year(tmp_path)
    store = tile_store(loaded)
    recipe = wanted_model(loaded, store).recipe
    commit_model(first)  # the same once more, in another folder
    assert wanted_model(loaded, store).recipe == recipe and reused_model(loaded).model.parent != folder
    commit_model(first, text=trees(1))
    assert wanted_model(loaded, store).recipe != recipe


def test_last_years_folder_may_be_put_away(tmp_path: Path) -> None:
    commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path)
    record = make_model(loaded, tile_store(loaded))
    (tmp_path / "this").rename(tmp_path / "archive")
    assert model_problem(loaded) is None
    assert make_model(loaded, tile_store(loaded)).attempt == record.attempt
    # What this project itself has trained is not last year's model.
    trained = next_year(tmp_path, storage={"project_folder": "other"})
    commit_model(trained)
    assert "y2017 2017 has no model" in (model_problem(trained) or "")


GONE = {
    "all": lambda folder: shutil.rmtree(folder),
    "model": lambda folder: (folder / MODEL_FILE).unlink(),
    "signature": lambda folder: (folder / SIGNATURE_FILE).unlink(),
    "half of it": lambda folder: (folder / MODEL_FILE).write_text("tree"),
}


@pytest.mark.parametrize("remove", GONE.values(), ids=GONE)
def test_what_is_gone_of_the_source_is_refused_or_the_copy_is_used_and_said_to_be(tmp_path: Path, remove: Any) -> None:
    live = commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path)
    record = make_model(loaded, tile_store(loaded))
    assert model_note(loaded) is None
    remove(live)
    assert model_problem(loaded) is None
    assert make_model(loaded, tile_store(loaded)).attempt == record.attempt
    note = str(model_note(loaded))
    assert f"{live} is " in note and f"eo-assets run {tmp_path}/y2017.yaml --only model" in note
    assert note.endswith(f"; the copy that y2018 made of it ({record.created}) is used")
    # Without a copy there is nothing to use.
    other = next_year(tmp_path, storage={"project_folder": "other"})
    assert f"y2018.yaml: model.source.project: y2017.yaml: model of model: {live} is " in (model_problem(other) or "")
    with pytest.raises(ModelError):
        make_model(other, tile_store(other))
    assert model_note(other) is None


def test_a_copy_that_is_damaged_itself_is_not_used(tmp_path: Path) -> None:
    live = commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path)
    store = tile_store(loaded)
    (store.path(make_model(loaded, store)) / SIGNATURE_FILE).unlink()
    assert model_problem(loaded) is None
    shutil.rmtree(live)
    assert f"{live} is gone" in (model_problem(loaded) or "")


def test_the_copy_of_another_folder_is_not_the_model_of_this_one(tmp_path: Path) -> None:
    """Of the same name and year: somebody else's, or a second try at it."""
    commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path)
    make_model(loaded, tile_store(loaded))
    said = yaml.safe_load((tmp_path / "y2017.yaml").read_text())
    (tmp_path / "y2017.yaml").write_text(yaml.safe_dump(said | {"storage": {"project_folder": "elsewhere"}}))
    assert "y2017 2017 has no model yet" in (model_problem(next_year(tmp_path)) or "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trees\n", "can't be used: not a whole model in LightGBM's text format"),
        ("", "can't be used: not a whole model in LightGBM's text format"),
        (trees(2), "takes 2 features, and signature.json beside it has {} columns"),
    ],
)
def test_a_file_that_is_no_such_model_does_not_fit(tmp_path: Path, text: str, told: str) -> None:
    first = this_year(tmp_path)
    folder = commit_model(first, text=text)
    columns = len(expected_signature(first.project).columns)
    loaded = next_year(tmp_path)
    problem = model_problem(loaded) or ""
    assert problem.startswith(f"{tmp_path}/y2018.yaml: model.source.project: y2017.yaml: {folder / MODEL_FILE} ")
    assert told.format(columns) in problem and problem.endswith("or train one: model.source: train")
    with pytest.raises(ModelError):
        make_model(loaded, tile_store(loaded))


def test_without_a_model_there_is_told_what_to_run(tmp_path: Path) -> None:
    this_year(tmp_path)
    loaded = next_year(tmp_path)
    with pytest.raises(ModelError) as caught:
        check_model_fits(loaded)
    assert str(caught.value) == (
        f"{tmp_path}/y2018.yaml: model.source.project: y2017.yaml: y2017 2017 has no model yet; train it first: "
        f"eo-assets run {tmp_path}/y2017.yaml --only model"
    )
    assert not (tmp_path / "this/models").exists()


def test_a_folder_of_models_that_is_another_projects_is_not_read(tmp_path: Path) -> None:
    first = this_year(tmp_path)
    commit_model(first)
    (tmp_path / "this/models/_owner.json").write_text('{"project": "other 2016", "stage": "model"}')
    assert f"no model of its own ({tmp_path}/this/models belongs to other 2016) yet" in (
        model_problem(next_year(tmp_path)) or ""
    )


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "kind": (
        {"model": {"kind": "lightgbm_classifier"}, "predictions": {"clip": None}},
        "kind: the model has 'lightgbm_regressor', the project 'lightgbm_classifier'; let model.kind say",
    ),
    "units": ({"eopatches": {"data": {"BANDS": {"factor": 0.001}}}}, "factor: the model has 0.0001, the project 0.001"),
    "reference": ({"reference": {"name": "ROADS"}}, "reference: the model has 'BUILT_UP', the project 'ROADS'"),
    "harmonisation": (
        {"imagery": {"collections": [{"collection": "sentinel-2-l1c", "service": "local", "harmonize_values": False}]}},
        "offset_handling: the model has ('sentinel-2-l1c: harmonised',), the project ('sentinel-2-l1c: as delivered',)"
        "; let imagery.collections and their harmonize_values say",
    ),
    "number of periods": (
        {"features": {"composite": {"periods": 6}}},
        "periods: the model has 12 (m01 (01-01 to 02-01, 31 days) to m12 (12-01 to 01-01, 31 days)); the project has 6",
    ),
    "other months": (
        {"imagery": {"time_interval": ["2018-06-01", "2019-05-31"]}},
        "period 0: the model has m01 (01-01 to 02-01, 31 days); the project has m06 (06-01 to 07-01, 30 days)",
    ),
    "method": (
        {"features": {"composite": {"method": "mean"}}},
        "composite: the model has median, gaps none; the project has mean, gaps none; let features.composite say",
    ),
    "gaps": (
        {"features": {"composite": {"gaps": {"method": "linear"}}}},
        "composite: the model has median, gaps none; the project has median, gaps linear",
    ),
    "no composite": (
        {"features": {"composite": "none"}},
        "composite: the model has median, gaps none; the project has none, dates as they are",
    ),
    "bands of an index": (
        {"features": {"indices": {"NDVI": ["B04", "B08"]}}},
        "index 0: the model has NDVI of B08/B04, the project NDVI of B04/B08; let features.indices say",
    ),
    "order of bands": (
        {"features": {"include_bands": ["B02", "B01"]}},
        "column 3: the model has B01_m01, the project B02_m01; let features.indices, features.include_bands and",
    ),
}


@pytest.mark.parametrize(("changes", "told"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_told_with_the_keys_to_mend(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path, **changes)
    with pytest.raises(ModelError) as caught:
        check_model_fits(loaded)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/y2018.yaml: model.source.project: y2017.yaml: {tmp_path}/this/models/model/")
    assert f"does not fit this project: {told}" in said
    assert said.endswith("say what the model's own project says, or train a model: model.source: train")
    with pytest.raises(ModelError):
        make_model(loaded, tile_store(loaded))


DATES = tuple(f"{name}_2017-02-16" for name in ("NDVI", "NDWI", "NDBI", "B04"))
OUTLIVED = (
    "column 0: the model has NDVI_2017-02-16, and imagery.time_interval is 2017-02-17 to 2017-03-01; a model outlives "
    "its dates with features.composite alone"
)
BY_DATES = {"features": {"composite": "none", "include_bands": ["B04"]}, "imagery": {"time_interval": YEAR}}


@pytest.mark.parametrize(
    ("columns", "changes", "told"),
    [
        (DATES, {}, None),
        (DATES, {"imagery": {"time_interval": ["2017-02-17", "2017-03-01"]}}, OUTLIVED),
        (DATES[::-1], {}, "column 0: the model has B04_2017-02-16, the project makes NDVI there"),
        (DATES[:3], {}, "column 3: the model has none, the project makes B04 there"),
        (("NDVI_p1", *DATES[1:]), {}, "column 0: the model has NDVI_p1, and imagery.time_interval is"),
        (DATES, {"features": {"composite": MONTHS}}, "composite: the model has none, dates as they are"),
    ],
)  # fmt: skip
def test_a_model_of_dates(tmp_path: Path, columns: tuple[str, ...], changes: dict[str, Any], told: str | None) -> None:
    first = this_year(tmp_path, "none")
    commit_model(first, dataclasses.replace(expected_signature(first.project), columns=columns))
    problem = model_problem(next_year(tmp_path, **merged(BY_DATES, changes)))
    assert problem is None if told is None else told in str(problem)


def test_a_signature_that_is_broken_is_named(tmp_path: Path) -> None:
    own = tmp_path / "next/own"
    own.mkdir(parents=True)
    this_year(tmp_path)
    (own / MODEL_FILE).write_text(trees(1))
    (own / SIGNATURE_FILE).write_text("{}")
    assert f"{own / SIGNATURE_FILE} can't be read: not a model's signature" in (
        model_problem(next_year(tmp_path, model={"source": "own"})) or ""
    )


def test_a_file_is_judged_as_a_project_is(tmp_path: Path) -> None:
    first = this_year(tmp_path)
    folder = commit_model(first)
    copied = tmp_path / "next/own"
    copied.mkdir(parents=True)
    for name in (MODEL_FILE, SIGNATURE_FILE):
        (copied / name).write_bytes((folder / name).read_bytes())
    loaded = next_year(tmp_path, model={"source": "own"})
    assert make_model(loaded, tile_store(loaded)).numbers["source"] == str(copied / MODEL_FILE)
    (copied / MODEL_FILE).unlink()
    assert "model.source: nowhere: " in (model_problem(next_year(tmp_path, model={"source": "nowhere"})) or "")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "itself": (
        {"model": {"source": {"project": "y2018.yaml"}}},
        'y2018.yaml: model.source.project: "y2018.yaml": this project itself: name the project that has trained it, '
        "or write train",
    ),
    "one folder": (
        {"storage": {"project_folder": "this"}},
        'y2018.yaml: model.source.project: "y2017.yaml": keeps its model where this project would: {}/this/models: '
        "give this project another storage.project_folder, or storage.structure.model: models/{year}",
    ),
    "nothing": (
        {"model": {"source": {"project": "y2016.yaml"}}},
        'y2018.yaml: model.source.project: "y2016.yaml": no such project file: give the path of a .yaml file or a name',
    ),
    "no yaml": (
        {"model": {"source": {"project": "broken.yaml"}}},
        'y2018.yaml: model.source.project: "broken.yaml": {}/broken.yaml: line 1, column 12: not YAML',
    ),
    "no year": (
        {"model": {"source": {"project": "nameless.yaml"}}},
        'y2018.yaml: model.source.project: "nameless.yaml": {}/nameless.yaml: year: this key is required: add it',
    ),
    "unset variable": (
        {"model": {"source": {"project": "variable.yaml"}}},
        'y2018.yaml: model.source.project: "variable.yaml": {}/variable.yaml: storage.project_folder: the environment '
        "variable EO_NOWHERE is not set",
    ),
    "unknown key": (
        {"model": {"source": {"projekt": "y2017.yaml"}}},
        "y2018.yaml: model.source.projekt: \"y2017.yaml\": unknown key: did you mean 'project'?",
    ),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED)
def test_a_source_that_is_no_other_project_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    this_year(tmp_path)
    (tmp_path / "broken.yaml").write_text("name: [a: b")
    (tmp_path / "nameless.yaml").write_text("name: a\nstorage: {project_folder: a}\n")
    (tmp_path / "variable.yaml").write_text("extends: y2017.yaml\nstorage: {project_folder: '${EO_NOWHERE}'}\n")
    with pytest.raises(ProjectError) as caught:
        next_year(tmp_path, **changes)
    said = str(caught.value).replace(f"{tmp_path}/y2018.yaml", "y2018.yaml")
    assert told.replace("{}", str(tmp_path)) in said


def test_a_source_that_could_not_run_itself_is_still_a_source(tmp_path: Path) -> None:
    """Of the other file only the place of its model is read: last year's evalscript may be gone."""
    commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path)
    old = yaml.safe_load((tmp_path / "y2017.yaml").read_text())
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old | {"maps": {"nodata": "?"}, "extinct": 1}))
    said = yaml.safe_load((tmp_path / "y2018.yaml").read_text()) | {"model": {"source": {"project": "old.yaml"}}}
    assert model_problem(written(tmp_path, "y2018.yaml", said)) == model_problem(loaded) is None


def test_the_example_of_the_documentation_is_complete(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/next-year.md").read_text()
    for name, text in re.findall(r"^`(\S+\.yaml)`[^\n]*:\n\n```yaml\n(.*?)```", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    first, second = (opened(tmp_path / f"west_africa_{year}.yaml") for year in (2020, 2021))
    assert "west_africa_2020 2020 has no model yet" in (model_problem(second) or "")
    commit_model(first)
    assert model_problem(second) is None


def test_validate_says_that_a_copy_is_used(tmp_path: Path) -> None:
    live = commit_model(this_year(tmp_path))
    loaded = next_year(tmp_path)
    make_model(loaded, tile_store(loaded))
    shutil.rmtree(live)
    told = CliRunner().invoke(main, ["validate", str(loaded.file)])
    assert told.exit_code == 0 and f"{live} is gone" in told.output and "the copy that y2018 made" in told.output
