"""Outputs that somebody else made, taken over: checked, written or copied as an attempt of ours, committed as adopted.

Nothing is bought and nothing of the source is changed. What can be checked is checked: grid, files, bands, dates, every
stored byte. That the same evalscript made it can't be: whoever adopts says so, and the record tells so.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eo_assets.core.tile import Tile
from eo_assets.core.time_axis import ascending
from eo_assets.errors import EoAssetsError, StorageRefused, StoreError, TileError
from eo_assets.project import EOPatches, Imagery, PointsReference, Reference
from eo_assets.stages.adopted_arrays import adopted_frames, as_adopted, check_shape, read_rows
from eo_assets.stages.adopted_tiffs import check_delivery, copy_delivery
from eo_assets.stages.adoption_folders import Candidate, NotOfTheGrid, TileIndex
from eo_assets.stages.eopatches import STANDS_FOR, write_eopatch
from eo_assets.stages.reference import write_labels
from eo_assets.stages.stage import StageResult, TileInputs, TileStage
from eo_assets.stages.tiffs import UNTOLD, USERDATA
from eo_assets.stages.walk import StageOutcome, Walk
from resources.eopatch_files import DATA, DATA_TIMELESS, row_blocks, write_header
from resources.foreign_eopatches import ForeignEOPatch
from resources.local_folder import LocalFolder
from resources.output_record import OutputRecord
from resources.tile_store import Attempt

STAGES = ("tiffs", "eopatches", "reference")
"""What can be adopted: everything else is made of these and costs nothing."""

ADOPTED = "adopted"
"""The number of a record that says which folder it was adopted from."""

Ending = Literal["adopted", "kept", "refused", "foreign"]
Write = Callable[[Path], StageResult]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of a folder. `kept`: the tile has an output already; `foreign`: it is of no tile of the project."""

    folder: str
    stage: str
    tile: str
    ending: Ending
    reason: str = ""


