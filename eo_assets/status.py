"""What is done, missing, stale or failed of a project, from its commit records: no pixel is read, nothing is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from eo_assets.assets.area import tiles_of
from eo_assets.assets.shared_wanted import WantedByKey, shared_wanted
from eo_assets.core.graph import needs_of
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError
from eo_assets.project import LoadedProject
from eo_assets.stages.adoption import ADOPTED
from eo_assets.stages.build import TILE_STAGES, tile_store, tile_walk
from eo_assets.stages.retired import bought_and_gone, to_make_again
from eo_assets.stages.stage import TileStage
from eo_assets.stages.tile_states import tile_state
from eo_assets.stages.walk import StageOutcome, Walk
from jobs.graph import ASSETS
from resources.tile_store import TileStore

GOOD = frozenset({"done", "empty", "kept", "retired"})
FINE = frozenset({"done", "retired"})
"""States that need no reason."""

SHORT = frozenset({"", "stale", "missing"})
"""Reasons that may be told again and again."""


@dataclass(frozen=True, slots=True)
class AssetStatus:
    """Partitions of an asset by state, and why those are not done that are not.

    States: `done`, `empty` (a result), `kept` (bought, stale, still used), `retired` (up to date, its pixels gone on
    purpose), `stale`, `missing`, `blocked` (waits for another asset), `failed` (was tried and could not be made).
    `adopted` are those that somebody else made.
    """

    asset: str
    states: Mapping[str, int]
    reasons: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    adopted: int = 0

    @property
    def complete(self) -> bool:
        """Is every partition done, empty or kept?"""
        return bool(self.states) and set(self.states) <= GOOD


def project_status(loaded: LoadedProject) -> list[AssetStatus]:
    """Every asset of the graph, in its order."""
    store = tile_store(loaded)
    tiles = _tile_states(loaded, store)
    shared = shared_wanted(loaded, store)
    found = {asset: _status(store, asset, wanted) for asset, wanted in shared.items()}
    states: dict[str, AssetStatus] = {}
    for asset in ASSETS:
        own = tiles.get(asset) or found[asset]
        # What a tile's stage waits for is known tile by tile.
        made_from = needs_of(asset, trained_here=loaded.project.model.trained_here)
        needs = [need for need in made_from if not (asset in tiles and need in tiles)]
        behind = next((need for need in needs if _unsettled(states[need], shared=need in found)), None)
        states[asset] = own if behind is None else _behind(own, behind)
    return list(states.values())


def reasons_once(assets: Sequence[AssetStatus]) -> list[str]:
    """For a person, of each asset the first reason and how many more there are; what an asset above told is not told
    again."""
    told: list[str] = []
    lines = []
    for asset in assets:
        first = next((f"{tile}: {reason}" if tile else reason for tile, reason in asset.reasons.items()), "")
        for reason in told:
            first = first.replace(reason, "as told above")
        lines.append(first + (f" (and {len(asset.reasons) - 1} more)" if len(asset.reasons) > 1 else ""))
        told += [reason for reason in asset.reasons.values() if reason not in SHORT]
    return lines


def _unsettled(status: AssetStatus, *, shared: bool) -> bool:
    """Is an input still to change? Failed and missing tiles are left out by what spans tiles, stale ones are not."""
    return not status.complete if shared else "stale" in status.states


def _behind(status: AssetStatus, upstream: str) -> AssetStatus:
    """What fits an output that is itself to be made anew is not done."""
    if "done" not in status.states:
        return status
    states = Counter(status.states)
    states["stale"] += states.pop("done")
    return replace(status, states=dict(states), reasons={"": f"{upstream} is to be made first", **status.reasons})


def _tile_states(loaded: LoadedProject, store: TileStore) -> dict[str, AssetStatus]:
    if store.record("tile_grid", "tile_grid") is None:
        return {stage: AssetStatus(stage, {}, {"": "the tile grid has not been made"}) for stage in TILE_STAGES}
    walk, found, tiles = tile_walk(loaded), {}, tiles_of(store)
    by_tile = {tile.name: states for tile, states in walk.survey(TILE_STAGES, tiles)}
    for stage in walk.selected(TILE_STAGES):
        failures = store.failures(stage.name)
        outcomes = {name: states[stage.name] for name, states in by_tile.items()}
        bought = {tile.name: _bought_and_gone(walk, stage, tile, by_tile[tile.name]) for tile in tiles}
        states = {name: tile_state(outcome, failures) for name, outcome in outcomes.items()}
        reasons = {
            name: failures.get(name) or bought[name] or said.reason
            for name, said in outcomes.items()
            if states[name] not in FINE
        }
        records = [outcome.record for outcome in outcomes.values() if outcome.record is not None]
        found[stage.name] = AssetStatus(
            stage.name,
            dict(Counter(states.values())),
            reasons,
            sum(record.numbers.get("bytes", 0) for record in records if not record.retired),
            round(sum(record.numbers.get("seconds", 0.0) for record in records), 1),
            sum(ADOPTED in record.numbers for record in records),
        )
    return found


def _bought_and_gone(walk: Walk, stage: TileStage, tile: Tile, states: Mapping[str, StageOutcome]) -> str:
    """What a run would refuse: a stage that is to be made of pixels that were bought and are gone. "" if none is."""
    if states[stage.name].good:
        return ""
    again = to_make_again(walk.stages, [stage], lambda name: states[name].record if name in states else None)
    return bought_and_gone(stage, tile, [(walk.selected([record.stage])[0], record) for record in again], walk.prices)


def _status(store: TileStore, asset: str, wanted: WantedByKey) -> AssetStatus:
    failures, states, reasons, size = store.failures(asset), Counter[str](), {}, 0
    for key, what in wanted.items():
        record = store.record(asset, key)
        size += 0 if record is None else record.numbers.get("bytes", 0)
        try:
            up_to_date = record is not None and record.recipe == what().recipe
            state = "done" if up_to_date else "failed" if key in failures else "missing" if record is None else "stale"
        except EoAssetsError as error:
            state, reasons[key] = "blocked", str(error)
        states[state] += 1
        if state == "failed":
            reasons[key] = failures[key]
        covered = record.numbers.get("coverage", 1.0) if record is not None and state == "done" else 1.0
        if covered < 1:
            reasons[key] = f"a map with holes: {covered:.1%} of its tiles are there"
    return AssetStatus(asset, dict(states), reasons, size)
