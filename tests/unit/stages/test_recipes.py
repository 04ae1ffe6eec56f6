"""Which key of a project file makes which tile stage stale: one key at a time, on the demo project."""

import copy
import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_assets.core.recipe import fingerprint
from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import LoadedProject, Project, ValidMask
from eo_assets.stages.build import TILE_STAGES, tile_walk

TILE = Tile("33UUU_3_7", 32633, Bounds(330_000, 5_800_000, 340_000, 5_810_000), 10.0)
DEMO = yaml.safe_load((importlib.resources.files("eo_assets") / "projects/demo/project.yaml").read_text())
SCRIPTS = {"evalscripts/reflectance.js": "//VERSION=3 imagery", "evalscripts/built_up.js": "//VERSION=3 labels"}
BANDS = DEMO["eopatches"]["data"]["BANDS"]["from"]
COLLECTION, LABELS = "imagery.collections.0", "reference.source.collection"

NOTHING: set[str] = set()
TABLE: list[tuple[str, Any, set[str]]] = [
    # Who and where: never a reason to make anything again.
    ("name", "other", NOTHING),
    ("year", 2018, NOTHING),
    ("description", "other", NOTHING),
    ("sources", ["other"], NOTHING),
    ("storage.structure", {"features": "elsewhere"}, NOTHING),
    ("services", {"local": {"collections": "sentinel-hub/other.yaml"}}, NOTHING),
    ("budget.max_processing_units", 1, NOTHING),
    ("budget.require_approval", True, NOTHING),
    ("sensor", {"enabled": True, "auto_spend_up_to": 9, "seconds": 9}, NOTHING),
    ("logging", {"save": False, "show": False}, NOTHING),
    ("area.files", "other.geojson", NOTHING),
    # What is asked of the service.
    ("imagery.expected_dates", 9, NOTHING),
    ("imagery.exclude", ["2017-02-16"], NOTHING),  # only of tiles that have the date: see test_excluded_dates.py
    ("imagery.tries", 9, NOTHING),
    ("imagery.composite_in_evalscript", True, NOTHING),  # its periods are in the script's text, which counts
    ("imagery.time_interval.0", "2017-01-01", {"tiffs"}),
    ("imagery.time_interval.1", "2017-03-01", {"tiffs"}),
    ("imagery.tiff_outputs", DEMO["imagery"]["tiff_outputs"][::-1], {"tiffs"}),
    (f"{COLLECTION}.collection", "sentinel-2-l2a", {"tiffs", "predictions"}),  # the model's offset handling
    (f"{COLLECTION}.id", "S2", {"tiffs"}),
    (f"{COLLECTION}.service", "cdse", {"tiffs"}),
    (f"{COLLECTION}.mosaicking_order", "leastCC", {"tiffs"}),
    (f"{COLLECTION}.max_cloud_cover", 0.5, {"tiffs"}),
    (f"{COLLECTION}.upsampling", "BICUBIC", {"tiffs"}),
    (f"{COLLECTION}.downsampling", "BILINEAR", {"tiffs"}),
    (f"{COLLECTION}.harmonize_values", False, {"tiffs", "predictions"}),
    # From tiffs to the model's columns.
    ("eopatches.data.BANDS.from", BANDS[::-1], {"eopatches", "features", "predictions"}),
    ("eopatches.data.BANDS.factor", 0.001, {"eopatches", "predictions"}),
    ("eopatches.data.BANDS.dtype", "float64", {"eopatches"}),
    ("eopatches.masks.QUALITY_MASK.valid", "bool", {"eopatches"}),
    ("eopatches.masks.QUALITY_MASK.classes", "qm", {"eopatches"}),
    ("eopatches.masks.QUALITY_MASK.dilate_px", 3, {"eopatches"}),
    ("eopatches.masks.CLOUDS", {"from": "QM", "below": 102}, {"eopatches"}),
    ("features.mask", None, {"features"}),
    ("features.include_bands", False, {"features", "predictions"}),
    ("features.indices.NDVI", ["B8A", "B04"], {"features"}),
    ("features.indices", dict(reversed(DEMO["features"]["indices"].items())), {"features", "predictions"}),
    # Labels and samples.
    ("reference.name", "OTHER", {"reference", "samples", "predictions"}),
    ("reference.dtype", "int16", {"reference"}),
    ("reference.nodata", 0, {"reference", "samples"}),
    (f"{LABELS}.collection", "other", {"reference"}),
    (f"{LABELS}.downsampling", "BILINEAR", {"reference"}),
    ("sampling.block_size", [32, 32], {"samples"}),
    ("sampling.number", 100, {"samples"}),
    ("sampling", DEMO["sampling"] | {"number": None, "fraction": 0.5}, {"samples"}),
    ("sampling.seed", 7, {"samples"}),
    ("sampling.tiles", "labelled", NOTHING),
    # The model has a recipe of its own; predictions follow it by its digest.
    ("model.parameters.n_estimators", 7, NOTHING),
    ("model.parameters.n_jobs", 7, NOTHING),
    ("model.split.seed", 7, NOTHING),
    ("predictions.name", "OTHER", {"predictions"}),
    ("predictions.clip", None, {"predictions"}),
    ("predictions.dtype", "uint8", {"predictions"}),
    ("predictions.nodata", -1, {"predictions"}),
    ("predictions.all_probabilities", True, {"predictions"}),
    ("maps", DEMO["maps"] | {"rounding": "truncate", "nodata": 0}, NOTHING),
    ("byoc.collection_name", "other", NOTHING),
]


