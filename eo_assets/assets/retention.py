"""Which pixels the project's retention lets go now, letting them go, and which are wanted again by what spans tiles."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime as dt
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from eo_assets.assets.training_data import sampling_tiles
from eo_assets.core.graph import between, direct_readers
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError, StoreError
from eo_assets.project import LoadedProject
from eo_assets.project_retention import Rule
from eo_assets.stages.build import TILE_STAGES, tile_walk
from eo_assets.stages.walk import StageOutcome
from resources.output_record import OutputRecord
from resources.record_listing import ListedRecords
from resources.retiring import retire
from resources.tile_store import TileStore

_log = logging.getLogger(__name__)

AT_A_TIME = 8
"""Outputs that are retired at once: in a bucket each takes some requests."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """How many outputs went, and how many bytes they had, by stage."""

    outputs: Mapping[str, int]
    bytes: Mapping[str, int]

    def __str__(self) -> str:
        told = (f"{self.outputs[stage]} {stage} ({self.bytes[stage] / 1e6:,.1f} MB)" for stage in self.outputs)
        return ", ".join(told) or "nothing"


def needed_for(stage: str, rule: Rule, *, trained_here: bool) -> tuple[str, ...]:
    """What has to be made of a stage, and up to date, before its pixels may go.

    Up to the asset that `until` names; for `days` whatever reads the stage itself.
    """
    if rule.until is not None:
        return between(stage, rule.until, trained_here=trained_here)
    return direct_readers(stage, trained_here=trained_here)


def retirable(
    loaded: LoadedProject, store: TileStore, tiles: Sequence[Tile], after: Collection[str] | None = None
) -> Iterator[OutputRecord]:
    """The outputs of tiles whose pixels may go now. `after` are the assets that were just made (None: any)."""
    trained_here, now = loaded.project.model.trained_here, dt.datetime.now(dt.UTC)
    said = loaded.project.storage.retention.rules.items()
    rules = {stage: (rule, needed_for(stage, rule, trained_here=trained_here)) for stage, rule in said}
    if after is not None:
        rules = {stage: found for stage, found in rules.items() if set(found[1]) & set(after)}
    if not rules:
        return
    spanning = _Spanning(loaded, store)
    for tile, states in tile_walk(loaded).survey(TILE_STAGES, tiles):
        for stage, (rule, needed) in rules.items():
            record = states[stage].record
            held = states[stage].good and record is not None and not (record.retired or record.empty)
            # Where nothing reads a stage nobody can say that it is not needed any more.
            if (
                held
                and needed
                and _of_age(rule, record, now)
                and all(spanning.done(each, tile, states) for each in needed)
            ):
                yield record


def let_go(
    loaded: LoadedProject, store: TileStore, tiles: Sequence[Tile], after: Collection[str] | None = None
) -> LetGo:
    """Retire what may go now; what somebody makes anew meanwhile stays."""
    found = list(retirable(loaded, store, tiles, after))
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        done = pool.map(lambda record: retire(store, record), found)
        return summed([record for record in done if record is not None])


def summed(records: Sequence[OutputRecord]) -> LetGo:
    """Outputs and bytes by stage."""
    counts, sizes = Counter[str](), Counter[str]()
    for record in records:
        counts[record.stage] += 1
        sizes[record.stage] += int(record.numbers.get("bytes", 0))
    return LetGo(counts, sizes)


def let_go_after(made: Collection[str], loaded: LoadedProject, store: TileStore, tiles: Sequence[Tile]) -> None:
    """At the end of a run: what its assets were the last to need."""
    gone = let_go(loaded, store, tiles, made)
    if gone.outputs:
        _log.info(f"retired, as storage.retention says: {gone}")


def wanted_again(
    loaded: LoadedProject, store: TileStore, tiles: Sequence[Tile], stages: Collection[str]
) -> frozenset[tuple[str, str]]:
    """The retired outputs of some stages that an asset which spans tiles is to be made of once more: (stage, tile).

    A table of training data is made of the samples of all its tiles, a zone's map of all its predictions: when one tile
    changes, all the others' pixels are read again.
    """
    spanning, found = _Spanning(loaded, store), set[tuple[str, str]]()
    gone = _retired(store, "samples", tiles) if "samples" in stages and loaded.project.model.trained_here else set()
    if gone and not spanning.as_wanted("training_data", "training_data"):
        found |= {("samples", tile.name) for tile in sampling_tiles(loaded, store, tiles) if tile.name in gone}
    gone = _retired(store, "predictions", tiles) if "predictions" in stages else set()
    for tile in tiles:
        if tile.name in gone and not spanning.as_wanted("maps", str(tile.epsg)):
            found.add(("predictions", tile.name))
    return frozenset(found)


@dataclass(slots=True)
class _Spanning:
    """Whether assets are up to date that a tile's pixels went into; each that spans tiles is looked at once."""

    loaded: LoadedProject
    store: TileStore
    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def done(self, asset: str, tile: Tile, states: Mapping[str, StageOutcome]) -> bool:
        """Is the asset up to date, as far as this tile is in it?"""
        if asset in states:
            return states[asset].good
        return self.as_wanted(asset, str(tile.epsg) if asset == "maps" else asset)

    def as_wanted(self, asset: str, key: str) -> bool:
        """Is what is committed what it should be now?"""
        if (asset, key) not in self._known:
            self._known[asset, key] = self._compare(asset, key)
        return self._known[asset, key]

    def _compare(self, asset: str, key: str) -> bool:
        from eo_assets.assets.shared_wanted import shared_wanted  # it imports the assets that let go when they are made

        try:
            record = self.store.record(asset, key)
            return record is not None and record.recipe == shared_wanted(self.loaded, self.store)[asset][key]().recipe
        except (EoAssetsError, KeyError):
            return False


def _of_age(rule: Rule, record: OutputRecord, now: dt.datetime) -> bool:
    if rule.days is None:
        return True
    return now - dt.datetime.fromisoformat(record.created) >= dt.timedelta(days=rule.days)


def _retired(store: TileStore, stage: str, tiles: Sequence[Tile]) -> set[str]:
    """The tiles without pixels. One whose record can't be read is told where its state is looked at."""
    records, found = ListedRecords(store), set()
    for tile in tiles:
        with contextlib.suppress(StoreError):
            record = records.record(stage, tile.name)
            found.update([tile.name] if record is not None and record.retired else [])
    return found
