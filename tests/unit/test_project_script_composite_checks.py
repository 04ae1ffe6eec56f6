"""A composite that the evalscript makes: its periods are put into the script, and what does not fit it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_assets.errors import ProjectError
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from eo_assets.project_yaml import SHIPPED
from resources.local_sentinel_hub.evalscript import inspect_script

SERIES = SHIPPED / "landsat_series/project.yaml"
COMPOSITED: dict[str, Any] = {
    "extends": "landsat_series",
    "imagery": {
        "evalscript": "composite.js",
        "composite_in_evalscript": True,
        "tiff_outputs": ["b3", "b4", "b5", "OBSERVATIONS"],
    },
    "eopatches": {
        "data": {"BANDS": {"factor": 0.00005}, "COUNTS": {"from": ["OBSERVATIONS"]}},
        "masks": {"CLEAR": {"from": "OBSERVATIONS", "classes": None, "valid": "bool"}},
    },
    "features": {"composite": {"observations": "COUNTS"}},
}


def load(folder: Path, changes: dict[str, Any] | None = None, script: str | None = None) -> LoadedProject:
    """The shipped series with its composite made in the evalscript, and with what is changed of that."""
    shipped = (SERIES.parent / "evalscripts/composite.js").read_text()
    (folder / "composite.js").write_text(shipped if script is None else script)
    said = {key: value | (changes or {}).get(key, {}) if isinstance(value, dict) else value
            for key, value in COMPOSITED.items()}  # fmt: skip
    (folder / "project.yaml").write_text(yaml.safe_dump(said))
    return load_project(folder / "project.yaml", inspect_script=inspect_script, environment={}, working_folder=folder)


def refusal(folder: Path, changes: dict[str, Any] | None = None, script: str | None = None) -> list[str]:
    """What is wrong, without the names of the files."""
    with pytest.raises(ProjectError) as caught:
        load(folder, changes, script)
    lines = [line.replace(f"{folder}/", "").replace(f"{SERIES}: ", "") for line in str(caught.value).splitlines()]
    return [line.removeprefix("project.yaml: ").removesuffix("; or set the key in project.yaml") for line in lines]


def test_the_periods_are_in_the_text_that_is_sent(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    text = loaded.evalscripts["composite.js"]
    assert text.splitlines()[1].startswith("const PERIODS = [[1207008000000, 1212278400000], [1212278400000, ")
    assert {output.bands for output in loaded.setups["composite.js"].outputs} == {5}


def test_other_periods_are_another_text(tmp_path: Path) -> None:
    one = load(tmp_path).evalscripts["composite.js"]
    features = {"composite": {"observations": "COUNTS", "periods": 6, "gaps": {"max_days": 150}}}
    assert load(tmp_path, {"features": features}).evalscripts["composite.js"] != one


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no composite": (
        {"features": {"composite": "none"}},
        "imagery.composite_in_evalscript: true: there is no composite to make: features.composite is none: give its "
        "method and periods there, or remove this key",
    ),
    "no counts": (
        {"features": {"composite": {"observations": None}}},
        "features.composite.observations: (missing): imagery.composite_in_evalscript needs to know what each frame was "
        "made of: name the data feature of the evalscript's counts of clear observations",
    ),
    "scaled counts": (
        {"eopatches": {"data": {"COUNTS": {"from": ["OBSERVATIONS"], "factor": 0.5}}}},
        "eopatches.data.COUNTS.factor: 0.5: counts are not scaled: remove it",
    ),
    "counts of acquisitions": (
        {"imagery": {"composite_in_evalscript": False}},
        'features.composite.observations: "COUNTS": the frames are acquisitions, whose observations are counted here: '
        "remove it, or set imagery.composite_in_evalscript",
    ),
    "excluded dates": (
        {"imagery": {"exclude": ["2008-06-22"]}},
        'imagery.exclude: ["2008-06-22"]: no acquisition can be taken out of a composite that the evalscript has made: '
        "leave them out in the evalscript (preProcessScenes, or its mask), and remove this key",
    ),
    "a threshold": (
        {"features": {"composite": {"observations": "COUNTS"}, "validity_threshold": 0.5}},
        "features.validity_threshold: 0.5: frames are composites of a whole period, and would be left out as if they "
        "were acquisitions: leave them out in the evalscript (preProcessScenes, or its mask), and remove this key",
    ),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    changes = {key: COMPOSITED[key] | value for key, value in changes.items()}
    assert told in refusal(tmp_path, changes)


def test_a_script_that_ignores_the_periods_is_refused(tmp_path: Path) -> None:
    series = (SERIES.parent / "evalscripts/series.js").read_text() + "// PERIODS\n"
    assert (
        'imagery.evalscript: "composite.js": does not use PERIODS, so it makes no composite: have it composite by '
        "PERIODS, or remove imagery.composite_in_evalscript (docs/evalscripts.md)"
    ) in refusal(tmp_path, script=series)


def test_a_script_that_does_not_begin_with_its_version_is_refused(tmp_path: Path) -> None:
    script = "// a comment first\n" + (SERIES.parent / "evalscripts/composite.js").read_text()
    assert (
        'imagery.evalscript: "composite.js": the first line is not //VERSION=3: begin it with that line: the periods '
        "are put behind it"
    ) in refusal(tmp_path, script=script)


def test_a_script_that_declares_periods_of_its_own_is_refused(tmp_path: Path) -> None:
    script = (SERIES.parent / "evalscripts/composite.js").read_text() + "const PERIODS = [];\n"
    [line] = refusal(tmp_path, script=script)
    assert line.startswith('imagery.evalscript: "composite.js": ') and "PERIODS" in line


def test_an_error_of_the_script_is_told_with_its_own_line(tmp_path: Path) -> None:
    script = "//VERSION=3\nPERIODS;\nfunction setup() {\n  return nothing;\n}\nfunction evaluatePixel() {}\n"
    [line] = [line for line in refusal(tmp_path, script=script) if "nothing" in line]
    assert "line 4" in line
