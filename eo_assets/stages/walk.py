"""One tile through the stages of a run, on a worker: skip what is up to date, make the rest, commit each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from eo_assets.core.cost import RequestKind
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError, StorageRefused, StoreError, TileError, TransientError
from eo_assets.stages.retired import check_free, to_make_again
from eo_assets.stages.stage import SettingsOfInputs, StageResult, TileInputs, TileStage
from resources.eopatch_files import write_header
from resources.output_record import OutputRecord
from resources.record_listing import ListedRecords
from resources.tile_store import Attempt, TileStore
from resources.worker_node import worker_node

Status = Literal["done", "up_to_date", "kept", "failed", "blocked"]
PAID_CODE_VERSION = "1"
"""Stands for the code version in the recipe of what was bought: upgrading the product never buys anything again."""


class Look(Protocol):
    """Where live records are found: in the store, or in a listing of it."""

    def record(self, stage: str, key: str) -> OutputRecord | None:
        """The live record of a stage and a key."""
        ...

    def there(self, record: OutputRecord) -> bool:
        """Does its attempt exist?"""
        ...


GOOD: frozenset[Status] = frozenset({"done", "up_to_date", "kept"})


@dataclass(frozen=True, slots=True)
class TileWork:
    """What a worker is asked for: a tile, the stages to walk it through, and where its imagery was delivered."""

    tile: Tile
    stages: tuple[str, ...]
    delivery: str | None = None


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of one stage of one tile: a few numbers, never pixels.

    `kept` is a paid output that is stale: used as it is until somebody asks to buy it again. `refused`: it failed
    because the store can't be written, as every other would.
    """

    stage: str
    tile: str
    status: Status
    reason: str = ""
    recipe: str = ""
    record: OutputRecord | None = None
    seconds: float = 0.0
    details: str = ""
    refused: bool = False

    @property
    def good(self) -> bool:
        """Is there a committed output to go on with?"""
        return self.status in GOOD


