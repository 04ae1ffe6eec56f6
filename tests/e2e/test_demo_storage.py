"""What the demo really stores beside what `plan` says it would, and the demo with pixels that are not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from eo_assets.assets.storage_estimate import storage_of

pytestmark = pytest.mark.demo

COVERED = 1536 * 768 / 4_000_000
"""The share of the tiles' pixels that the scene covers; an estimate takes them for covered."""

FACTOR = 1.25
RETENTION = "{tiffs: {until: features}, eopatches: {until: features}}"


def files_of(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def bytes_of(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def stored(demo: Any, stage: str) -> list[Path]:
    """The files of a stage's live outputs, and of a map that is published beside them."""
    attempts = [demo.store.path(record) for record in demo.store.records(stage).values()]
    published = list((demo.folder / "maps").glob("*.tiff")) if stage == "maps" else []
    return files_of(attempts) + published


def test_a_plan_counts_the_objects_that_are_there_and_their_bytes(demo: Any) -> None:
    for stage in storage_of(demo.loaded, demo.tiles).stages:
        files = stored(demo, stage.stage)
        assert len(files) == stage.objects, stage.stage
        assert len(demo.store.records(stage.stage)) == stage.records
        share = 1.0 if stage.stage in ("samples", "training_data") else COVERED
        found, estimated = bytes_of(files), stage.bytes * share
        assert estimated / FACTOR < found < estimated * FACTOR, (stage.stage, found, estimated)


def test_a_demo_that_keeps_no_imagery_is_up_to_date_and_tells_what_a_new_index_costs(
    copied: Callable[..., Any],
) -> None:
    file = copied().loaded.file
    kept = file.read_text()
    file.write_text(kept.replace("{project_folder: project}", f"{{project_folder: project, retention: {RETENTION}}}"))
    demo = copied()
    before = bytes_of(files_of([demo.folder / "tiffs", demo.folder / "data"]))
    assert [result.failure for result in demo.run() if not result.success] == []
    assert bytes_of(files_of([demo.folder / "tiffs", demo.folder / "data"])) < 0.05 * before
    assert demo.run() == [], "a second run launches nothing"
    changed = copied("features: {indices: {NDVI: [B08, B04], NDMI: [B8A, B11]}}\n")
    told = [result.failure for result in changed.run("features") if not result.success]
    assert len(told) == 1
    assert "features of 33UUU_3_7 needs pixels that were bought and are gone: tiffs (retired on" in told[0]
    assert "processing units for tiffs (batch, at least 100 a request)" in told[0]
    assert "Nothing was bought; --rebuy 33UUU_3_7 quotes and buys them" in told[0]
