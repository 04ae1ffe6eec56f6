"""What a run tells at its end."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from eo_assets.assets import retention
from eo_assets.assets.model import METRICS_FILE
from eo_assets.command_run import retired_told, summary, unsaid
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from eo_assets.stages.walk import StageOutcome
from jobs.launches import Launch, LaunchResult

HOUR = dt.timedelta(hours=1)
SCORES = {"held_out_blocks": {"model": {"r2": 0.5}, "trivial": {"r2": 0.0}}}


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedProject:
    """The demo with a model and a map that were made just now."""
    monkeypatch.chdir(tmp_path)
    loaded = open_project("demo")
    store = tile_store(loaded)
    for asset, key in (("model", "model"), ("maps", "32633")):
        with store.attempt(asset, key) as attempt:
            (attempt.folder / METRICS_FILE).write_text(json.dumps({"scores": SCORES}))
            store.commit(asset, key, attempt, "r")
    return loaded


def told(loaded: LoadedProject, started: dt.datetime, *, failed: bool) -> list[str]:
    console = Console(record=True, quiet=False, width=400)
    summary(loaded, "demo", started, [LaunchResult(Launch(("tiffs",), ("a",)), "run", not failed)], console)
    return [line for line in console.export_text().splitlines() if line.startswith(("score", "map", "quicklook"))]


@pytest.mark.parametrize(
    ("began", "failed", "marked"),
    [(HOUR, True, True), (HOUR, False, False), (-HOUR, True, False)],
    ids=["before a run in which something failed", "before a run that went well", "in the run itself"],
)
def test_a_score_and_a_map_are_marked_that_were_made(
    demo: LoadedProject, began: dt.timedelta, failed: bool, marked: bool
) -> None:
    lines = told(demo, dt.datetime.now(dt.UTC) + began, failed=failed)
    assert [line.split()[0] for line in lines] == ["score", "map", "quicklook"]
    assert {"of an earlier run" in line for line in lines} == {marked}


def test_reasons_that_were_shown_when_tiles_failed_are_not_told_again() -> None:
    shown = [StageOutcome("features", tile, "failed", f"{tile} is\nbad") for tile in ("a", "b")]
    assert unsaid("3 failed.\n  features/a: a is\nbad\n  tiffs/c: new\n  features/b: b is\nbad", shown) == (
        "3 failed.\n  tiffs/c: new"
    )
    assert (
        unsaid("no samples (a: failed: features: a is\nbad)", shown)
        == "no samples (a: failed: features: as told above)"
    )
    assert unsaid("the budget is used up", shown) == "the budget is used up"


def test_what_goes_by_retention_is_told_on_the_screen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    console = Console(record=True, width=200, file=io.StringIO())
    with retired_told(console):
        logging.getLogger(retention.__name__).info("retired, as storage.retention says: 4 tiffs (4.4 MB)")
    logging.getLogger(retention.__name__).info("not told any more")
    assert console.export_text() == "  retired, as storage.retention says: 4 tiffs (4.4 MB)\n"
