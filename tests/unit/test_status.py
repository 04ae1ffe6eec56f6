"""What `eo-assets status` tells a person."""

from __future__ import annotations

from eo_assets.status import AssetStatus, reasons_once

GONE = "its pixels are gone; --rebuy a"


def test_a_reason_is_told_once() -> None:
    assets = [
        AssetStatus("tiffs", {"done": 2}),
        AssetStatus("features", {"stale": 2}, {"a": GONE, "b": "another"}),
        AssetStatus("samples", {"stale": 2}, {"a": "waits for features: stale", "b": "waits for features: stale"}),
        AssetStatus("training_data", {"blocked": 1}, {"": f"no samples (a: {GONE}; b: another)"}),
    ]
    assert reasons_once(assets) == [
        "",
        f"a: {GONE} (and 1 more)",
        "a: waits for features: stale (and 1 more)",
        "no samples (a: as told above; b: as told above)",
    ]
