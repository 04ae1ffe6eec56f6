"""Rules of retention in a project file: what can be kept until what, and what a person is told of all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_assets.core.graph import between, direct_readers, readers
from eo_assets.errors import ProjectError
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project

OTHERS_MODEL = "model: {source: models/model.txt}\n"


def load(folder: Path, rules: str, more: str = "") -> LoadedProject:
    file = folder / "project.yaml"
    file.write_text(f"extends: west_africa\nstorage: {{retention: {rules}}}\n{more}")
    return load_project(file, inspect_script=None, environment={}, working_folder=folder)


def test_everything_is_kept_unless_said(tmp_path: Path) -> None:
    assert load(tmp_path, "{}").project.storage.retention.rules == {}
    assert load(tmp_path, "{tiffs: keep}").project.storage.retention.rules == {}


def test_rules_are_read_as_they_are_written(tmp_path: Path) -> None:
    said = "{tiffs: {until: features}, features: {until: maps}, samples: {until: model}, predictions: {days: 30}}"
    rules = load(tmp_path, said).project.storage.retention.rules
    assert {stage: str(rule) for stage, rule in rules.items()} == {
        "tiffs": "until features",
        "features": "until maps",
        "samples": "until model",
        "predictions": "30 days",
    }


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            "{tiffs: {until: featurs}}",
            "storage.retention.tiffs.until: \"featurs\": there is no such asset: did you mean 'features'? "
            "tiffs is read by eopatches, features, samples, training_data, model, predictions, maps, byoc_collection",
        ),
        (
            "{samples: {until: maps_}}",
            "storage.retention.samples.until: \"maps_\": there is no such asset: did you mean 'maps'? "
            "samples is read by training_data, model, predictions, maps, byoc_collection",
        ),
        (
            "{features: {until: eopatches}}",
            'storage.retention.features.until: "eopatches": is not made from features in this project: name what is: '
            "samples, training_data, model, predictions, maps, byoc_collection",
        ),
        (
            "{reference: {until: features}}",
            'storage.retention.reference.until: "features": is not made from reference in this project: name what is: '
            "samples, training_data, model, predictions, maps, byoc_collection",
        ),
        (
            "{predictions: {until: maps}}",
            'storage.retention.predictions.until: "maps": a map is made anew of all predictions of its zone: give days '
            "instead, or keep",
        ),
        (
            "{tiffs: {until: features, days: 3}}",
            'storage.retention.tiffs: "until features": both until and days: give one of the two',
        ),
        ("{tiffs: forever}", "not a rule: write keep, {until: a later stage} or {days: a number}"),
        ("{tiffs: {days: 0}}", "storage.retention.tiffs.days: 0"),
        ("{maps: {days: 3}}", "storage.retention.maps"),
        ("{tiffs: {untill: maps}}", "did you mean 'until'?"),
    ],
)
def test_a_rule_that_can_not_be_kept_is_told_with_the_remedy(tmp_path: Path, rules: str, told: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, rules)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("{features: {until: samples}}", "is not made from features in this project: name what is: predictions, maps"),
        ("{reference: {until: model}}", "nothing is made from reference where the model is another's: write keep"),
    ],
)
def test_what_a_project_does_not_make_is_waited_for_by_nobody(tmp_path: Path, rules: str, told: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, rules, OTHERS_MODEL)
    assert told in str(caught.value)


def test_retention_changes_no_recipe(tmp_path: Path) -> None:
    """What is committed stays up to date when a rule is set, loosened or taken back."""
    plain, ruled = load(tmp_path, "{}").project, load(tmp_path, "{tiffs: {until: features}}").project
    assert plain.model_copy(update={"storage": ruled.storage}) == ruled
    assert plain.storage.structure == ruled.storage.structure


def test_the_graph_knows_who_reads_what() -> None:
    assert readers("samples") == ("training_data", "model", "predictions", "maps", "byoc_collection")
    assert between("tiffs", "features") == ("eopatches", "features")
    assert between("features", "maps") == ("samples", "training_data", "model", "predictions", "maps")
    assert between("features", "maps", trained_here=False) == ("predictions", "maps")
    assert direct_readers("features") == ("samples", "predictions")
    assert direct_readers("features", trained_here=False) == ("predictions",)
    assert direct_readers("reference", trained_here=False) == ()
