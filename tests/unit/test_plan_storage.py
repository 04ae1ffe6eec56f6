"""What `eo-assets plan` says of a bucket: the West Africa example, its figures added up, and with retention."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from eo_assets.assets.storage_estimate import storage_of
from eo_assets.command_plan import Plan, make_plan, print_plan
from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project

RETENTION = {"tiffs": {"until": "eopatches"}, "eopatches": {"until": "features"}, "features": {"days": 90}}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan("west_africa", None)


def keeping(folder: Path, text: str) -> LoadedProject:
    file = folder / "project.yaml"
    file.write_text(f"extends: west_africa\nname: africa\n{text}\n")
    return load_project(file, inspect_script=None, environment={}, working_folder=folder)


def told(plan: Plan) -> str:
    said = io.StringIO()
    print_plan(plan, Console(file=said, width=300, highlight=False), names=False)
    return said.getvalue()


def test_the_example_says_what_a_bucket_takes_and_costs(plan: Plan) -> None:
    lines = told(plan).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("in a bucket"))
    assert lines[first] == (
        "in a bucket, compressed, where imagery covers the tiles: $0.0245 a GB and month, $0.0054 and $0.00043 a "
        "thousand writing and reading requests (storage.prices)"
    )
    stages = [line.split()[0] for line in lines[first + 1 : first + 9]]
    assert stages == [
        "tiffs", "reference", "eopatches", "features", "samples", "training_data", "predictions", "maps",
    ]  # fmt: skip
    assert lines[first + 9].startswith("  at the most ")
    assert " TB" in lines[first + 9]
    assert lines[first + 11].startswith("  requests of a run of the whole graph: $")


def test_the_figures_add_up(plan: Plan) -> None:
    said = plan.as_json(names=False)["storage"]
    json.dumps(said)
    stages = said["stages"].values()
    for figure in ("bytes", "objects", "dollars_a_month"):
        assert said["peak"][figure] == pytest.approx(sum(stage[figure] for stage in stages), abs=1e-3)
    assert said["dollars_of_requests"] == pytest.approx(sum(s["dollars_of_requests"] for s in stages), abs=1e-3)
    assert said["stays"] == said["peak"], "it keeps everything"
    assert said["peak"]["dollars_a_month"] == pytest.approx(said["peak"]["bytes"] / 1e9 * 0.0245, abs=1e-3)


def test_the_example_counted_by_hand(plan: Plan) -> None:
    """854 x 854 pixels, 12 dates: 14 blocks of 64 rows, 1,500 samples in one piece, and 13 tiffs."""
    assert {tile.shape for tile in plan.tiles} == {(854, 854)}
    tiles, said = len(plan.tiles), plan.as_json(names=False)["storage"]["stages"]
    objects = {
        "tiffs": 13 + 1,
        "reference": 14 + 1 + 2,
        "eopatches": 2 * (14 + 1) + 3,
        "features": 14 + 1 + 3,
        "samples": 4 * (1 + 1) + 2,
        "predictions": 14 + 1 + 2,
    }
    assert {stage: said[stage]["objects"] for stage in objects} == {
        stage: tiles * (count + 1) for stage, count in objects.items()
    }
    assert said["maps"]["objects"] == 7 * (3 + 1)
    assert said["tiffs"]["bytes"] == pytest.approx(tiles * 854 * 854 * 13 * 12 * 2 * 0.15, rel=1e-6)
    assert said["features"]["bytes"] == pytest.approx(tiles * 854 * 854 * 3 * 12 * 4 * 0.55, rel=1e-6)
    assert said["samples"]["bytes"] == pytest.approx(tiles * 1500 * (3 * 12 * 4 + 1 + 8) * 0.71, rel=1e-6)


def test_with_retention_the_table_says_what_goes_and_what_stays(tmp_path: Path, plan: Plan) -> None:
    loaded = keeping(tmp_path, f"storage: {{retention: {json.dumps(RETENTION)}, prices: {{gb_month: 1.0}}}}")
    cost = storage_of(loaded, plan.tiles)
    assert {stage.stage: stage.kept for stage in cost.stages if not stage.stays} == {
        "tiffs": "until eopatches",
        "eopatches": "until features",
        "features": "90 days",
    }
    kept = sum(stage.bytes for stage in cost.stages if stage.stage not in RETENTION)
    assert cost.stays.bytes == kept
    assert cost.peak.bytes == sum(stage.bytes for stage in plan.storage.stages)
    assert cost.stays.monthly(cost.prices) == pytest.approx(kept / 1e9)
    lines = told(Plan(loaded, 1.0, plan.tiles, plan.estimate, cost)).splitlines()
    assert any(line.startswith("  tiffs ") and line.endswith(" a month, until eopatches") for line in lines)
    assert any(line.startswith("  stays ") for line in lines)


def test_tiles_of_other_shapes_are_counted_as_they_are(tmp_path: Path) -> None:
    tiles = [Tile(f"t{side}", 32630, Bounds(0, 0, side * 120, side * 120), 120.0) for side in (64, 65, 65)]
    cost = storage_of(keeping(tmp_path, "sampling: {number: 1}"), tiles)
    eopatches = next(stage for stage in cost.stages if stage.stage == "eopatches")
    assert eopatches.objects == (2 * (1 + 1) + 3) + 2 * (2 * (2 + 1) + 3)


def test_a_project_with_anothers_model_stores_no_labels(tmp_path: Path, plan: Plan) -> None:
    loaded = keeping(tmp_path, "model: {source: models/model.txt}")
    stages = [stage.stage for stage in storage_of(loaded, plan.tiles).stages]
    assert stages == ["tiffs", "eopatches", "features", "predictions", "maps"]
