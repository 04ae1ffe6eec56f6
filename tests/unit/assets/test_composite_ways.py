"""A composite made here and in the evalscript: the same units, other bytes, by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from eo_assets.assets.area import project_area, project_grid
from eo_assets.assets.composite_ways import composite_ways
from eo_assets.assets.cost_estimate import stage_layers
from eo_assets.assets.quotes import paid_requests
from eo_assets.command_plan import make_plan, print_plan
from eo_assets.core.cost import RequestKind
from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from eo_assets.project_yaml import SHIPPED
from resources.local_sentinel_hub.evalscript import inspect_script

SCRIPTS = SHIPPED / "landsat_series/evalscripts"
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CLEAR = {"from": "SCL", "valid": [4, 5, 6]}
TILE = Tile("a", 32630, Bounds(0, 0, 102_480, 102_480), 120.0)


def write_project(folder: Path, script: str, *, in_script: bool) -> Path:
    """West Africa from raw Sentinel-2 instead of the mosaic: 12 bands and SCL, 73 acquisitions, a median a month."""
    text = (SCRIPTS / script).read_text().replace('"b3", "b4", "b5"', ", ".join(f'"{band}"' for band in BANDS))
    text = text.replace("{ 0: true, 1: true }; // land, water", "{ 4: true, 5: true, 6: true };")
    (folder / script).write_text(text.replace('"FMASK"', '"SCL"').replace("pixel.FMASK", "pixel.SCL"))
    collection = {"collection": "sentinel-2-l2a", "service": "sentinel_hub", "harmonize_values": True}
    composite = {"method": "median", "periods": "months"}
    said = {
        "extends": "west_africa",
        "imagery": {
            "collections": [collection],
            "evalscript": script,
            "tiff_outputs": [*BANDS, "OBSERVATIONS" if in_script else "SCL"],
            "expected_dates": 73,
            "composite_in_evalscript": in_script,
        },
        "eopatches": {
            # The script delivers twice the median, and no value where it counts no observation.
            "data": {"BANDS": {"factor": 0.00005}, "COUNTS": {"from": ["OBSERVATIONS"]}} if in_script else {},
            "masks": {"QUALITY_MASK": {"from": "OBSERVATIONS", "valid": "bool"} if in_script else CLEAR},
        },
        "features": {"composite": composite | ({"observations": "COUNTS"} if in_script else {})},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(said))
    return folder / "project.yaml"


def load(file: Path) -> LoadedProject:
    return load_project(file, inspect_script=inspect_script, environment={}, working_folder=file.parent)


@pytest.fixture
def raw(tmp_path: Path) -> LoadedProject:
    return load(write_project(tmp_path, "series.js", in_script=False))


@pytest.fixture
def composited(tmp_path: Path) -> LoadedProject:
    return load(write_project(tmp_path, "composite.js", in_script=True))


def test_both_mean_the_same(raw: LoadedProject, composited: LoadedProject) -> None:
    here, there = raw.project.eopatches, composited.project.eopatches
    assert here.data["BANDS"].factor == 2 * there.data["BANDS"].factor
    assert (here.masks["QUALITY_MASK"].valid, there.masks["QUALITY_MASK"].valid) == ((4, 5, 6), "bool")
    assert "IS_CLEAR = { 4: true, 5: true, 6: true };" in composited.evalscripts["composite.js"]


def test_both_are_charged_for_what_is_read(raw: LoadedProject, composited: LoadedProject) -> None:
    assert paid_requests(raw)["tiffs"] == paid_requests(composited)["tiffs"]
    assert paid_requests(raw)["tiffs"][1] == RequestKind(13, 73)


def test_figures_by_hand(raw: LoadedProject, composited: LoadedProject) -> None:
    tiles = [TILE] * 659
    for loaded, chosen in ((raw, [True, False]), (composited, [False, True])):
        here, there = composite_ways(loaded, tiles)
        # 13 bands, 73 dates: 659 x 854 x 854 / 262,144 x 13 / 3 x 73 / 3.
        assert (round(here.processing_units, 1), here.processing_units) == (193_323.6, there.processing_units)
        # 12 bands and SCL of 73 dates, or 12 bands and counts of 12 months, at 16 bits.
        assert (here.frames, here.delivered_bytes) == (73, 659 * 854 * 854 * 13 * 73 * 2)
        assert (there.frames, there.delivered_bytes) == (12, 659 * 854 * 854 * 13 * 12 * 2)
        assert [here.chosen, there.chosen] == chosen


def test_stages_store_what_is_delivered(raw: LoadedProject, composited: LoadedProject) -> None:
    here, there = stage_layers(raw), stage_layers(composited)
    assert (here["tiffs"][0], here["eopatches"][0], here["features"][0]) == (13 * 73, 13 * 73, 3 * 12)
    assert (there["tiffs"][0], there["eopatches"][0], there["features"][0]) == (13 * 12, 13 * 12, 3 * 12)


def test_a_project_without_a_composite_has_no_ways(tmp_path: Path) -> None:
    loaded = load_project("west_africa", inspect_script=inspect_script, environment={}, working_folder=tmp_path)
    assert composite_ways(loaded, project_grid(loaded).tiles(project_area(loaded).geometry)[:2]) == ()
    assert stage_layers(loaded)["features"][0] == 3 * 12


def test_a_plan_shows_both(tmp_path: Path) -> None:
    area = SHIPPED / "west_africa/input-data/aoi.geojson"
    plan, said = make_plan(str(write_project(tmp_path, "composite.js", in_script=True)), area), io.StringIO()
    print_plan(plan, Console(file=said, width=400), names=False)
    assert "a composite is paid for by the acquisitions that are read, wherever it is made" in said.getvalue()
    assert "in 12 frames a tile  <- this project" in said.getvalue()
    ways = plan.as_json(names=False)["composite"]
    assert [way["way"] for way in ways] == ["acquisitions as they are", "composite in the evalscript"]
    assert (
        ways[0]["processing_units"]
        == ways[1]["processing_units"]
        == plan.as_json(names=False)["quote"][0]["processing_units"]
    )
