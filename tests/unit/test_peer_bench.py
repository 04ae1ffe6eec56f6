"""The parts of `make bench` that decide what it says: scene, measuring, the given model, ratios and the document."""

import json
import os
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import rasterio

from tests.benchmarks.peer import measure
from tests.benchmarks.peer.compare import same
from tests.benchmarks.peer.document import put_section
from tests.benchmarks.peer.generate import generate
from tests.benchmarks.peer.given_model import WIDTH, our_column, renumbered
from tests.benchmarks.peer.measure import Processes, Usage, measured, space_of
from tests.benchmarks.peer.runs import EVERYTHING, WALK, Row, added
from tests.benchmarks.peer.scene import BANDS, MASK, Scene, SceneFiles, scene_tiles
from tests.benchmarks.peer.table import figures, markdown, medians, ratios

SMALL = Scene(tiles=3, dates=2, cell_px=40, buffer_px=8, invalid=0.4, cloud=0.2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SceneFiles:
    return generate(SMALL, tmp_path_factory.mktemp("scene") / "scene", workers=1)


def read(files: SceneFiles, tile: str, name: str) -> np.ndarray:
    with rasterio.open(files.tiffs / tile / f"{name}.tif") as tiff:
        return tiff.read()


def test_tiles_lie_in_two_zones_and_are_named_as_eo_grow_names_them() -> None:
    tiles = scene_tiles(SMALL)
    assert [tile.epsg for tile in tiles] == [32631, 32631, 32632]
    assert [tile.name for tile in tiles] == [
        "eopatch-id-0-col-0-row-0",
        "eopatch-id-1-col-1-row-0",
        "eopatch-id-2-col-0-row-0",
    ]
    assert len(scene_tiles(replace(SMALL, tiles=1))) == 1


def test_a_scene_is_known_by_everything_that_makes_it() -> None:
    others = [replace(SMALL, noisy=True), replace(SMALL, invalid=0.1), replace(SMALL, seed=1), SMALL]
    assert all(one.key != other.key for one, other in combinations(others, 2))


def test_neighbours_agree_on_the_pixels_that_they_share(files: SceneFiles) -> None:
    left, right = (tile.name for tile in scene_tiles(SMALL)[:2])
    shared = 2 * SMALL.buffer_px
    for name in (BANDS[3], MASK):
        assert np.array_equal(read(files, left, name)[..., -shared:], read(files, right, name)[..., :shared])


def test_what_is_not_seen_is_zero_and_as_much_as_was_asked_for(files: SceneFiles) -> None:
    name = scene_tiles(SMALL)[2].name  # alone in its zone
    seen = read(files, name, MASK) > 0
    assert np.array_equal(read(files, name, BANDS[0]) > 0, seen)
    assert 0.4 <= 1 - seen.any(axis=0).mean() < 0.6
    userdata = json.loads((files.tiffs / name / "userdata.json").read_text())
    assert userdata["dates"] == [orbit["tiles"][0]["date"] for orbit in userdata["orbits"]]


@pytest.fixture(params=["counted", "sampled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a control group where one can be made, and without."""
    if request.param == "sampled":
        monkeypatch.setattr(measure, "_control_group", lambda: None)


@pytest.mark.usefixtures("way")
def test_a_child_that_leaves_its_parent_is_measured(tmp_path: Path) -> None:
    """As Ray's processes do: a session of their own, no parent, and they outlive the command."""
    done = tmp_path / "done"
    work = (
        "import time, pathlib; held = bytearray(90_000_000)\nwhile time.process_time() < 1: pass\n"
        f"pathlib.Path({str(done)!r}).touch(); time.sleep(60)"
    )
    leave = (
        "import pathlib, subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-c', {work!r}], start_new_session=True)\n"
        f"while not pathlib.Path({str(done)!r}).exists(): time.sleep(0.3)"
    )
    with Processes.watched() as processes:
        usage = measured(processes, [sys.executable, "-c", leave], os.environ, tmp_path / "log", tmp_path)
    assert usage.cpu_s > 0.8
    assert usage.largest_mb > 90
    assert usage.tree_mb > 90


@pytest.mark.usefixtures("way")
def test_all_processes_have_ended_behind_the_measuring(tmp_path: Path) -> None:
    with Processes.watched() as processes:
        child = processes.start(["sleep", "600"], os.environ, tmp_path / "log", tmp_path)
    assert child.wait(timeout=5) != 0
    assert not Path(f"/proc/{child.pid}").exists()


def test_space_counts_no_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert space_of(tmp_path) == (5, 1)


def test_the_renumbered_model_says_the_same_of_reordered_columns() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.random((400, 2 * WIDTH), dtype=np.float32)
    theirs[rng.random(theirs.shape) < 0.1] = np.nan
    target = np.nansum(theirs * rng.random(2 * WIDTH), axis=1)
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(theirs, target), 20)
    ours = np.empty_like(theirs)
    for column in range(2 * WIDTH):
        ours[:, our_column(column)] = theirs[:, column]
    text = renumbered(booster.model_to_string(), [f"c{column}" for column in range(2 * WIDTH)])
    assert np.array_equal(lightgbm.Booster(model_str=text).predict(ours), booster.predict(theirs))
    assert not np.array_equal(theirs, ours, equal_nan=True)


def test_the_same_is_the_same_bit_for_bit() -> None:
    nan = float("nan")
    assert same(np.array([1.0, nan, nan]), np.array([1.0, nan, 2.0])).tolist() == [True, True, False]
    assert not same(np.zeros(3), np.zeros(4)).any()


def usage(seconds: float, memory: float = 100.0) -> Usage:
    return Usage(seconds, 2 * seconds, memory, memory, memory, exact=True)


def test_ratios_are_of_medians() -> None:
    rows = [Row("eogrow", stage, usage(30, 400)) for stage in (WALK, EVERYTHING)]
    rows += [Row("ours", stage, usage(seconds)) for seconds in (1, 3, 50) for stage in (WALK, EVERYTHING)]
    found = medians(rows)
    assert ratios(found["eogrow"], found["ours"]) == {
        "ratio_cpu": 10.0, "ratio_wall": 10.0, "ratio_cpu_all": 10.0, "ratio_wall_all": 10.0, "ratio_peak_rss": 4.0,
    }  # fmt: skip


def test_of_rows_in_a_row_seconds_are_added_and_memory_is_the_most() -> None:
    both = added("both", [Row("ours", "a", usage(1, 5), 10, 1), Row("ours", "b", usage(2, 3), 20, 2)])
    assert both == Row("ours", "both", usage(3, 5), 30, 3)


def test_a_section_takes_the_place_of_its_older_one(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    put_section(document, "one", "first \\1", "what")
    put_section(document, "two", "second", "what")
    put_section(document, "one", "third", "what else")
    text = document.read_text()
    assert "first" not in text
    assert text.count("## What the rows are") == 1
    assert text.index("third") < text.index("second")
    assert "what else" in text


def test_a_table_of_our_side_alone_has_no_ratios() -> None:
    said = {"command": "bench", "rounds": 1, "trees": 2, "leaves": 3, "in_bucket": False}
    found = figures(SMALL, [Row("ours", WALK, usage(2))], [], said)
    assert "ratio_cpu" not in found
    assert "| tile stages and maps | - / 2.0 |" in markdown(found)
    assert json.loads(json.dumps(found, allow_nan=False))["stages"][WALK]["eogrow"] is None
