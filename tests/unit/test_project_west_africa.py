"""The seed's example as it ships: its settings, and what its two evalscripts do, run on V8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from py_mini_racer import MiniRacer

from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from resources.local_sentinel_hub.evalscript import inspect_script

OUTPUTS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12", "QM"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    folder = tmp_path_factory.mktemp("work")
    return load_project("west_africa", inspect_script=inspect_script, environment={}, working_folder=folder)


@pytest.fixture
def mosaic(loaded: LoadedProject) -> Iterator[MiniRacer]:
    with MiniRacer() as context:
        context.eval(loaded.evalscripts["evalscripts/monthly_mosaic.js"])
        yield context


def test_the_example_is_there_in_full(loaded: LoadedProject) -> None:
    project = loaded.project
    (collection,) = project.imagery.collections
    assert collection.model_dump(exclude_none=True) == {
        "collection": "byoc-484d8dbb-9e3e-41f2-b96b-35189d3ae37f",
        "service": "sentinel_hub",
        "upsampling": "BILINEAR",
        "downsampling": "BILINEAR",
        "mosaicking_order": "leastRecent",
    }
    assert list(project.imagery.tiff_outputs) == OUTPUTS
    assert (project.year, project.area.resolution, project.area.buffer) == (2020, 120, (10, 10))
    assert dict(project.features.indices) == {"NDVI": ("B08", "B04"), "NDWI": ("B03", "B08"), "NDBI": ("B11", "B08")}
    assert (project.sampling.number, project.sampling.seed) == (1500, 42)
    assert project.model.parameters == {
        "n_estimators": 400,
        "num_leaves": 200,
        "learning_rate": 0.01,
        "colsample_bytree": 0.66,
    }
    assert (project.predictions.clip, project.maps.dtype) == ((0, 100), "uint8")
    assert project.byoc.sensing_time.isoformat() == "2020-12-31T00:00:00+00:00"


def test_its_folder_comes_from_the_environment(tmp_path: Path) -> None:
    environment = {"EO_ASSETS_WEST_AFRICA_FOLDER": "s3://bucket/africa"}
    loaded = load_project("west_africa", inspect_script=None, environment=environment, working_folder=tmp_path)
    assert loaded.project_folder == "s3://bucket/africa"


def test_the_mosaic_script_declares_the_thirteen_outputs(loaded: LoadedProject) -> None:
    setup = inspect_script(loaded.evalscripts["evalscripts/monthly_mosaic.js"])
    assert [output.id for output in setup.outputs] == OUTPUTS
    assert setup.mosaicking == "ORBIT"
    assert {str(output.dtype) for output in setup.outputs} == {"uint16"}


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_mosaic_script_keeps_the_first_scene_of_every_month(mosaic: MiniRacer, newest_first: bool) -> None:
    days = [f"2020-{month:02}-{day:02}" for month in range(1, 13) for day in (1, 11, 21)]
    scenes = [{"dateFrom": f"{day}T00:00:00Z"} for day in sorted(days, reverse=newest_first)]
    call = f"JSON.stringify(preProcessScenes({{scenes: {{orbits: {json.dumps(scenes)}}}}}).scenes.orbits)"
    kept = [scene["dateFrom"][:10] for scene in json.loads(mosaic.eval(call))]
    assert kept == sorted((f"2020-{month:02}-01" for month in range(1, 13)), reverse=newest_first)


def test_the_mosaic_script_takes_a_day_of_two_orbits_once(mosaic: MiniRacer) -> None:
    scenes = [{"dateFrom": f"2020-03-02T{hour}:00:00Z"} for hour in ("12", "10")]
    call = f"preProcessScenes({{scenes: {{orbits: {json.dumps(scenes)}}}}}).scenes.orbits.length"
    assert mosaic.eval(call) == 1


def test_the_mosaic_script_writes_a_frame_a_scene_and_their_dates(mosaic: MiniRacer) -> None:
    scenes = '[{dateFrom: "2020-02-01T00:00:00Z"}, {dateFrom: "2020-01-01T00:00:00Z"}]'
    mosaic.eval("var outputs = {B01: {bands: 1}, QM: {bands: 1}}, metadata = {}")
    mosaic.eval(f"updateOutput(outputs, {{scenes: {scenes}}})")
    mosaic.eval(f"updateOutputMetadata({{orbits: {scenes}}}, {{}}, metadata)")
    assert json.loads(mosaic.eval("JSON.stringify(outputs)")) == {"B01": {"bands": 2}, "QM": {"bands": 2}}
    assert json.loads(mosaic.eval("JSON.stringify(metadata)")) == {"userData": {"dates": ["2020-02-01", "2020-01-01"]}}


def test_the_mosaic_script_passes_values_on_in_the_order_of_the_frames(mosaic: MiniRacer) -> None:
    samples = [{name: 100 * frame + band for band, name in enumerate(OUTPUTS)} for frame in range(2)]
    pixel = json.loads(mosaic.eval(f"JSON.stringify(evaluatePixel({json.dumps(samples)}))"))
    assert pixel == {name: [band, 100 + band] for band, name in enumerate(OUTPUTS)}


def test_no_scene_gives_no_frames(mosaic: MiniRacer) -> None:
    assert json.loads(mosaic.eval("JSON.stringify(evaluatePixel([]))")) == {name: [] for name in OUTPUTS}


@pytest.mark.parametrize(("mask", "value", "expected"), [(1, 0, 0), (1, 73, 73), (0, 0, 255), (0, 73, 255)])
def test_the_reference_script_tells_no_data_from_not_built_up(
    loaded: LoadedProject, mask: int, value: int, expected: int
) -> None:
    with MiniRacer() as context:
        context.eval(loaded.evalscripts["evalscripts/built_up_probability.js"])
        sample = json.dumps({"PROB": value, "dataMask": mask})
        assert list(json.loads(context.eval(f"JSON.stringify(evaluatePixel({sample}))"))) == [expected]
