"""Rounds of both sides, A B A B, and the comparison of what they made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eo_assets.definitions import open_project
from eo_assets.stages.build import tile_store
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from tests.benchmarks.peer import runs
from tests.benchmarks.peer.compare import Equality, Outputs, compare
from tests.benchmarks.peer.eogrow import FOLDERS, STRUCTURE, EoGrow
from tests.benchmarks.peer.generate import generate
from tests.benchmarks.peer.given_model import give, take_trained
from tests.benchmarks.peer.home import Home
from tests.benchmarks.peer.measure import emptied
from tests.benchmarks.peer.ours import Ours
from tests.benchmarks.peer.plain_side import Plain
from tests.benchmarks.peer.runs import EVERY_PIXEL, EVERYTHING, MODEL, RAY, WALK, Conditions, Row
from tests.benchmarks.peer.scene import Scene


def model_parameters(trees: int = 400, leaves: int = 200) -> dict[str, int | float | bool]:
    """LightGBM's, of both sides: those of eo-grow's example, with threads for this machine, and made repeatable."""
    return {
        "n_estimators": trees, "num_leaves": leaves, "learning_rate": 0.01, "colsample_bytree": 0.66,
        "n_jobs": os.cpu_count() or 1, "seed": 42, "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip


@dataclass(frozen=True)
class Peers:
    """The interpreters of what is compared with; None: it is left out."""

    eogrow: Path | None = None
    plain: Path | None = None


@dataclass
class Bench:
    """Everything of one scene in one folder, both projects in a `bucket` (s3://name, served from `served`) if told."""

    scene: Scene
    folder: Path
    parameters: Mapping[str, int | float | bool]
    samples: int
    peers: Peers
    bucket: str | None = None
    served: Path | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = generate(self.scene, self.folder / "scene")
        self.ours = Ours(self.scene, self.files, self._home("ours"), self.parameters, self.samples)
        self.trained, self.given = self.folder / "trained", self.folder / "given"
        cold = [self.files.folder, *([self.served] if self.served else [])]
        self.conditions = Conditions(os.cpu_count() or 1, self.folder / "log.txt", cold)
        self.conditions.log.write_text("")

    def run(self, rounds: int) -> tuple[list[Row], list[Equality]]:
        """The rows of all rounds, and what was compared after the last."""
        rows: list[Row] = []
        for number in range(rounds):
            if self.peers.eogrow is not None:
                rows += self._eogrow_round(rows, first=number == 0)
            rows += self._our_round(first=number == 0)
            if self.peers.plain is not None:
                rows += runs.plain_walk(self._plain(), self.conditions)
        compared, more = self._compared()
        return rows + more, compared

    def walks(self, rounds: int, around: AbstractContextManager[Any] | None = None) -> list[Row]:
        """Rows of our walk alone, with the model of a run of everything, which is made unless it is there."""
        if not self.given.exists():
            runs.our_everything(self.ours, self.conditions)
            self._give_own()
        return [row for _ in range(rounds) for row in runs.our_walk(self.ours, self.conditions, self.given, around)]

    def _home(self, name: str) -> Home:
        return Home(self.folder / name, self.bucket)

    def _eogrow(self) -> EoGrow:
        assert self.peers.eogrow is not None
        home = self._home("eogrow")
        return EoGrow(self.scene, self.files, home, self.peers.eogrow, self.parameters, self.samples)

    def _plain(self) -> Plain:
        assert self.peers.plain is not None
        folder, cpus = self.folder / "plain", self.conditions.cpus
        return Plain(self.scene, self.files, folder, self.peers.plain, self.given, self.samples, cpus)

    def _eogrow_round(self, before: list[Row], *, first: bool) -> list[Row]:
        """With the sums that are set beside one command of ours. Training is done once, its costs are in every sum."""
        eogrow = self._eogrow()
        model = None if first else self.trained / eogrow.model.name
        rows = runs.eogrow_round(eogrow, self.conditions, model)
        for stage in ("model", "training_data", "maps"):
            eogrow.home.fetch(STRUCTURE[FOLDERS[stage]])
        if first:
            take_trained(eogrow, self.trained)
            self.ours.prepare()
            give(self.trained, self.ours, self.given)
        training = [row for row in (*before, *rows) if (row.side, row.stage) == ("eogrow", MODEL)]
        stages = [row for row in rows if row.stage not in (RAY, MODEL)]
        everything = [*(row for row in rows if row.stage != MODEL), *training]
        return [*rows, runs.added(WALK, stages), runs.added(EVERYTHING, everything)]

    def _our_round(self, *, first: bool) -> list[Row]:
        """The walk is last: its outputs are compared."""
        rows = runs.our_everything(self.ours, self.conditions)
        if self.peers.eogrow is None and first:
            self._give_own()
        rows += runs.our_stages(self.ours, self.conditions, self.given, train=first)
        return rows + runs.our_walk(self.ours, self.conditions, self.given)

    def _give_own(self) -> None:
        """Where nobody else trains: the model of the run of everything."""
        store = tile_store(open_project(str(self.ours.training)))
        record = store.live_record("model", "model")
        emptied(self.given)
        for name in (MODEL_FILE, SIGNATURE_FILE):
            shutil.copyfile(store.intact(record) / name, self.given / name)

    def _compared(self) -> tuple[list[Equality], list[Row]]:
        """What is equal, and the row of the walk that leaves no pixel out: its outputs are compared with eo-grow's."""
        found: list[Equality] = []
        if self.peers.plain is not None and self.bucket is None:
            found.append(self._plain().compared(Outputs(self.ours)))
        if self.peers.eogrow is None:
            return found, []
        switched = replace(self.ours, home=self._home("ours-without-mask"), masked=False)
        rows = runs.our_walk(switched, self.conditions, self.given)
        switched.home.fetch("maps/")
        found = compare(self._eogrow(), self.ours, switched, self.trained, self.conditions.cpus) + found
        return found, [replace(row, stage=EVERY_PIXEL) for row in rows]
