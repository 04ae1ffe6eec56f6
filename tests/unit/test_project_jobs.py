"""The jobs of the UI: a project with another's model has none that buys labels."""

from pathlib import Path

import yaml

from eo_assets.definitions import build_definitions
from eo_assets.project_file import load_project
from jobs.project_jobs import LAUNCHES


def selected(folder: Path, **changes: object) -> dict[str, set[str]]:
    """By job of the project, without its name, the assets that it makes."""
    said = {"extends": "demo", "name": "jobs", "storage": {"project_folder": "."}, **changes}
    (folder / "sentinel-hub").mkdir()
    (folder / "sentinel-hub/collections.yaml").write_text("collections: {}\n")
    (folder / "jobs.yaml").write_text(yaml.safe_dump(said))
    loaded = load_project(folder / "jobs.yaml", inspect_script=None, environment={}, working_folder=folder)
    definitions = build_definitions([loaded])
    return {
        name: {key.path[-1] for key in definitions.resolve_job_def(f"jobs_{name}").asset_layer.selected_asset_keys}
        for name in (*LAUNCHES, "plan")
    }


def test_every_launch_is_a_job(tmp_path: Path) -> None:
    launches = {name: set(assets) for name, assets in LAUNCHES.items()}
    assert selected(tmp_path) == {**launches, "plan": launches["area"]}


def test_with_the_model_of_another_no_job_buys_labels_or_trains(tmp_path: Path) -> None:
    found = selected(tmp_path, model={"source": "models/old/model.txt"})
    assert found["tiles"] == {"tiffs", "eopatches", "features"} and found["train"] == {"model"}
    assert not set().union(*found.values()) & {"reference", "samples", "training_data"}
