"""What is done, missing, stale or failed of a project, from its commit records: no pixel is read, nothing is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from eo_assets.assets.area import tiles_of
from eo_assets.project import LoadedProject
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from eo_assets.stages.walk import StageOutcome
from jobs.graph import ASSETS
from resources.tile_store import TileStore


@dataclass(frozen=True, slots=True)
class AssetStatus:
    """Partitions of an asset by state (`done`, `empty`, `kept`, `stale`, `missing`, `blocked`), and why."""

    asset: str
    states: Mapping[str, int]
    reasons: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Is every partition done, empty or kept?"""
        return not set(self.states) - {"done", "empty", "kept"} and bool(self.states)


def project_status(loaded: LoadedProject) -> list[AssetStatus]:
    """Every asset of the graph, in its order."""
    store = tile_store(loaded)
    has_grid = store.record("tile_grid", "tile_grid") is not None
    tile_states = _tile_states(loaded, store) if has_grid else {}
    zones = sorted({str(tile.epsg) for tile in tiles_of(store)}) if has_grid else []
    return [
        tile_states.get(asset) or _record_status(store, asset, zones if asset == "maps" else [asset])
        for asset in ASSETS
    ]


def _tile_states(loaded: LoadedProject, store: TileStore) -> dict[str, AssetStatus]:
    walk, tiles = tile_walk(loaded), tiles_of(store)
    found = {}
    for stage in walk.selected(TILE_STAGES):
        outcomes = {tile.name: walk.state(stage, tile) for tile in tiles}
        records = [outcome.record for outcome in outcomes.values() if outcome.record is not None]
        found[stage.name] = AssetStatus(
            stage.name,
            Counter(_state(outcome) for outcome in outcomes.values()),
            {
                name: outcome.reason
                for name, outcome in outcomes.items()
                if _state(outcome) != "done" and outcome.reason
            },
            sum(record.numbers.get("bytes", 0) for record in records),
            round(sum(record.numbers.get("seconds", 0.0) for record in records), 1),
        )
    return found


def _state(outcome: StageOutcome) -> str:
    if outcome.status == "up_to_date":
        return "empty" if outcome.record is not None and outcome.record.empty else "done"
    return outcome.reason if outcome.status == "failed" else outcome.status


def _record_status(store: TileStore, asset: str, keys: list[str]) -> AssetStatus:
    records = {key: store.record(asset, key) for key in keys}
    present = [record for record in records.values() if record is not None]
    states = Counter("done" if record is not None else "missing" for record in records.values())
    if not keys:
        states = Counter({"missing": 1})
    return AssetStatus(asset, states, bytes=sum(record.numbers.get("bytes", 0) for record in present))
