"""What the demo really stores beside what `plan` says it would, and the demo with pixels that are not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eo_assets.assets.storage_estimate import storage_of
from resources.object_store import Listed

pytestmark = pytest.mark.demo

COVERED = 1536 * 768 / 4_000_000
"""The share of the tiles' pixels that the scene covers; an estimate takes them for covered."""

FACTOR = 1.25
RETENTION = "{tiffs: {until: features}, eopatches: {until: features}}"


def stored(demo: Any, stage: str) -> list[Listed]:
    """The files of a stage's live outputs, and of a map that is published beside them."""
    store = demo.store.store
    attempts = [found for record in demo.store.records(stage).values() for found in store.under(record.attempt)]
    return attempts + (store.matching("maps/*.tiff") if stage == "maps" else [])


def test_a_plan_counts_the_objects_that_are_there_and_their_bytes(demo: Any) -> None:
    for stage in storage_of(demo.loaded, demo.tiles).stages:
        files = stored(demo, stage.stage)
        assert len(files) == stage.objects, stage.stage
        assert len(demo.store.records(stage.stage)) == stage.records
        share = 1.0 if stage.stage in ("samples", "training_data") else COVERED
        found, estimated = sum(file.size for file in files), stage.bytes * share
        assert estimated / FACTOR < found < estimated * FACTOR, (stage.stage, found, estimated)


def test_a_demo_that_keeps_no_imagery_is_up_to_date_and_tells_what_a_new_index_costs(
    copied: Callable[..., Any],
) -> None:
    file = copied().loaded.file
    kept = file.read_text()
    file.write_text(kept.replace("storage: {", f"storage: {{retention: {RETENTION}, "))
    demo = copied()
    before = demo.size("tiffs", "data")
    assert [result.failure for result in demo.run() if not result.success] == []
    assert demo.size("tiffs", "data") < 0.05 * before
    assert demo.run() == [], "a second run launches nothing"
    changed = copied("features: {indices: {NDVI: [B08, B04], NDMI: [B8A, B11]}}\n")
    told = [result.failure for result in changed.run("features") if not result.success]
    assert len(told) == 1
    assert "features of 33UUU_3_7 needs pixels that were bought and are gone: tiffs (retired on" in told[0]
    assert "processing units for tiffs (batch, at least 100 a request)" in told[0]
    assert "run it with --rebuy 33UUU_3_7: that quotes first" in told[0]