def changed(key: str, value: Any) -> dict[str, Any]:
    """The demo project with one key set."""
    project = copy.deepcopy(DEMO)
    *way, last = (int(part) if part.isdigit() else part for part in key.split("."))
    place = project
    for part in way:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    place[last] = value
    return project


def settings(
    folder: Path, project: dict[str, Any], scripts: dict[str, str] = SCRIPTS, tile: Tile = TILE
) -> dict[str, str]:
    for name in ("collections.yaml", "other.yaml"):
        (folder / "sentinel-hub").mkdir(exist_ok=True)
        (folder / "sentinel-hub" / name).touch()
    loaded = LoadedProject(
        project=Project.model_validate(project), file=folder / "p.yaml", project_folder=str(folder), evalscripts=scripts
    )
    return {stage.name: fingerprint(stage.settings(tile)) for stage in tile_walk(loaded).stages}


def differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert tuple(one) == tuple(other) == TILE_STAGES
    return {stage for stage in one if one[stage] != other[stage]}


@pytest.mark.parametrize(("key", "value", "stale"), TABLE, ids=[key for key, _, _ in TABLE])
def test_a_key_changes_the_settings_of_its_stages_alone(tmp_path: Path, key: str, value: Any, stale: set[str]) -> None:
    assert json.dumps(changed(key, value), default=str) != json.dumps(DEMO, default=str)
    assert differing(settings(tmp_path, DEMO), settings(tmp_path, changed(key, value))) == stale


def test_a_mask_that_says_what_it_said_before_there_were_other_rules_has_the_recipe_that_it_had() -> None:
    for valid in ([1, 2], "bool"):
        said = {"from": "QM", "valid": valid}
        assert ValidMask.model_validate(said).model_dump(mode="json", by_alias=True) == said
    quoted = ValidMask.model_validate({"from": "QM", "valid": ["1", 2.0], "below": None})
    assert quoted.model_dump(mode="json", by_alias=True) == {"from": "QM", "valid": [1, 2]}


def test_every_key_of_every_section_is_in_the_table() -> None:
    sections = ("imagery", "eopatches", "features", "reference", "sampling", "predictions")
    keys = {
        f"{section}.{name}" for section in sections for name in Project.model_fields[section].annotation.model_fields
    }
    covered = {".".join(key.split(".")[:2]) for key, _, _ in TABLE} | {"sampling.fraction"}
    untold = keys - covered
    # One kind of value only today, a name whose text counts, or a name that renames everything with it.
    assert untold == {"imagery.evalscript", "features.bands", "features.validity_threshold", "features.composite"}


def test_the_text_of_an_evalscript_counts_and_its_file_name_does_not(tmp_path: Path) -> None:
    base = settings(tmp_path, DEMO)
    for name, stage in (("evalscripts/reflectance.js", "tiffs"), ("evalscripts/built_up.js", "reference")):
        assert differing(base, settings(tmp_path, DEMO, SCRIPTS | {name: "//VERSION=3 edited"})) == {stage}
    renamed = changed("imagery.evalscript", "renamed.js")
    assert (
        differing(base, settings(tmp_path, renamed, SCRIPTS | {"renamed.js": SCRIPTS["evalscripts/reflectance.js"]}))
        == set()
    )
    labels = changed("reference.source.evalscript", "renamed.js")
    assert (
        differing(base, settings(tmp_path, labels, SCRIPTS | {"renamed.js": SCRIPTS["evalscripts/built_up.js"]}))
        == set()
    )