@dataclass(frozen=True, slots=True)
class Walk:
    """The stages of a project in order, over its store. Picklable; called with one TileWork after another.

    `rebuy` names the tiles whose paid outputs are to be bought again if they are stale, or retired and needed.
    `wanted_again` are retired outputs, (stage, tile), that an asset which spans tiles needs. `prices` is what a paid
    stage asks the service for a pixel.
    """

    stages: tuple[TileStage, ...]
    store: TileStore
    rebuy: frozenset[str] = field(default=frozenset())
    wanted_again: frozenset[tuple[str, str]] = field(default=frozenset())
    prices: Mapping[str, RequestKind] = field(default_factory=dict)

    def __call__(self, work: TileWork) -> tuple[StageOutcome, ...]:
        """Walk one tile. A stage that fails blocks the later ones; TransientError and MemoryError are raised."""
        try:
            return self._walked(work)
        finally:
            self.store.forget(work.tile.name)

    def _walked(self, work: TileWork) -> tuple[StageOutcome, ...]:
        known: dict[str, StageOutcome] = {}
        outcomes: list[StageOutcome] = []
        stopped: dict[str, str] = {}
        for stage in self.selected(work.stages):
            started = time.perf_counter()
            outcome = self._blocked(stage, work, stopped) or self._make(stage, work, known, started)
            outcomes.append(outcome)
            if outcome.good:
                known[stage.name] = outcome
            else:
                stopped[stage.name] = outcome.reason
        return tuple(outcomes)

    def selected(self, names: Sequence[str]) -> list[TileStage]:
        """The named stages, in the order of the graph."""
        return [stage for stage in self.stages if stage.name in names]

    def state(self, stage: TileStage, tile: Tile) -> StageOutcome:
        """Is the stage's output of this tile committed and up to date, and everything that it is made from?"""
        return self.states([stage.name], tile)[stage.name]

    def states(self, names: Sequence[str], tile: Tile) -> dict[str, StageOutcome]:
        """The state of several stages of a tile, from records alone, each read once.

        An output behind a stale or failed one is blocked, although it may fit its input as that was: a later stage must
        never mix it with what other tiles made anew. Raises nothing for a bad tile: where records or settings can't be
        read, the outcome is a failure without recipe.
        """
        return self._states(names, tile, self.store)

    def survey(self, names: Sequence[str], tiles: Iterable[Tile]) -> Iterator[tuple[Tile, dict[str, StageOutcome]]]:
        """The same of many tiles, as it is now: from one listing of the records of each stage."""
        records = ListedRecords(self.store)
        for tile in tiles:
            yield tile, self._states(names, tile, records)

    def _states(self, names: Sequence[str], tile: Tile, look: Look) -> dict[str, StageOutcome]:
        known: dict[str, StageOutcome] = {}
        for stage in self.selected(names):
            self._find(stage, tile, known, look)
        return {stage.name: known[stage.name] for stage in self.selected(names)}

    def _find(self, stage: TileStage, tile: Tile, known: dict[str, StageOutcome], look: Look) -> StageOutcome:
        if stage.name not in known:
            for before in self.selected(stage.inputs):
                self._find(before, tile, known, look)
            try:
                known[stage.name] = self._state(stage, tile, known, look)
            except (EoAssetsError, OSError) as error:
                refused = isinstance(error, StorageRefused)
                known[stage.name] = StageOutcome(stage.name, tile.name, "failed", str(error), refused=refused)
        return known[stage.name]

    def _state(self, stage: TileStage, tile: Tile, known: Mapping[str, StageOutcome], look: Look) -> StageOutcome:
        inputs: dict[str, OutputRecord] = {}
        for name in (*stage.inputs, *stage.shared_inputs):
            before = known.get(name)
            if before is not None and not before.good and before.reason != "missing":
                return StageOutcome(stage.name, tile.name, "blocked", f"waits for {name}: {before.reason}")
            record = before.record if before else look.record(name, name if name in stage.shared_inputs else tile.name)
            if record is None:
                return StageOutcome(stage.name, tile.name, "blocked", f"{name} of {tile.name} has not been made")
            inputs[name] = record
        return self._compared(stage, tile, self._recipe(stage, tile, inputs), look)

    def _compared(self, stage: TileStage, tile: Tile, wanted: str, look: Look) -> StageOutcome:
        """What is committed, beside what is wanted. An output whose folder has vanished is missing, and made again.

        One that was retired is as up to date as it was, until its pixels are wanted.
        """
        record = look.record(stage.name, tile.name)
        if record is None or not (record.retired or look.there(record)):
            return StageOutcome(stage.name, tile.name, "failed", "missing", wanted)
        if record.recipe == wanted and record.retired and self._wanted_again(stage, tile, look):
            return StageOutcome(stage.name, tile.name, "failed", "retired", wanted)
        if record.recipe == wanted:
            return StageOutcome(stage.name, tile.name, "up_to_date", record.reason, wanted, record)
        if stage.paid and tile.name not in self.rebuy:
            reason = f"its settings changed since it was bought; kept until it is bought again (--rebuy {tile.name})"
            return StageOutcome(stage.name, tile.name, "kept", reason, wanted, record)
        return StageOutcome(stage.name, tile.name, "failed", "stale", wanted)

    def _wanted_again(self, stage: TileStage, tile: Tile, look: Look) -> bool:
        """Are the pixels of a retired output needed as such? What is paid for only a person may want again."""
        if not stage.paid:
            return (stage.name, tile.name) in self.wanted_again
        return tile.name in self.rebuy and stage.name in self._made_again(tile, look)

    def _made_again(self, tile: Tile, look: Look) -> set[str]:
        """The stages whose retired outputs are needed for what a tile still lacks."""
        states = replace(self, rebuy=frozenset())._states([stage.name for stage in self.stages], tile, look)
        return {record.stage for record in self.remade(states)}

    def remade(
        self, states: Mapping[str, StageOutcome], known: Mapping[str, StageOutcome] | None = None
    ) -> list[OutputRecord]:
        """The retired outputs that have to be made again for the stages of a tile that are not good, inputs first.

        `known` are the states of what these are made from too, where it is not among them.
        """
        lacking = [stage for stage in self.stages if stage.name in states and not states[stage.name].good]
        found = states if known is None else known
        return to_make_again(self.stages, lacking, lambda name: found[name].record if name in found else None)

    def _blocked(self, stage: TileStage, work: TileWork, stopped: Mapping[str, str]) -> StageOutcome | None:
        for name in stage.inputs:
            if name in stopped:
                return StageOutcome(stage.name, work.tile.name, "blocked", f"waits for {name}: {stopped[name]}")
        return None

    def _make(
        self, stage: TileStage, work: TileWork, known: Mapping[str, StageOutcome], started: float
    ) -> StageOutcome:
        """`known` are the stages that this walk has come through: their records are not read again."""
        try:
            state = self._find(stage, work.tile, dict(known), self.store)
            fresh_delivery = stage.name == "tiffs" and work.delivery is not None
            if not state.recipe or (state.good and not fresh_delivery):
                return state
            record = self._commit(stage, work, known, state.recipe)
            seconds = round(time.perf_counter() - started, 3)
            return StageOutcome(stage.name, work.tile.name, "done", record.reason, state.recipe, record, seconds)
        except (TransientError, MemoryError):  # tried again, the latter with more memory
            raise
        except Exception as error:
            if isinstance(error, StoreError) and (state := self.state(stage, work.tile)).good:
                # Another worker walks the same tile, one that was thought lost: its output is as good as ours.
                return state
            told = str(error) if isinstance(error, EoAssetsError) else f"{type(error).__name__}: {error}"
            details, refused = traceback.format_exc(limit=-6), isinstance(error, StorageRefused)
            return StageOutcome(stage.name, work.tile.name, "failed", told, details=details, refused=refused)

    def _commit(self, stage: TileStage, work: TileWork, known: Mapping[str, StageOutcome], wanted: str) -> OutputRecord:
        records = self._with_pixels(stage, work, known, self._input_records(stage, work.tile, known))
        inputs = TileInputs(records, {name: self.store.intact(record) for name, record in records.items()})
        digests = {name: record.digest for name, record in records.items()}
        started = time.perf_counter()
        if stage.name == "tiffs":
            attempt = self._delivered(work)
            result = stage.run(work.tile, inputs, attempt.folder)
            return self._record(stage, work, attempt, wanted, result, digests, started)
        with self.store.attempt(stage.name, work.tile.name) as attempt:
            result = _inherit_empty(inputs, work.tile, attempt.folder) or stage.run(work.tile, inputs, attempt.folder)
            return self._record(stage, work, attempt, wanted, result, digests, started)

    def _with_pixels(
        self,
        stage: TileStage,
        work: TileWork,
        known: Mapping[str, StageOutcome],
        records: dict[str, OutputRecord],
    ) -> dict[str, OutputRecord]:
        """A stage's input records, those that were retired made again first: under the same recipe, so that nothing
        behind them turns stale. What was paid for is never made again here."""
        if not any(record.retired for record in records.values()):
            return records
        again = to_make_again(self.stages, [stage], lambda name: self.store.record(name, work.tile.name))
        check_free(stage, work.tile, [(self.selected([record.stage])[0], record) for record in again], self.prices)
        for record in again:
            # What this walk has come through before is not known as retired any more.
            self._commit(self.selected([record.stage])[0], work, {}, record.recipe)
        fresh = {name: self.store.record(name, record.key) for name, record in records.items()}
        return {name: record for name, record in fresh.items() if record is not None}

    def _record(
        self,
        stage: TileStage,
        work: TileWork,
        attempt: Attempt,
        wanted: str,
        result: StageResult,
        digests: Mapping[str, str],
        started: float,
    ) -> OutputRecord:
        seconds = round(time.perf_counter() - started, 3)
        numbers: dict[str, Any] = {**result.numbers, "seconds": seconds, **worker_node()}
        return self.store.commit(
            stage.name,
            work.tile.name,
            attempt,
            wanted,
            numbers=numbers,
            inputs=digests,
            empty=result.empty,
            source=stage.source,
        )

    def _delivered(self, work: TileWork) -> Attempt:
        if work.delivery is None:
            raise TileError(f"tiffs of {work.tile.name} were not delivered in this run; run it again")
        return self.store.delivered("tiffs", work.tile.name, work.delivery)

    def _input_records(
        self, stage: TileStage, tile: Tile, known: Mapping[str, StageOutcome]
    ) -> dict[str, OutputRecord]:
        keys = {**dict.fromkeys(stage.inputs, tile.name), **{name: name for name in stage.shared_inputs}}
        records = {
            name: known[name].record if name in known else self.store.record(name, key) for name, key in keys.items()
        }
        return {name: record for name, record in records.items() if record is not None}

    def _recipe(self, stage: TileStage, tile: Tile, inputs: Mapping[str, OutputRecord]) -> str:
        digests = {name: record.digest for name, record in inputs.items()}
        settings = dict(stage.settings(tile))
        if isinstance(stage, SettingsOfInputs):
            settings |= stage.input_settings(tile, inputs)
        return recipe(stage.name, settings, PAID_CODE_VERSION if stage.paid else stage.code_version, digests)


def _inherit_empty(inputs: TileInputs, tile: Tile, folder: Path) -> StageResult | None:
    """A stage of an empty tile is empty for the same reason: its EOPatch has a box, no dates and no arrays."""
    for record in inputs.records.values():
        if record.empty:
            write_header(folder, tile, [])
            return StageResult({}, empty=record.reason)
    return None
