"""The check `offset`: what can't hold Sentinel-2's offset of 1000 is not judged, and said not to be."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from eo_assets.assets.offset_check import offset_of_predictions, offset_of_training
from eo_assets.project_file import load_project
from eo_assets.stages.build import tile_store

APART = {"before": {"B04": 300.0, "B08": 400.0}, "after": {"B04": 1300.0, "B08": 1400.0}}
S2, LANDSAT = (
    {"collection": "sentinel-2-l1c", "service": "local", "harmonize_values": True},
    {"collection": "landsat-ot-l2", "service": "local"},
)


def checks(folder: Path, dark: Any = APART, **changes: Any) -> tuple[dg.AssetCheckResult, dg.AssetCheckResult]:
    """Both checks of a project whose one EOPatch has these dark pixels."""
    said = {"extends": "demo", "name": "offsets", "storage": {"project_folder": "."}, **changes}
    (folder / "offsets.yaml").write_text(yaml.safe_dump(said))
    loaded = load_project(folder / "offsets.yaml", inspect_script=None, environment={}, working_folder=folder)
    (folder / "sentinel-hub").mkdir()
    (folder / "sentinel-hub/collections.yaml").write_text("collections: {}\n")
    store = tile_store(loaded)
    with store.attempt("eopatches", "tile") as attempt:
        store.commit("eopatches", "tile", attempt, "recipe", numbers={"dark": dark})
    return offset_of_predictions(loaded, store), offset_of_training(loaded, store, {"tile"})


def test_an_offset_of_sentinel2_is_told(tmp_path: Path) -> None:
    for check in checks(tmp_path):
        assert not check.passed and "dark pixels differ by +1000" in str(check.description)


@pytest.mark.parametrize(
    ("collections", "others"),
    [([LANDSAT], "landsat-ot-l2"), ([S2 | {"id": "a"}, LANDSAT | {"id": "b"}], "landsat-ot-l2")],
    ids=["alone", "beside Sentinel-2"],
)
def test_of_another_sensor_a_dark_landscape_is_no_offset(tmp_path: Path, collections: Any, others: str) -> None:
    for check in checks(tmp_path, imagery={"collections": collections}):
        assert check.passed and "dark_pixels" not in check.metadata
        assert check.description == (
            f"not judged: imagery.collections has {others}, which never had the offset, and bands don't say where they "
            "are from"
        )


def test_other_digital_numbers_hold_no_offset_of_1000(tmp_path: Path) -> None:
    for check in checks(tmp_path, eopatches={"data": {"BANDS": {"factor": 2.75e-5}}}):
        assert check.passed
        assert check.description == "not judged: no feature of eopatches.data has the factor 0.0001 of reflectance"


def test_bands_of_another_factor_are_left_out(tmp_path: Path) -> None:
    """They would be three to two."""
    same, others = {"B04": 300.0, "B08": 400.0}, ("B01", "B02", "B05")
    dark = {side: same | dict.fromkeys(others, value) for side, value in (("before", 10.0), ("after", 2010.0))}
    data = {"BANDS": {"from": ["B03", "B04", "B08", "B11"]}, "OTHERS": {"from": list(others), "factor": 0.004}}
    for check in checks(tmp_path, dark, eopatches={"data": data}):
        assert check.passed and "+0 in the median of 2 bands" in str(check.description)
        assert "B01" not in str(check.metadata["dark_pixels"].value)
