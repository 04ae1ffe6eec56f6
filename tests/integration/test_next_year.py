"""This year's model for next year's map, in one Dagster instance: nothing of this year changes, and what does not fit
is refused before anything is ordered."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import rasterio
import yaml

from eo_assets.assets.offset_check import OFFSET_CHECK
from eo_assets.command_plan import make_plan
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from eo_assets.status import project_status
from jobs.launches import LaunchResult
from jobs.project_jobs import AREA
from resources.local_sentinel_hub.server import stop
from tests.integration.test_automation import Daemon

NEXT = {"name": "fields_2021", "year": 2021}


@pytest.fixture
def next_year(fields_folder: Path, scene: Any, tmp_path: Path) -> Iterator[Callable[..., LoadedProject]]:
    """`next_year(changes)`: a file of a few lines that extends this year's, with a project folder of its own."""
    for part in ("input-data", "sentinel-hub/scenes"):
        shutil.copytree(fields_folder / part, tmp_path / part)
    shutil.copy(fields_folder / "sentinel-hub/collections.yaml", tmp_path / "sentinel-hub")
    base = str(fields_folder / "project.yaml")

    def write(changes: Mapping[str, Any] | None = None) -> LoadedProject:
        said = {"extends": base, **NEXT, "model": {"source": {"project": base}}, **(changes or {})}
        (tmp_path / "next.yaml").write_text(yaml.safe_dump(said))
        return open_project(str(tmp_path / "next.yaml"))

    yield write
    stop(tmp_path / "sentinel-hub")