@pytest.mark.parametrize(
    "tile",
    [
        Tile(TILE.name, 32633, TILE.cell, 20.0),
        Tile(TILE.name, 32633, TILE.cell, 10.0, (0, 5)),
        Tile(TILE.name, 32633, Bounds(330_000, 5_800_000, 340_000, 5_820_000), 10.0),
        Tile(TILE.name, 32632, TILE.cell, 10.0),
    ],
)
def test_the_cell_of_a_tile_counts_where_pixels_are_bought(tmp_path: Path, tile: Tile) -> None:
    assert differing(settings(tmp_path, DEMO), settings(tmp_path, DEMO, tile=tile)) == {"tiffs", "reference"}


def test_another_project_folder_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert differing(settings(tmp_path / "a", DEMO), settings(tmp_path / "b", DEMO)) == set()


def source_of(folder: Path, source: dict[str, Any]) -> dict[str, Any]:
    """What of a reference's source is in the recipe."""
    project = copy.deepcopy(DEMO)
    project["reference"]["source"] = source
    for name in ("collections.yaml", "labels.gpkg"):
        for place in ("sentinel-hub", "input-data"):
            (folder / place).mkdir(exist_ok=True)
            (folder / place / name).touch()
    loaded = LoadedProject(
        project=Project.model_validate(project), file=folder / "p.yaml", project_folder=str(folder), evalscripts=SCRIPTS
    )
    [stage] = tile_walk(loaded).selected(["reference"])
    found: dict[str, Any] = stage.settings(TILE)["reference"]["source"]
    return found


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("collection", ["kind", "collection", "time_interval"]),
        ("vector", ["kind", "file", "layer", "column", "value"]),
        ("raster", ["kind", "file", "band"]),
    ],
)
def test_a_key_that_a_later_version_brought_is_no_reason_to_make_or_buy_labels_again(
    tmp_path: Path, kind: str, keys: list[str]
) -> None:
    # These are the keys of the first version: labels that it made or bought must stay up to date.
    source = DEMO["reference"]["source"] if kind == "collection" else {"kind": kind, "file": "labels.gpkg"}
    assert list(source_of(tmp_path, source)) == keys


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("vector", "all_touched", True),
        ("vector", "order_by", "rank"),
        ("raster", "resampling", "mode"),
        ("points", "weight", "w"),
        ("points", "date", "day"),
        ("points", "column", "other"),
    ],
)
def test_what_a_later_key_says_counts(tmp_path: Path, kind: str, key: str, value: Any) -> None:
    plain = {"kind": kind, "file": "labels.gpkg", **({"id": "i", "column": "c"} if kind == "points" else {})}
    said = source_of(tmp_path, {**plain, key: value})
    assert said[key] == value
    assert said != source_of(tmp_path, plain)


def test_the_collections_of_a_reference_count_with_their_intervals(tmp_path: Path) -> None:
    one = {**DEMO["reference"]["source"]["collection"], "id": "a"}
    source = {"kind": "collection", "evalscript": "evalscripts/built_up.js", "collections": [one, {**one, "id": "b"}]}
    said = source_of(tmp_path, source)
    source["collections"][1]["time_interval"] = ["2018-01-01", "2018-12-31"]
    other = source_of(tmp_path, source)
    assert said["collections"][1]["time_interval"] is None
    assert other["collections"][1]["time_interval"] == ["2018-01-01", "2018-12-31"]


def test_how_blocks_would_be_drawn_does_not_count_for_points(tmp_path: Path) -> None:
    (tmp_path / "input-data").mkdir()
    (tmp_path / "input-data/p.gpkg").touch()
    source = {"kind": "points", "file": "p.gpkg", "id": "i", "column": "c"}
    base = changed("reference.source", source) | {"sampling": {}}
    assert differing(settings(tmp_path, base), settings(tmp_path, base | {"sampling": {"seed": 7}})) == set()