@dataclass(frozen=True)
class Adoption:
    """Takes over one folder after another. `dry_run` checks everything and commits nothing.

    `link` gives copied tiffs a second name instead of second bytes, where the disk is the same.
    """

    walk: Walk
    imagery: Imagery
    eopatches: EOPatches
    reference: Reference
    index: TileIndex
    stages: Sequence[str] = STAGES
    link: bool = False
    dry_run: bool = False
    _stages: dict[str, TileStage] = field(init=False)
    _busy: dict[str, threading.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_stages", {stage.name: stage for stage in self.walk.stages})

    def __call__(self, candidate: Candidate) -> list[Adopted]:
        """Take over what a folder holds; a folder that can't be taken is told, never raised."""
        folder, stage = candidate.folder, "tiffs" if candidate.kind == "tiffs" else "eopatches"
        try:
            if candidate.kind == "empty":
                raise TileError(f"{folder} is empty")
            if candidate.kind == "tiffs":
                return (
                    [self._one(folder, stage, self.index.of_tiffs(folder), self._tiffs)] if self._asked(stage) else []
                )
            return self._eopatch(ForeignEOPatch(folder))
        except StorageRefused:  # of the project's disk: the next folder would fare no better
            raise
        except NotOfTheGrid as error:
            return [Adopted(str(folder), stage, "", "foreign", str(error))]
        except (EoAssetsError, OSError) as error:
            return [Adopted(str(folder), stage, "", "refused", str(error))]

    def _asked(self, stage: str) -> bool:
        return stage in self.stages

    def _eopatch(self, eopatch: ForeignEOPatch) -> list[Adopted]:
        """An EOPatch may hold imagery, labels, or both."""
        tile = self.index.of_eopatch(eopatch)
        told, data = str(eopatch.folder), eopatch.names(DATA)
        roles: dict[str, Callable[[Tile, Path], Write]] = {}
        if set(data) & set(self.eopatches.data):
            roles["eopatches"] = self._imagery
        if self.reference.name in eopatch.names(DATA_TIMELESS):
            roles["reference"] = self._labels
        if not roles:
            held = ", ".join((*data, *eopatch.names(DATA_TIMELESS))) or "no data"
            wanted = ", ".join((*self.eopatches.data, self.reference.name))
            reason = (
                f"{told} holds {held}; what can be adopted is {wanted}. Features, samples and predictions are made "
                "again from it, which costs nothing"
            )
            return [Adopted(told, "eopatches", tile.name, "refused", reason)]
        return [self._one(eopatch.folder, stage, tile, roles[stage]) for stage in roles if self._asked(stage)]

    def _one(self, folder: Path, stage: str, tile: Tile, writer: Callable[[Tile, Path], Write]) -> Adopted:
        """Check and commit a tile's output, unless it has one: what is committed is never replaced."""
        try:
            with self._busy.setdefault(tile.name, threading.Lock()):
                if self._has(stage, tile):
                    return Adopted(str(folder), stage, tile.name, "kept", "the project has an output of this tile")
                self._take(stage, tile, folder, writer(tile, folder))
        except StorageRefused:
            raise
        except (EoAssetsError, OSError) as error:
            if isinstance(error, StoreError) and self._has(stage, tile):
                return Adopted(str(folder), stage, tile.name, "kept", str(error))
            return Adopted(str(folder), stage, tile.name, "refused", str(error))
        return Adopted(str(folder), stage, tile.name, "adopted")

    def _has(self, stage: str, tile: Tile) -> bool:
        record = self.walk.store.record(stage, tile.name)
        return record is not None and self.walk.store.there(record)

    def _take(self, stage: str, tile: Tile, folder: Path, write: Write) -> None:
        with self._attempt(stage, tile, folder) as attempt:
            result = write(attempt.folder)
            if self.dry_run:
                return
            if stage == "eopatches" and not self._has("tiffs", tile):
                self._stand_before(tile, folder, ForeignEOPatch(folder), result)
            self._commit(stage, tile, attempt, folder, result)

    @contextlib.contextmanager
    def _attempt(self, stage: str, tile: Tile, folder: Path) -> Iterator[Attempt]:
        """Where the output is written: tiffs that lie in the project's own folder of tiffs stay where they are."""
        store = self.walk.store
        key = self._own_key(folder) if stage == "tiffs" else None
        if key is not None:
            yield Attempt(folder, key, None) if self.dry_run else store.delivered(stage, tile.name, key)
        elif self.dry_run:
            with tempfile.TemporaryDirectory(prefix="adopt-") as scratch:
                yield Attempt(Path(scratch), "", None)
        else:
            with store.attempt(stage, tile.name) as attempt:
                yield attempt

    def _own_key(self, folder: Path) -> str | None:
        """The key of a folder that lies in the project's own folder of tiffs; None for any other."""
        store = self.walk.store
        if not isinstance(store.store, LocalFolder):
            return None
        place = store.store.path(store.folder("tiffs")).resolve()
        if not folder.resolve().is_relative_to(place):
            return None
        return f"{store.folder('tiffs')}/{folder.resolve().relative_to(place).as_posix()}"

    def _commit(self, stage: str, tile: Tile, attempt: Attempt, folder: Path, result: StageResult) -> None:
        state = self._state(stage, tile)
        inputs = {name: self._record(name, tile).digest for name in self._stages[stage].inputs}
        self.walk.store.commit(
            stage,
            tile.name,
            attempt,
            state.recipe,
            numbers={**result.numbers, ADOPTED: str(folder.resolve())},
            inputs=inputs,
            empty=result.empty,
            source=self._stages[stage].source,
        )

    def _state(self, stage: str, tile: Tile) -> StageOutcome:
        state = self.walk.state(self._stages[stage], tile)
        if not state.recipe:
            raise TileError(f"{stage} of {tile.name}: {state.reason}")
        return state

    def _record(self, stage: str, tile: Tile) -> OutputRecord:
        record = self.walk.store.record(stage, tile.name)
        if record is None:
            raise StoreError(f"{stage} of {tile.name} is gone")
        return record

    def _tiffs(self, tile: Tile, folder: Path) -> Write:
        def write(output: Path) -> StageResult:
            if output.resolve() != folder.resolve():
                copy_delivery(folder, output, self.imagery.tiff_outputs, link=self.link)
            try:
                result = self._stages["tiffs"].run(tile, TileInputs({}, {}), output)
                if result.empty is None:
                    check_delivery(output, self.imagery)
            except TileError as error:  # it is told of the source: the copy is gone by then
                raise TileError(str(error).replace(str(output), str(folder))) from None
            numbers = {name: value for name, value in result.numbers.items() if name != "batch_request"}
            return StageResult(numbers, result.empty)

        return write

    def _imagery(self, tile: Tile, folder: Path) -> Write:
        eopatch = ForeignEOPatch(folder)
        order, times = ascending(eopatch.timestamps())
        self._check_dates(tile, folder, [time.date().isoformat() for time in times])
        excluded = self.imagery.excluded_dates(tile.name)
        kept = [(frame, time) for frame, time in zip(order, times) if time.date() not in excluded]

        def write(output: Path) -> StageResult:
            if not kept:
                write_header(output, tile, [])
                excluded_all = "every date is excluded (imagery.exclude)"
                return StageResult({"dates": 0}, empty=excluded_all if times else "the adopted EOPatch has no dates")
            with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=output) as scratch:
                order = [frame for frame, _ in kept]
                frames = adopted_frames(eopatch, self.eopatches, tile, len(times), order, Path(scratch))
                asked = as_adopted(self.eopatches, frames)
                return write_eopatch(output, asked, [time for _, time in kept], frames, tile)

        return write

    def _check_dates(self, tile: Tile, folder: Path, dates: Sequence[str]) -> None:
        """The dates lie in the interval that the project asks for, and are those of the tiffs if there are any."""
        first, last = (day.isoformat() for day in self.imagery.time_interval)
        outside = next((date for date in dates if not first <= date <= last), None)
        if outside is not None:
            raise TileError(f"{folder}: {outside} lies outside imagery.time_interval, {first} to {last}")
        record = self.walk.store.record("tiffs", tile.name)
        known = None if record is None else record.numbers.get("acquisitions", [] if record.empty else None)
        if known is not None and sorted(set(dates)) != known:
            raise TileError(
                f"{folder} has the dates {', '.join(dates) or 'none'}, the project's tiffs of {tile.name} "
                f"{', '.join(known) or 'none'}; it is made from these by a run, which costs nothing"
            )

    def _stand_before(self, tile: Tile, folder: Path, eopatch: ForeignEOPatch, result: StageResult) -> None:
        """Commit tiffs that are not there: the EOPatch made of them is, and nothing has to be bought to go on."""
        times = sorted(eopatch.timestamps())
        numbers: dict[str, Any] = {"dates": len(times), "files": 0, STANDS_FOR: "eopatches"}
        if times:
            numbers |= {"first_date": times[0].isoformat(), "products": UNTOLD, "processing_baselines": UNTOLD}
            numbers["acquisitions"] = sorted({time.date().isoformat() for time in times})
        with self.walk.store.attempt("tiffs", tile.name) as attempt:
            told = {"dates": [f"{time.isoformat()}Z" for time in times], ADOPTED: str(folder.resolve())}
            (attempt.folder / f"{USERDATA}.json").write_text(json.dumps(told))
            empty = result.empty if not times else None
            self._commit("tiffs", tile, attempt, folder, StageResult(numbers, empty))

    def _labels(self, tile: Tile, folder: Path) -> Write:
        if isinstance(self.reference.source, PointsReference):
            raise TileError(f"{folder}: labels of points are made from their file, which costs nothing")
        eopatch, name = ForeignEOPatch(folder), self.reference.name
        told = f"{folder}: {DATA_TIMELESS}/{name}"

        def write(output: Path) -> StageResult:
            with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=output) as scratch:
                array = eopatch.array(DATA_TIMELESS, name, Path(scratch))
                check_shape(array, (*tile.shape, 1), told, tile)
                blocks = ((rows, read_rows(array, (rows,), told)) for rows in row_blocks(tile.shape[0]))
                return write_labels(output, tile, self.reference, blocks)

        return write