def checksums(folder: Path) -> dict[str, str]:
    """Of every file that is no log of a service or of a run."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(folder) for path in found}
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
        if name.parts[0] not in ("sentinel-hub", "logs")
    }


def events(graph: Any, project: str) -> dict[str, tuple[Any, ...]]:
    """What the instance has of a project: of each asset the newest event, and its partitions."""
    keys = [key for key in graph.definitions.resolve_all_asset_keys() if key.path[0] == project]
    assert keys
    return {
        key.path[-1]: (
            [record.storage_id for record in graph.instance.fetch_materializations(key, limit=1).records],
            sorted(graph.instance.get_materialized_partitions(key)),
        )
        for key in keys
    }


def map_of(loaded: LoadedProject) -> np.ndarray[Any, Any]:
    store = tile_store(loaded)
    (record,) = store.records("maps").values()
    (file,) = store.path(record).glob("*.tiff")
    with rasterio.open(file) as tiff:
        return np.asarray(tiff.read())


def checked(instance: dg.DagsterInstance, project: str, asset: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey([project, asset]), OFFSET_CHECK)
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None and record.event.dagster_event is not None
    evaluation: Any = record.event.dagster_event.event_specific_data
    return dg.AssetCheckEvaluation(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        metadata=evaluation.metadata,
        severity=evaluation.severity,
        description=evaluation.description,
    )


def test_next_year_with_this_years_model(fields: Any, fields_folder: Path, next_year: Any, tmp_path: Path) -> None:
    loaded = next_year()
    graph = fields.beside(loaded)
    files, told = checksums(fields_folder), events(graph, "fields")
    assert make_plan(str(loaded.file), None).model_problem is None
    results = graph.run(project=loaded)
    assert [result.failure for result in results if not result.success] == []

    assert all(ordered(tmp_path).values())

    assert checksums(fields_folder) == files
    assert events(graph, "fields") == told
    store = tile_store(loaded)
    model, mine = store.record("model", "model"), fields.store.record("model", "model")
    assert model.numbers["source_project"] == "fields 2020" and model.numbers["source_recipe"] == mine.recipe[:12]
    for name in ("model.txt", "signature.json", "trained_on.json"):
        assert (store.path(model) / name).read_bytes() == (fields.store.path(mine) / name).read_bytes()
    np.testing.assert_array_equal(map_of(loaded), map_of(fields.loaded))  # of the same scene, by the same model
    launched = {asset for result in results for asset in result.launch.assets}
    assert not launched & {"training_data"} and not store.records("samples") and not store.records("training_data")
    states = {status.asset: dict(status.states) for status in project_status(loaded)}
    assert states["model"] == states["maps"] == states["byoc_collection"] == {"done": 1}
    assert states["predictions"] == {"done": 4}
    assert all(result.success for result in graph.run(project=loaded)) and graph.run(project=loaded) == []

    check = checked(graph.instance, "fields_2021", "predictions")
    assert check.passed and check.severity is dg.AssetCheckSeverity.WARN
    assert "this imagery against the model's training tiles: +0" in str(check.description)
    assert "imagery since 2022-01-25 against imagery before: not known" in str(check.description)
    assert "| B04 | " in str(check.metadata["dark_pixels"].value)
    assert checked(graph.instance, "fields", "training_data").passed


def test_what_starts_by_itself_trains_nothing(fields: Any, next_year: Any) -> None:
    """The model is taken up first, tiles follow; nobody asks for labels, samples or training data."""
    loaded = next_year({"name": "fields_2022", "year": 2022})
    daemon = Daemon(loaded, fields.instance)
    daemon.launch(AREA)
    launches = daemon.settle()
    assert {asset for launch in launches for asset in launch} == {
        "tiffs", "eopatches", "features", "model", "predictions", "maps", "byoc_collection",
    }  # fmt: skip
    assert [launch for launch in launches if "model" in launch] == [("model",)]
    np.testing.assert_array_equal(map_of(loaded), map_of(fields.loaded))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "band order": (
        {"features": {"include_bands": ["B08", "B04", "B11"]}},
        "column 1: the model has B04_2020-06-01, the project makes B08 there",
    ),
    "fewer bands": ({"features": {"include_bands": ["B04"]}}, "column 2: the model has B08_2020-06-01, the project"),
    "other dates": (
        {"imagery": {"time_interval": ["2020-06-05", "2020-06-30"]}},
        "column 0: the model has NDVI_2020-06-01, and imagery.time_interval is 2020-06-05 to 2020-06-30; a model "
        "outlives its dates with features.composite alone",
    ),
    "periods": (
        {"features": {"composite": {"method": "median", "periods": 3}}},
        "composite: the model has none, dates as they are; the project has median, gaps none",
    ),
    "offset left in": (
        {"imagery": {"collections": [{"collection": "sentinel-2-l2a", "service": "local", "harmonize_values": False}]}},
        "offset_handling: the model has ('sentinel-2-l2a: harmonised',), the project "
        "('sentinel-2-l2a: as delivered',); let imagery.collections and their harmonize_values say",
    ),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_before_an_order(
    fields: Any, next_year: Any, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    loaded = next_year(changes)
    results: list[LaunchResult] = fields.beside(loaded).run(project=loaded)
    failed = [result for result in results if not result.success]
    assert [result.launch.assets[0] for result in failed] == ["model", "tiffs"]
    for result in failed:
        assert f"does not fit this project: {told}" in result.failure
    assert told in str(make_plan(str(loaded.file), None).model_problem)
    assert_nothing_ordered(tmp_path)


def test_without_this_years_model_nothing_is_ordered(world: Path, fields: Any, next_year: Any, tmp_path: Path) -> None:
    base = str(world / "project.yaml")
    shutil.copy(tmp_path / "sentinel-hub/collections.yaml", world / "sentinel-hub")
    (world / "project.yaml").write_text(yaml.safe_dump({**this_year(next_year), "storage": {"project_folder": "."}}))
    loaded = next_year({"model": {"source": {"project": base}}})
    failed = [result for result in fields.beside(loaded).run("predictions", project=loaded) if not result.success]
    assert [result.launch.assets[0] for result in failed] == ["model", "tiffs"]
    for result in failed:
        assert f"fields 2020 has no model yet; train it first: eo-assets run {base} --only model" in result.failure
    assert_nothing_ordered(tmp_path)
    assert not (world / "models").exists()


def this_year(next_year: Any) -> dict[str, Any]:
    said = yaml.safe_load(Path(next_year().file).read_text())
    found: dict[str, Any] = yaml.safe_load(Path(said["extends"]).read_text())
    return found


def ordered(folder: Path) -> dict[str, list[Path]]:
    """Calls to the service, orders in the books, what is reserved or spent."""
    patterns = ("sentinel-hub/requests.jsonl", "tiffs/2021/_orders/*", "spending/*/*")
    return {pattern: list(folder.glob(pattern)) for pattern in patterns}


def assert_nothing_ordered(folder: Path) -> None:
    assert not any(ordered(folder).values())
